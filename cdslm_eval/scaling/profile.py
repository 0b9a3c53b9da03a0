"""Profile: the objective as a function of one parameter, the others refitted at each value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from cdslm_eval.core.errors import UnknownNameError, UsageError
from cdslm_eval.scaling.flags import objective_unit

if TYPE_CHECKING:
    from cdslm_eval.scaling.fit import LawFit

__all__ = ["Profile", "profile_fit"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Profile:
    """A profiled objective.

    Attributes:
        name: The parameter.
        values: Its values, ascending, `[points]`.
        objective: The least objective at each, `[points]`.
        statistic: Twice the rise over the optimum, in units in which it is chi-square with 1 degree, `[points]`.
        interval: Where the statistic stays below the chi-square quantile; an end that the profile does not reach is
            infinite (or 0 for an E that may be 0): the data do not bound the parameter on that side.
        level: Of the interval.
    """

    name: str
    values: Floats
    objective: Floats
    statistic: Floats
    interval: tuple[float, float]
    level: float


def profile_fit(fit: LawFit, name: str, points: int, level: float) -> Profile:
    """Profile E, an exponent, or gamma; see `LawFit.profile`.

    Raises:
        UnknownNameError: The form has no such parameter.
        UsageError: Too few points, or rows that determine nothing.
    """
    form, problem = fit.problem.form, fit.problem
    inner = {"E": 0} | {form.inner[e]: e for e in form.exponents} | ({"gamma": 5} if "gamma" in form.inner else {})
    if name not in inner:
        raise UnknownNameError("profiled parameter", name, inner)
    if points < 5:
        raise UsageError(f"a profile needs at least 5 points, not {points}")
    unit = objective_unit(problem, fit.estimator_, fit.table, fit._target, fit.theta)  # noqa: SLF001 - one room
    if not unit > 0:
        raise UsageError("the fit is exact: there is no noise to profile against")
    index = inner[name]
    threshold = float(chi2.ppf(level, 1))
    reach = _half_width(fit, index)
    best = fit.theta[index]
    for _ in range(8):
        grid = np.linspace(max(problem.low[index], best - reach), min(problem.high[index], best + reach), points)
        theta, statistic, objective = _along(fit, index, grid, unit)
        open_low = statistic[0] < threshold and grid[0] > problem.low[index]
        open_high = statistic[-1] < threshold and grid[-1] < problem.high[index]
        if not (open_low or open_high):
            break
        reach *= 2
    natural = problem.natural(theta)[name]
    order = np.argsort(natural)
    interval = _interval(natural[order], statistic[order], threshold)
    if name == "E" and problem.axis.link.positive_floor and not np.isfinite(interval[0]):
        interval = (float(problem.axis.restore(0.0)), interval[1]) if problem.axis.sign > 0 else interval
    return Profile(name, natural[order], objective[order], statistic[order], interval, level)


def _half_width(fit: LawFit, index: int) -> float:
    """Return how far to look at first: four standard errors, or a tenth where these are not known."""
    error = float(np.sqrt(fit.covariance[index, index]))
    return 4 * error if np.isfinite(error) and error > 0 else 0.1


def _along(fit: LawFit, index: int, grid: Floats, unit: float) -> tuple[Floats, Floats, Floats]:
    """Refit at each value, each from its neighbour's optimum (outwards from the best) and from the homotopy."""
    start = np.repeat(fit.theta[None], len(grid), axis=0)
    start[:, index] = grid
    fixed = np.arange(len(fit.theta)) == index
    near = fit.solve(fit.table.weight, start, fixed, homotopy=False)
    far = fit.solve(fit.table.weight, start, fixed, homotopy=True)
    better = far.objective < near.objective
    theta = np.where(better[:, None], far.theta, near.theta)
    objective = np.minimum(far.objective, near.objective)
    return theta, 2 * (objective - fit.objective) / unit, objective


def _interval(values: Floats, statistic: Floats, threshold: float) -> tuple[float, float]:
    inside = np.flatnonzero(statistic <= threshold)
    if not len(inside):
        middle = float(values[np.argmin(statistic)])
        return middle, middle
    first, last = inside[0], inside[-1]
    low = -np.inf if first == 0 else _cross(values, statistic, first - 1, first, threshold)
    high = np.inf if last == len(values) - 1 else _cross(values, statistic, last + 1, last, threshold)
    return float(low), float(high)


def _cross(values: Floats, statistic: Floats, outside: int, inside: int, threshold: float) -> float:
    share = (threshold - statistic[inside]) / (statistic[outside] - statistic[inside])
    return float(values[inside] + share * (values[outside] - values[inside]))
