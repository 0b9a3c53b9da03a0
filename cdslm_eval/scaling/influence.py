"""Influence: how far a law's parameters move without one row (leave-one-out, refitted from the optimum)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling.bootstrap import searched_again
from cdslm_eval.scaling.fit import LawFit, residuals
from cdslm_eval.scaling.flags import Flag
from cdslm_eval.scaling.law import curve_of

__all__ = ["Influence", "influence"]

Floats = npt.NDArray[np.float64]
_DECIDES = 0.5  # share of a parameter's jackknife variance from which on one row decides it
_UNEQUAL = 30.0  # and times an equal share: of few rows each counts much
_MOST = 300  # rows that are left out; of more, those that a first-order estimate puts first


@dataclass(frozen=True, slots=True)
class Influence:
    """The row without which a law moves most.

    Attributes:
        line: Its line in the table.
        parameter: E, an exponent, or "ratio_exponent": the one that it moves most.
        value: The parameter by the whole table.
        without: The parameter without the row.
        share: The row's share of the parameter's jackknife variance, 0..1; about 1 / rows where all count alike.
        refits: How many rows were left out, one after the other.
    """

    line: int
    parameter: str
    value: float
    without: float
    share: float
    refits: int

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        return (
            f"line {self.line} moves {self.parameter} most: {self.without:.4g} without it in place of "
            f"{self.value:.4g}, {self.share:.0%} of the jackknife variance over {self.refits} refits"
        )

    @property
    def flags(self) -> tuple[Flag, ...]:
        """A note where the row alone makes up most of what is uncertain."""
        if self.share < max(_DECIDES, _UNEQUAL / self.refits):
            return ()
        return (Flag("influence", f"one row decides a parameter: {self.sentence}", self.share, doubt=False),)


def influence(fit: LawFit) -> Influence:
    """Refit a law without each row, from its optimum, and return the row that matters most.

    Args:
        fit: The fit.

    Raises:
        UsageError: The fit is exact, or its rows leave nothing to judge by.

    Source: Belsley, Kuh & Welsch, "Regression Diagnostics" (1980), section 2.1 (deletion diagnostics).
    """
    rows = _first(fit, _MOST)
    weights = np.repeat(fit.table.weight[None], len(rows), axis=0)
    weights[np.arange(len(rows)), rows] = 0.0
    natural = fit.problem.natural(searched_again(fit, weights)[0])
    largest = Influence(0, "", math.nan, math.nan, 0.0, len(rows))
    for name, value, without in _parameters(fit, natural):
        moved = (without - value) ** 2
        total = float(moved.sum())
        if not (math.isfinite(total) and total > 1e-18 * max(1.0, value**2)):
            continue
        index = int(np.argmax(moved))
        share = float(moved[index]) / total
        if share > largest.share:
            line = int(fit.table.line[rows[index]])
            largest = Influence(line, name, value, float(without[index]), share, len(rows))
    if not largest.parameter:
        raise UsageError("the fit is exact or undetermined: no single row moves it")
    return largest


def _first(fit: LawFit, most: int) -> npt.NDArray[np.intp]:
    """Return the rows to leave out: all, or those of the largest first-order influence on any parameter."""
    count = len(fit.table)
    if count <= most:
        return np.arange(count)
    jacobian = fit.problem.points(fit.theta[None]).jacobian[0]
    slope, _ = fit.cost.slopes(residuals(fit))
    score = jacobian * (fit.table.weight * slope)[:, None]
    bread = (jacobian * (fit.table.weight * fit.cost.density(residuals(fit)))[:, None]).T @ jacobian
    moved = np.abs(score @ np.linalg.pinv(bread))
    # each parameter in units of its own largest move
    order = np.argsort(-np.max(moved / np.maximum(moved.max(axis=0), 1e-300), axis=1), kind="stable")
    return np.asarray(order[:most])


def _parameters(fit: LawFit, natural: dict[str, Floats]) -> Iterator[tuple[str, float, Floats]]:
    """Yield (name, value, values without each row) of E, the exponents, and how r* goes with C."""
    for name in ("E", *fit.problem.form.profiled):
        if name in natural and name in fit.parameters:
            yield name, fit.parameters[name], natural[name]
    if fit.law.has_optimum:
        value = float(fit.law.curve.ratio_exponent)
        if math.isfinite(value):
            yield "ratio_exponent", value, curve_of(fit.form, natural, fit.law.axis, fit.law.cost).ratio_exponent
