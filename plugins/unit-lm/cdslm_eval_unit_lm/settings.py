"""Settings of a run of the unit language model, stored with its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass

from cdslm_model import PRECISIONS, ModelError, RunSettings

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(RunSettings):
    """Settings of a run; learning rate and weight decay are those at width 512.

    Attributes:
        family: "llama" or "gpt2": the transformers architecture.
        size: Layers; width is 128 a layer and heads are of 64, as in the diffusion model.
        units: Clusters of k-means.
        stride: Mel frames that make one unit; not used with an encoder, which has a rate of its own.
        encoder: Folder of a transformers speech encoder; None clusters log-mel frames.
        layer: Layer of the encoder whose output is clustered.
        run_length: Whether a unit that repeats is one token, its duration drawn from a table.
        context_seconds, continuation_seconds: Together, the training window.
        parametrization: "mup", which scales initial values, rate and decay with width, or "standard", which does not.
        ema: Largest decay of the averaged weights, which are validated and generate; 0 averages nothing.
        ema_share: Horizon of that average as a share of the steps so far.
        precision: Of matrix products and attention in training: "float32", "bfloat16", or "auto", bfloat16 on a GPU
            that has it.
    """

    family: str = "llama"
    size: int = 2
    units: int = 1000
    stride: int = 2
    encoder: str | None = None
    layer: int = 6
    run_length: bool = False
    context_seconds: float = 10.0
    continuation_seconds: float = 30.0
    # what runs of earlier versions had; the command has other defaults
    parametrization: str = "standard"
    ema: float = 0.0
    ema_share: float = 0.05
    precision: str = "auto"

    def check(self, processes: int = 1) -> None:
        """Check all values; see `RunSettings.check`."""
        RunSettings.check(self, processes)
        self.require_positive("size", "stride")
        if not 2 <= self.units < 2**16:
            raise ModelError(f"units = {self.units}: between 2 and {2**16 - 1} clusters")
        if self.parametrization not in ("mup", "standard"):
            raise ModelError(f"parametrization = {self.parametrization!r} is none of mup, standard")
        if self.precision not in PRECISIONS:
            raise ModelError(f"precision = {self.precision!r} is none of {', '.join(PRECISIONS)}")
        if not 0 <= self.ema < 1:
            raise ModelError(f"ema = {self.ema} lies outside 0..1; 1 would never learn")
        if not 0 < self.ema_share <= 1:
            raise ModelError(f"ema_share = {self.ema_share} lies outside 0..1, or is 0")
        if self.seconds <= 0 or self.context_seconds < 0 or self.continuation_seconds <= 0:
            raise ModelError("the continuation must be longer than 0 s, and the context not negative")

    @property
    def seconds(self) -> float:
        """Seconds of a window."""
        return self.context_seconds + self.continuation_seconds
