"""How many clips, of the system and of the reference, would narrow an interval or lower a floor."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Needed", "clips_for_floor", "clips_for_width"]

_MOST = 1e7


@dataclass(frozen=True, slots=True)
class Needed:
    """Clips that a decision needs.

    Attributes:
        more: How many more clips of the system are enough; None where no number of them is.
        reference: How many clips the reference must have; None where the system's are enough.
    """

    more: int | None
    reference: int | None = None

    @property
    def text(self) -> str:
        """The need in words, to be followed by what it is for."""
        if self.reference is None:
            return f"about {self.more} more clips"
        return f"a reference of about {self.reference} clips and about {self.more} more clips of the system"


def clips_for_width(shrink: float, clips: int, reference: int = 0, reference_share: float = 0.0) -> Needed | None:
    """Return the clips that make an interval `shrink` times as wide; None where that is beyond reach.

    The reference is fixed: its part of the variance stays however many clips the system has. Where that part alone is
    too wide, both must grow.

    Args:
        shrink: Wanted width over the present one, 0..1.
        clips: Present clips of the system.
        reference: Present clips of the reference.
        reference_share: Its share of the variance, 0..1; NaN where it is not known, which counts as none.

    Example:
        >>> clips_for_width(0.5, 100).more, clips_for_width(0.5, 100, 40, 0.6)
        (300, Needed(more=300, reference=160))
    """
    share = reference_share if math.isfinite(reference_share) else 0.0
    if not 0 < shrink < math.inf or clips < 2:
        return None
    left = shrink**2 - share
    fits = left > 0
    more = clips * ((1 - share) / left if fits else 1 / shrink**2) - clips
    if more > _MOST:
        return None
    count = max(1, math.ceil(round(more, 6)))
    return Needed(count) if fits else Needed(count, math.ceil(round(reference / shrink**2, 6)))


def clips_for_floor(floor: float, wanted: float, clips: int) -> float:
    """Return how many clips a side bring a floor of n-grams to a wanted one; NaN where that is not known.

    F / (1 - F) falls as one over the clips: at small floors as F does, while at large ones F saturates at 1.

    Args:
        floor, wanted: Divergences between identical sources, 0..1.
        clips: Present clips of the smaller side.

    Example:
        >>> round(clips_for_floor(0.165, 0.05, 60))
        225
    """
    if not 0 < floor < 1 or not clips:
        return math.nan
    return clips * (floor / (1 - floor)) / (wanted / (1 - wanted))
