"""Which system is better, and which columns tell it: corrected values where trusted, held-out bounds otherwise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cdslm_eval.results.score_result import Estimate

__all__ = ["Shown", "rank_key", "ranked", "shown_columns"]

# a distance with a singular covariance has no bound to fall back on: its corrected value is the best there is
_CORRECTED = frozenset({"ok", "sample_limited", "rank_deficient"})


@dataclass(frozen=True, slots=True)
class Shown:
    """Which columns of a table of one value have anything in them: `trust` stands for the corrected value too."""

    floor: bool
    held_out: bool
    trust: bool


def shown_columns(estimates: Sequence[Estimate]) -> Shown:
    """Return which columns to show for the estimates of one name."""
    return Shown(
        floor=any(one.trust or math.isfinite(one.floor) for one in estimates),
        held_out=any(one.interval == "bounds" for one in estimates),
        trust=any(one.trust for one in estimates),
    )


def rank_key(one: Estimate) -> float:
    """Return what a system is ranked by: `corrected` where trusted, else the held-out bound, else the value."""
    if one.trust in _CORRECTED and math.isfinite(one.corrected):
        return one.corrected
    if one.trust:
        return one.held_out_common if math.isfinite(one.held_out_common) else one.held_out
    return one.value


def ranked(estimates: Sequence[Estimate]) -> list[Estimate]:
    """Return the estimates of one name, best first; unknown ones last.

    Corrected values and held-out bounds are different scales: unless every system's `corrected` is trusted,
    all are ranked by the held-out bound at their common phone count.
    """
    trusted = all(one.trust in _CORRECTED or math.isnan(one.value) for one in estimates)
    sign = -1.0 if estimates and estimates[0].better == "higher" else 1.0

    def key(one: Estimate) -> tuple[bool, float]:
        value = rank_key(one) if trusted or not one.trust else one.held_out_common
        return math.isnan(value), sign * value if math.isfinite(value) else 0.0

    return list(estimates) if estimates and estimates[0].better == "neither" else sorted(estimates, key=key)
