"""Systems x values on one screen: how far each value is from that of real speech, in units of its interval."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cdslm_eval.results.estimate import Estimate
from cdslm_eval.results.numbers import UNKNOWN, format_number
from cdslm_eval.results.score_result import ScoreResult

__all__ = ["Matrix", "MatrixCell", "distance", "matrix_of"]

_LEVELS = (1.0, 2.0, 4.0, 8.0)
_FEWEST_VALUES = 4
_ORDER = re.compile(r"_\d+$")


@dataclass(frozen=True, slots=True)
class MatrixCell:
    """One value of one system.

    Attributes:
        text: The value; the bounds where there is no point.
        distance: How far it is from real speech, in half-intervals; NaN where that is not known.
        title: The value with its interval, and why it is unknown or of its kind.
    """

    text: str
    distance: float = math.nan
    title: str = ""

    @property
    def shade(self) -> str:
        """CSS class: "h1".."h4" above real speech, "l1".."l4" below it, "" within one half-interval or unknown."""
        level = sum(abs(self.distance) >= limit for limit in _LEVELS)
        return f"{'h' if self.distance > 0 else 'l'}{level}" if level else ""

    @property
    def distance_text(self) -> str:
        """The distance with its sign; "" where it is not known."""
        if not abs(self.distance) >= 0.05:
            return ""
        return f"{self.distance:+.1f}" if abs(self.distance) < 9.95 else f"{self.distance:+.0f}"


@dataclass(frozen=True, slots=True)
class Matrix:
    """All values of all systems.

    Attributes:
        columns: (value name, unit, arrow).
        real: Cells of the row of real speech.
        rows: (system, cells) in the order of the page.
    """

    columns: tuple[tuple[str, str, str], ...]
    real: tuple[MatrixCell, ...]
    rows: tuple[tuple[str, tuple[MatrixCell, ...]], ...]

    @property
    def has_real(self) -> bool:
        """Whether anything is known of real speech."""
        return any(cell.text != UNKNOWN for cell in self.real)

    @property
    def by_value(self) -> list[tuple[tuple[str, str, str], MatrixCell, list[MatrixCell]]]:
        """Value by value: its column, the cell of real speech, the cells of the systems."""
        cells = [list(column) for column in zip(*(cells for _, cells in self.rows), strict=True)]
        return list(zip(self.columns, self.real, cells, strict=True))


def matrix_of(result: ScoreResult, systems: Sequence[str]) -> Matrix | None:
    """Return the matrix of a result; None where it has too few values for one.

    Args:
        result: What was scored.
        systems: Its systems in the order of the page.
    """
    first = {estimate.name: estimate for estimate in reversed(result.estimates)}
    names = list(dict.fromkeys(estimate.name for estimate in result.estimates))
    # the orders of one divergence count once
    if len({_ORDER.sub("", name) for name in names}) < _FEWEST_VALUES:
        return None
    estimates = {(estimate.system, estimate.name): estimate for estimate in result.estimates}
    real = {estimate.name: estimate for estimate in result.real}
    arrows = {"lower": "↓", "higher": "↑", "neither": ""}
    return Matrix(
        columns=tuple((name, first[name].unit, arrows[first[name].better]) for name in names),
        real=tuple(_real_cell(name, real, result.estimates) for name in names),
        rows=tuple(
            (system, tuple(_cell(estimates.get((system, name)), real.get(name)) for name in names))
            for system in systems
        ),
    )


def distance(estimate: Estimate, real: Estimate | None) -> float:
    """Return how far a value is from that of real speech, in half-widths of the interval of their difference.

    A corrected value, and bounds, are distances from real speech already: real speech is at 0. Bounds count from their
    nearer end. The interval of a difference has the root of the sum of both squared half-widths.

    Args:
        estimate: Of a system.
        real: Of the reference itself under the same value, where it is known.

    Returns:
        Positive above real speech, negative below it; NaN where either is not known, or has no interval.
    """
    headline = estimate.headline()
    half = (headline.high - headline.low) / 2
    if headline.kind == "corrected":
        away = headline.value
    elif headline.kind == "bounds":
        away = max(0.0, headline.low)
    elif headline.kind == "value" and real is not None:
        away, other = headline.value - real.value, (real.high - real.low) / 2
        half = math.hypot(half, other) if math.isfinite(other) else half
    else:
        return math.nan
    return away / half if math.isfinite(half) and half > 0 else math.nan


def _cell(estimate: Estimate | None, real: Estimate | None) -> MatrixCell:
    if estimate is None:
        return MatrixCell(UNKNOWN, title="not measured")
    headline = estimate.headline()
    if not headline.known:
        return MatrixCell(UNKNOWN, title=headline.why or estimate.reason)
    title = "; ".join(part for part in (str(headline), headline.why) if part)
    text = format_number(headline.value, headline.decimals) if math.isfinite(headline.value) else headline.interval
    return MatrixCell(text, distance(estimate, real), title)


def _real_cell(name: str, real: Mapping[str, Estimate], estimates: Sequence[Estimate]) -> MatrixCell:
    """Return the cell of real speech: its own value, 0 where values are distances from it, or the floor."""
    if name in real:
        return _cell(real[name], None)
    own = [estimate for estimate in estimates if estimate.name == name]
    floors = [estimate.floor for estimate in own if math.isfinite(estimate.floor)]
    if any(estimate.trust for estimate in own):
        return MatrixCell("0", title=f"floor up to {format_number(max(floors), 3)}" if floors else "")
    return MatrixCell(format_number(max(floors), 3), title="the floor") if floors else MatrixCell(UNKNOWN)
