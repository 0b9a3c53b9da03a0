"""All that determines a training run, as one frozen value that is kept with its checkpoints."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cdslm_model.errors import ModelError
from cdslm_model.net.config import Config
from cdslm_model.sample.diffusion import Process

__all__ = ["PRECISIONS", "Settings"]

PRECISIONS = ("auto", "float32", "bfloat16")
_FREE = ("valid_every", "save_every", "accumulate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that determines a training run, apart from its data and its length.

    Attributes:
        config: Sizes of the network and the window.
        process: Schedule, target and loss weight.
        batch_size: Windows a step, over all processes.
        accumulate: Pieces that each process makes of its share, for memory's sake.
        lr: Peak learning rate at the base size; each role's follows from the parametrization.
        weight_decay: At the base size.
        warmup_steps: Steps of linear rise.
        decay_share: Share of the run over which the rate falls at its end.
        beta2: AdamW's second.
        ema: Decay of the averaged weights, which generate and are validated.
        clip_norm: Largest norm of the gradient.
        seed: Of initial values, windows, noise and times.
        join_speakers: Whether windows run over adjacent clips of one speaker.
        valid_windows: Held-out windows of the validation loss.
        valid_every: Steps from one validation to the next.
        save_every: Steps from one checkpoint to the next.
        vocoder: Turns log-mels into samples when it generates.
        precision: Of matrix products and attention while it trains: "float32", "bfloat16" (weights, averages and
            moments stay float32), or "auto", bfloat16 on a GPU that has it and float32 elsewhere.
    """

    config: Config
    process: Process = field(default_factory=Process)
    batch_size: int = 16
    accumulate: int = 1
    lr: float = 1e-3
    weight_decay: float = 0.03
    warmup_steps: int = 100
    decay_share: float = 0.2
    beta2: float = 0.95
    ema: float = 0.999
    clip_norm: float = 1.0
    seed: int = 0
    join_speakers: bool = False
    valid_windows: int = 64
    valid_every: int = 250
    save_every: int = 250
    vocoder: str = "griffin-lim"
    precision: str = "auto"

    def check(self, processes: int) -> None:
        """Refuse what cannot be trained.

        Args:
            processes: How many train together.
        """
        for name in ("batch_size", "accumulate", "valid_windows", "valid_every", "save_every"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} = {getattr(self, name)} must be at least 1")
        if self.precision not in PRECISIONS:
            raise ModelError(f"precision = {self.precision!r} is none of {', '.join(PRECISIONS)}")
        if self.batch_size % (processes * self.accumulate):
            raise ModelError(
                f"batch_size = {self.batch_size} does not divide into {processes} processes x {self.accumulate} pieces"
            )
        for name, fits, range_ in (
            ("lr", 0 < self.lr < math.inf, "must be positive"),
            ("clip_norm", 0 < self.clip_norm < math.inf, "must be positive; 1e30 clips nothing"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "must be 0 or more"),
            ("warmup_steps", self.warmup_steps >= 0, "must be 0 or more"),
            ("decay_share", 0 <= self.decay_share <= 1, "lies outside 0..1"),
            ("ema", 0 <= self.ema < 1, "lies outside 0..1; 1 would never learn"),
            ("seed", 0 <= self.seed < 1 << 63, "lies outside 0..2^63 - 1"),
        ):
            if not fits:
                raise ModelError(f"{name} = {getattr(self, name)} {range_}")

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            **dataclasses.asdict(self),
            "config": self.config.as_dict(),
            "process": dataclasses.asdict(self.process),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """Return what JSON gives."""
        config, process = Config.from_dict(values["config"]), Process(**values["process"])
        return cls(**{**values, "config": config, "process": process})

    def differences(self, other: Settings) -> list[str]:
        """Return which settings that move a number differ: "lr 0.001, not 0.002"."""
        mine, others = _flat(self.as_dict()), _flat(other.as_dict())
        return [f"{name} {mine[name]}, not {others[name]}" for name in mine if mine[name] != others[name]]


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value))
        elif name not in _FREE:
            flat[name] = value
    return flat
