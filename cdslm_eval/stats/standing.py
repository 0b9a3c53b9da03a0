"""Ranks with their uncertainty: which places a system may hold, and from which others it is not distinguished."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from cdslm_eval.results.differences import holm
from cdslm_eval.results.estimate import Estimate, Quantity
from cdslm_eval.results.ranking import common_scale, ranked
from cdslm_eval.stats.resampling import pooled_error, t_test

__all__ = ["Standing", "standings"]


@dataclass(frozen=True, slots=True)
class Standing:
    """The rank of a system under one value.

    Attributes:
        best, worst: Its possible places, from 1; together for all systems right with 95 % confidence.
        key: What systems are sorted by; lower is better.
        ties: Systems from which it is not distinguished.
        shown: Whether it is distinguished from any.
    """

    best: int
    worst: int
    key: float
    ties: tuple[str, ...]
    shown: bool

    @property
    def leads(self) -> bool:
        """Whether it may be the best, and is shown to be better than some other."""
        return self.best == 1 and self.shown

    @property
    def text(self) -> str:
        """The places in words: "1", "2–4"."""
        return f"{self.best}" if self.best == self.worst else f"{self.best}–{self.worst}"


@dataclass(frozen=True, slots=True)
class _Point:
    system: str
    value: float
    se: float
    degrees: float
    low: float
    high: float


def standings(
    estimates: Sequence[Estimate], references: Mapping[str, str | None] | None = None
) -> dict[tuple[str, str], Standing]:
    """Return (system, value name) -> standing for every value that has a good side.

    Values that were measured against a reference are ranked among the systems of the same reference.

    A pair is distinguished by the t test of two independent samples that `compare` makes of unpaired ones (for clips
    that are paired this is careful), Holm-corrected over all pairs at 5 %; where a divergence cannot be corrected, only
    when their bounds do not overlap. A value without a standard error is distinguished from none. A place is the number
    of systems that are shown to be better, plus one, up to the number that are not shown to be worse. Systems outside
    the ranking have no standing.

    Args:
        estimates: Of all systems.
        references: System -> its reference; None where all have one.

    Source: Mogstad, Romano, Shaikh, Wilhelm (2024), "Inference for Ranks with Applications to Mobility across
    Neighbourhoods and Academic Achievement across Countries", Review of Economic Studies 91.
    """
    table: dict[tuple[str, str], Standing] = {}
    for name in dict.fromkeys(estimate.name for estimate in estimates):
        leagues: dict[str | None, list[Estimate]] = {}
        versus = any(estimate.n_reference for estimate in estimates if estimate.name == name)
        for estimate in estimates:
            if estimate.name == name and estimate.better != "neither" and not estimate.outside:
                league = (references or {}).get(estimate.system) if versus else None
                leagues.setdefault(league, []).append(estimate)
        for league_estimates in leagues.values():
            table |= {(system, name): standing for system, standing in _standings(league_estimates).items()}
    return table


def _standings(estimates: Sequence[Estimate]) -> dict[str, Standing]:
    sign = -1.0 if estimates[0].better == "higher" else 1.0
    scale = zip(estimates, common_scale(estimates), strict=True)
    points = [_point(estimate, quantity, sign) for estimate, quantity in scale if math.isfinite(estimate.value)]
    pairs = list(combinations(points, 2))
    adjusted = holm([_p_value(a, b) for a, b in pairs])
    better: dict[str, set[str]] = {point.system: set() for point in points}
    for (a, b), p in zip(pairs, adjusted, strict=True):
        if math.isfinite(p):
            first, second = (a, b) if a.value < b.value else (b, a)
            apart = p < 0.05
        else:
            first, second = (a, b) if a.high < b.low else (b, a)
            apart = first.high < second.low
        if apart:
            better[second.system].add(first.system)
    order = {estimate.system: number for number, estimate in enumerate(ranked(estimates))}
    standing = {}
    for point in points:
        beaten = {other for other, by in better.items() if point.system in by}
        ties = tuple(p.system for p in points if p.system not in (*better[point.system], *beaten, point.system))
        places = 1 + len(better[point.system]), len(points) - len(beaten)
        standing[point.system] = Standing(*places, float(order[point.system]), ties, len(ties) < len(points) - 1)
    return standing


def _point(estimate: Estimate, quantity: Quantity, sign: float) -> _Point:
    """Return a quantity with its standard error, lower being better; with bounds alone where only these are known."""
    if quantity.kind == "held-out":
        ends = sorted((sign * quantity.low, sign * quantity.high))
        known = math.isfinite(quantity.low) and math.isfinite(quantity.high)
        return _Point(
            estimate.system, sign * quantity.value, math.nan, math.nan, *(ends if known else (-math.inf, math.inf))
        )
    return _Point(estimate.system, sign * quantity.value, estimate.se, estimate.degrees, -math.inf, math.inf)


def _p_value(a: _Point, b: _Point) -> float:
    if not (math.isfinite(a.se) and math.isfinite(b.se)):
        return math.nan
    return t_test(a.value - b.value, *pooled_error((a.se, b.se), (a.degrees, b.degrees))).p_value
