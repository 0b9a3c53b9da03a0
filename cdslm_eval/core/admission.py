"""The gate that every clip passes before it is scored, generated from or trained on: levels, and what makes a fault."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cdslm_eval.core.audio import LOUDEST, Samples

__all__ = ["Levels", "fault"]


@dataclass(frozen=True, slots=True)
class Levels:
    """Levels of one clip; they add up over adjacent pieces.

    Attributes:
        count: Samples.
        peak: Largest absolute sample; NaN or infinite where one of them is.
        total: Sum of the samples.
        power: Sum of their squares.
        channel_energy: The same of all channels of the file, divided by their number.
    """

    count: int = 0
    peak: float = 0.0
    total: float = 0.0
    power: float = 0.0
    channel_energy: float = 0.0

    @classmethod
    def of(cls, samples: Samples, channel_energy: float | None = None) -> Levels:
        """Return the levels of mono samples `[samples]`; without `channel_energy`, of a file with one channel."""
        # float32 sums are exact enough for levels, and passes without a copy keep the gate under a fiftieth of a metric
        power = float(np.dot(samples, samples))
        return cls(
            count=len(samples),
            # NaN and infinity propagate into the peak
            peak=float(np.maximum(samples.max(), -samples.min())) if len(samples) else 0.0,
            total=float(samples.sum()),
            power=power,
            channel_energy=power if channel_energy is None else channel_energy,
        )

    def __add__(self, other: Levels) -> Levels:
        peaks = (self.peak, other.peak)
        return Levels(
            self.count + other.count,
            math.nan if any(math.isnan(peak) for peak in peaks) else max(peaks),
            self.total + other.total,
            self.power + other.power,
            self.channel_energy + other.channel_energy,
        )

    @property
    def dc_offset(self) -> float:
        """Mean of the samples; 0 for none."""
        return self.total / self.count if self.count else 0.0

    @property
    def dbfs(self) -> float:
        """RMS level in dBFS; -inf for digital silence or no samples."""
        return 10.0 * math.log10(self.power / self.count) if self.power > 0 else -math.inf

    @property
    def cancelled(self) -> float:
        """Share of the channels' energy, 0..1, that is lost where they are averaged to one."""
        return max(0.0, 1.0 - self.power / self.channel_energy) if self.channel_energy > 0 else 0.0


def fault(peak: float) -> str:
    """Return what is wrong with a clip whatever it is used for, or "": a fault of its maker, so the clip fails.

    Args:
        peak: Its largest absolute sample, NaN or infinite where a sample is.
    """
    if not math.isfinite(peak):
        return "samples that are not finite"
    if peak > LOUDEST:
        return f"samples of up to {peak:.6g}, where full scale is 1; bring them into -1..1"
    return ""
