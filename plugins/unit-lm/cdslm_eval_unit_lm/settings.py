"""Settings of a run of the unit language model, stored with its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass

from cdslm_model import ModelError, RunSettings

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(RunSettings):
    """Settings of a run; learning rate and weight decay are used as they are at every size.

    Attributes:
        family: "llama" or "gpt2": the transformers architecture.
        size: Layers; width is 128 a layer and heads are of 64, as in the diffusion model.
        units: Clusters of k-means.
        stride: Mel frames that make one unit; not used with an encoder, which has a rate of its own.
        encoder: Folder of a transformers speech encoder; None clusters log-mel frames.
        layer: Layer of the encoder whose output is clustered.
        run_length: Whether a unit that repeats is one token, its duration drawn from a table.
        context_seconds, continuation_seconds: Together, the training window.
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

    def check(self, processes: int = 1) -> None:
        """Check all values; see `RunSettings.check`."""
        RunSettings.check(self, processes)
        self.require_positive("size", "stride")
        if not 2 <= self.units < 2**16:
            raise ModelError(f"units = {self.units}: between 2 and {2**16 - 1} clusters")
        if self.seconds <= 0 or self.context_seconds < 0 or self.continuation_seconds <= 0:
            raise ModelError("the continuation must be longer than 0 s, and the context not negative")

    @property
    def seconds(self) -> float:
        """Seconds of a window."""
        return self.context_seconds + self.continuation_seconds
