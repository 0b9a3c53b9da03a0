"""`Track`: one value of one system by position in the clip, its slope, and whether it drifts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cdslm_eval.results.numbers import format_number, format_value

__all__ = ["REAL_SPEECH", "Track", "track_lines", "verdict_of"]


REAL_SPEECH = "real speech"
"""Name of the reference in the place of a system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One value of one system in the windows of its clips.

    Attributes:
        system, metric, identity, name, unit: Whose value it is, and of what.
        window_s: Length of a window in seconds.
        starts_s: Where each window begins in its clip.
        values, lows, highs: The value of each window over clips, with its 95 % interval or bounds; NaN where not known.
        n_scored: Windows behind each value.
        clips: Clips that reach the last window: only these count, so that no window holds other clips than another.
        left_out: Clips that are too short for that.
        change, low, high: Change from the first to the last window by the slope of a straight line, and its interval.
        margin: A change of this size does not count: half the spread between clips (or speakers) in the first window;
            of a divergence, half of its value there.
        verdict: "drifts" (the interval excludes 0 and reaches beyond the margin), "holds" (it lies within the margin),
            "unclear" (more clips are needed), or "" where the slope is not known.
        reason: Why it is not, or "".
    """

    system: str
    metric: str
    identity: str
    name: str
    unit: str = ""
    window_s: float
    starts_s: tuple[float, ...]
    values: tuple[float, ...]
    lows: tuple[float, ...]
    highs: tuple[float, ...]
    n_scored: tuple[int, ...]
    clips: int
    left_out: int = 0
    change: float = math.nan
    low: float = math.nan
    high: float = math.nan
    margin: float = math.nan
    verdict: str = ""
    reason: str = ""

    @property
    def is_real(self) -> bool:
        """Whether these are windows of the reference."""
        return self.system == REAL_SPEECH

    @property
    def slope_per_minute(self) -> float:
        """The slope of the straight line, per minute."""
        return self.change / (self.starts_s[-1] - self.starts_s[0]) * 60 if len(self.starts_s) > 1 else math.nan

    def __str__(self) -> str:
        """Return the change and the verdict in a line."""
        span_s = self.starts_s[-1] - self.starts_s[0] if self.starts_s else 0.0
        unit = f" {self.unit}" if self.unit else ""
        if not self.verdict:
            return f"{self.name} of {self.system}: {self.reason or 'its slope is not known'}"
        return (
            f"{self.name} of {self.system} {self.verdict}: {format_value(self.change, self.low, self.high)}{unit} over "
            f"{span_s:g} s (margin {format_number(self.margin, None)}; {self.clips} clips)"
        )


def verdict_of(low: float, high: float, margin: float) -> str:
    """Return whether a change drifts or holds, from its interval and the margin.

    Example:
        >>> verdict_of(0.5, 0.9, 0.4), verdict_of(-0.1, 0.3, 0.4), verdict_of(-0.1, 0.5, 0.4)
        ('drifts', 'holds', 'unclear')
    """
    if not all(map(math.isfinite, (low, high, margin))):
        return ""
    if -margin <= low and high <= margin:
        return "holds"
    return "drifts" if low > 0 or high < 0 else "unclear"


def track_lines(tracks: Sequence[Track]) -> Iterator[str]:
    """Yield one line per track under a heading, or nothing."""
    if tracks:
        yield f"over time, in windows of {tracks[0].window_s:g} s, from the first to the last:"
        yield from (f"  {track}" for track in tracks)
