"""Ranks with their uncertainty: which places a system may hold, and from which others it cannot be told apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from scipy import stats

from cdslm_eval.results.ranking import rank_key, ranked
from cdslm_eval.results.score_result import Estimate
from cdslm_eval.run.comparison import holm

__all__ = ["Standing", "standings"]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a system stands under one value.

    Attributes:
        best, worst: Its possible places, from 1; together for all systems right with 95 % confidence.
        key: What systems are sorted by; lower is better.
        ties: Systems from which it cannot be told apart.
        shown: Whether it is told apart from any.
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
    error: float
    low: float
    high: float


def standings(
    estimates: Sequence[Estimate], references: Mapping[str, str | None] | None = None
) -> dict[tuple[str, str], Standing]:
    """Return (system, value name) -> standing for every value that has a good side.

    Values that were measured against a reference are ranked among the systems of the same reference.

    A pair is told apart by the difference of its values over the root of the sum of their squared standard errors
    (from their intervals, taken as independent: for clips that are paired this is careful), Holm-corrected over all
    pairs at 5 %; where a divergence cannot be corrected, only when their bounds do not overlap. A place is the number
    of systems that are shown to be better, plus one, up to the number that are not shown to be worse.

    Args:
        estimates: Of all systems.
        references: System -> its reference; None where all have one.

    Source: Mogstad, Romano, Shaikh, Wilhelm (2024), "Inference for Ranks with Applications to Mobility across
    Neighbourhoods and Academic Achievement across Countries", Review of Economic Studies 91.
    """
    found: dict[tuple[str, str], Standing] = {}
    for name in dict.fromkeys(one.name for one in estimates):
        leagues: dict[str | None, list[Estimate]] = {}
        versus = any(one.n_reference for one in estimates if one.name == name)
        for one in estimates:
            if one.name == name and one.better != "neither":
                league = (references or {}).get(one.system) if versus else None
                leagues.setdefault(league, []).append(one)
        for some in leagues.values():
            found |= {(system, name): one for system, one in _standings(some).items()}
    return found


def _standings(some: Sequence[Estimate]) -> dict[str, Standing]:
    sign = -1.0 if some[0].better == "higher" else 1.0
    trusted = all(one.trust in ("", "ok", "sample_limited") for one in some if math.isfinite(one.value))
    points = [_point(one, sign, trusted=trusted) for one in some if math.isfinite(one.value)]
    pairs = list(combinations(points, 2))
    adjusted = holm([_p_value(a, b) for a, b in pairs])
    better: dict[str, set[str]] = {one.system: set() for one in points}
    for (a, b), p in zip(pairs, adjusted, strict=True):
        apart = p < 0.05 if math.isfinite(p) else a.high < b.low or b.high < a.low
        if apart:
            first, second = (a, b) if a.value < b.value else (b, a)
            better[second.system].add(first.system)
    order = {one.system: number for number, one in enumerate(ranked(some))}
    standing = {}
    for one in points:
        beaten = {other for other, by in better.items() if one.system in by}
        ties = tuple(p.system for p in points if p.system not in (*better[one.system], *beaten, one.system))
        places = 1 + len(better[one.system]), len(points) - len(beaten)
        standing[one.system] = Standing(*places, float(order[one.system]), ties, len(ties) < len(points) - 1)
    return standing


def _point(one: Estimate, sign: float, *, trusted: bool) -> _Point:
    """Return the value with its error, lower being better; without an error where only bounds are known."""
    if one.trust and trusted:
        value, low, high = rank_key(one), one.corrected_low, one.corrected_high
    else:
        value, low, high = one.value, one.low, one.high
    width = stats.norm.ppf(0.975) * 2
    error = (high - low) / width if one.interval != "bounds" or (one.trust and trusted) else math.nan
    ends = sorted((sign * low, sign * high)) if math.isfinite(low) and math.isfinite(high) else [-math.inf, math.inf]
    return _Point(one.system, sign * value, error, ends[0], ends[1])


def _p_value(a: _Point, b: _Point) -> float:
    error = math.hypot(a.error, b.error)
    if not math.isfinite(error) or not math.isfinite(a.value - b.value):
        return math.nan
    return float(2 * stats.norm.sf(abs(a.value - b.value) / error)) if error > 0 else float(a.value == b.value)
