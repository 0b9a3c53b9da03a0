"""Which system is better: the order of the estimates of one value, on one scale for all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cdslm_eval.results.estimate import Estimate, Quantity

__all__ = ["Shown", "common_scale", "ranked", "shown_columns"]


@dataclass(frozen=True, slots=True)
class Shown:
    """Which columns of a table of one value have anything in them: `trust` includes the corrected value."""

    floor: bool
    held_out: bool
    trust: bool


def shown_columns(estimates: Sequence[Estimate]) -> Shown:
    """Return which columns to show for the estimates of one name."""
    return Shown(
        floor=any(estimate.trust or math.isfinite(estimate.floor) for estimate in estimates),
        held_out=any(estimate.interval == "bounds" for estimate in estimates),
        trust=any(estimate.trust for estimate in estimates),
    )


def common_scale(estimates: Sequence[Estimate]) -> list[Quantity]:
    """Return what the estimates of one name are ordered by, the same kind of number for all that are known.

    Corrected values and held-out bounds are different scales: where one system is known by its bounds only, all are
    ordered by the held-out bound at their common phone count. Distances that cannot be corrected are ordered by
    their extrapolated values, which carry the least of the bias; that order is no evidence.
    """
    headlines = [estimate.headline() for estimate in estimates]
    if any(headline.kind == "bounds" for headline in headlines):
        return [_held_out(estimate) for estimate in estimates]
    return [
        Quantity("uncorrected", estimate.corrected if math.isfinite(estimate.corrected) else estimate.value)
        if headline.kind == "uncorrected"
        else headline
        for estimate, headline in zip(estimates, headlines, strict=True)
    ]


def _held_out(estimate: Estimate) -> Quantity:
    known = math.isfinite(estimate.value)
    return Quantity("held-out", estimate.lower_bound if known else math.nan, estimate.low, estimate.high)


def ranked(estimates: Sequence[Estimate]) -> list[Estimate]:
    """Return the estimates of one name, best first; then those of systems outside the ranking, then unknown ones."""
    if not estimates or estimates[0].better == "neither":
        return list(estimates)
    sign = -1.0 if estimates[0].better == "higher" else 1.0
    keys = [sign * quantity.value for quantity in common_scale(estimates)]
    order = sorted(
        range(len(keys)), key=lambda index: (math.isnan(keys[index]), bool(estimates[index].outside), keys[index])
    )
    return [estimates[index] for index in order]
