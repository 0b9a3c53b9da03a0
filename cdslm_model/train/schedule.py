"""Warm-up, stable, decay: the learning rate over a run, so that one run serves several training lengths."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cdslm_model.errors import ModelError

__all__ = ["WarmupStableDecay"]


@dataclass(frozen=True, slots=True)
class WarmupStableDecay:
    """Learning rate as a share of its peak.

    Attributes:
        steps: Steps of the run.
        warmup: Steps of linear rise.
        decay: Steps of fall, at the end, as 1 - sqrt.

    Source:
        Haegele et al. 2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations", section 3.
    """

    steps: int
    warmup: int
    decay: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ModelError(f"a run of {self.steps} steps: the target is less than one step's worth")

    @property
    def decay_start(self) -> int:
        """First step of the fall: up to here a longer run is the same run."""
        return max(0, self.steps - self.decay)

    def share(self, step: int) -> float:
        """Return the share of the peak at a step (0 is the first), in (0, 1]."""
        rise = min(1.0, (step + 1) / max(1, self.warmup))
        if step < self.decay_start:
            return rise
        fallen = (step - self.decay_start + 1) / (self.steps - self.decay_start + 1)
        return rise * (1.0 - math.sqrt(fallen))
