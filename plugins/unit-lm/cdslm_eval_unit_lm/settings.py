"""All that determines a run of the unit language model, kept with its checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from cdslm_model.errors import ModelError

__all__ = ["Settings"]

_FREE = ("valid_every", "save_every")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What determines a run, apart from its data and its length.

    Attributes:
        family: "llama" or "gpt2": whose transformer of transformers' is trained.
        size: Layers; width is 128 a layer and heads are of 64, as in the diffusion model.
        units: Clusters of k-means.
        stride: Mel frames that make one unit; not used with an encoder, which has a rate of its own.
        encoder: Folder of a transformers speech encoder; None clusters log-mel frames.
        layer: Layer of the encoder whose output is clustered.
        run_length: Whether a unit that repeats is one token; how long it lasts is drawn from a table.
        context_seconds, continuation_seconds: Together, the window that is trained on.
        join_speakers: Whether windows run over adjacent clips of one speaker.
        batch_size: Windows a step.
        lr: Peak learning rate.
        weight_decay: Of matrices.
        warmup_steps: Steps of linear rise.
        decay_share: Share of the run over which the rate falls at its end.
        clip_norm: Largest norm of the gradient.
        seed: Of clusters, initial values and windows.
        valid_windows: Held-out windows of the validation loss.
        valid_every: Steps from one validation to the next.
        save_every: Steps from one checkpoint to the next.
        vocoder: Turns log-mels into samples.

    Raises:
        ModelError: A value cannot be.
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
    join_speakers: bool = False
    batch_size: int = 16
    lr: float = 1e-3
    weight_decay: float = 0.03
    warmup_steps: int = 100
    decay_share: float = 0.2
    clip_norm: float = 1.0
    seed: int = 0
    valid_windows: int = 64
    valid_every: int = 250
    save_every: int = 250
    vocoder: str = "griffin-lim"

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for name in ("size", "stride", "batch_size", "valid_windows", "valid_every", "save_every"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} = {getattr(self, name)} must be at least 1")
        if not 2 <= self.units < 2**16:
            raise ModelError(f"units = {self.units}: between 2 and {2**16 - 1} clusters")
        if self.seconds <= 0 or self.context_seconds < 0 or self.continuation_seconds <= 0:
            raise ModelError("the continuation must last, and the context not be negative")
        if not (self.lr > 0 and self.clip_norm > 0 and 0 <= self.decay_share <= 1):
            raise ModelError("lr and clip_norm must be positive, and decay_share in 0..1")

    @property
    def seconds(self) -> float:
        """Seconds of a window."""
        return self.context_seconds + self.continuation_seconds

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return what `as_dict` gave."""
        return cls(**values)

    def differences(self, other: Settings) -> list[str]:
        """Return which settings that move a number differ: "lr 0.001, not 0.002"."""
        mine, others = self.as_dict(), other.as_dict()
        return [
            f"{name} {mine[name]}, not {others[name]}"
            for name in mine
            if mine[name] != others[name] and name not in _FREE
        ]
