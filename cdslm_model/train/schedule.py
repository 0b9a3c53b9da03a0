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

    @classmethod
    def plan(cls, steps: int, warmup_steps: int, decay_share: float) -> WarmupStableDecay:
        """Return the schedule of a run.

        Args:
            steps: Steps of the run.
            warmup_steps: Longest warm-up; a tenth of the run is not exceeded.
            decay_share: Share of the run over which the rate falls.
        """
        return cls(steps, min(warmup_steps, max(1, steps // 10)), round(decay_share * steps))

    def shares(self, other: WarmupStableDecay) -> bool:
        """Return whether this run and a longer one are identical up to `decay_start`."""
        return self.decay_start > 0 and self.warmup == other.warmup

    @property
    def decay_start(self) -> int:
        """First step of the fall: up to it a longer run is identical."""
        return max(0, self.steps - self.decay)

    def share(self, step: int) -> float:
        """Return the share of the peak at a step (0 is the first), in (0, 1]."""
        # counted from 1: a first step at rate 0 would be lost
        rise = min(1.0, (step + 1) / max(1, self.warmup))
        if step < self.decay_start:
            return rise
        # reaches 1 only after the last step, which would be lost at rate 0
        fallen = (step - self.decay_start + 1) / (self.steps - self.decay_start + 1)
        return rise * (1.0 - math.sqrt(fallen))
