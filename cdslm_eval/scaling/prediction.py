"""Prediction with intervals, by the sandwich covariance or a bootstrap; profiles of single parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats import chi2

from cdslm_eval.core.errors import UnknownNameError, UsageError
from cdslm_eval.scaling.bootstrap import Bootstrap
from cdslm_eval.scaling.fit import LawFit, residuals, solve_again
from cdslm_eval.scaling.flags import objective_unit

__all__ = ["Prediction", "Profile", "predict", "profile", "sandwich"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predicted values with intervals; every field has the shape that N and D broadcast to.

    Attributes:
        value: The metric.
        confidence: (low, high) of the law itself.
        prediction: (low, high) of one further run: the law's uncertainty and the spread of runs around it.
        level: Of both intervals.
    """

    value: Floats
    confidence: tuple[Floats, Floats]
    prediction: tuple[Floats, Floats]
    level: float


def sandwich(fit: LawFit) -> Floats:
    """Return the sandwich covariance of a fit's inner parameters, `[P, P]`; NaN where the data do not determine them.

    The density of residuals at 0, on which it rests under Huber and LAD, is taken over a window at least as wide as the
    data can resolve.

    Source: Huber, "Robust Statistics" (1981), section 7.6; Powell, "Least absolute deviations" (1984).
    """
    points, estimator = fit.problem.points(fit.theta[None]), fit.cost
    jacobian, weights, r = points.jacobian[0], fit.table.weight, -residuals(fit)
    slope, _ = estimator.slopes(r)
    count, size = jacobian.shape
    bread = (jacobian * (weights * estimator.density(r))[:, None]).T @ jacobian
    # a row's score is weight times slope, so that its weight comes in squared
    meat = (jacobian * (weights * slope)[:, None] ** 2).T @ jacobian
    # unscaled, the condition number would tell of the units of the parameters
    scale = np.sqrt(np.maximum(np.diag(bread), 1e-300))
    scaled = bread / np.outer(scale, scale)
    if not np.isfinite(scaled).all() or np.linalg.cond(scaled) > 1e13 or count <= size:
        return np.full((size, size), np.nan)
    inverse = np.linalg.inv(scaled) / np.outer(scale, scale)
    # the factor is for residuals being smaller than errors, by what the fit absorbed (HC1)
    return np.asarray(inverse @ meat @ inverse * count / (count - size))


def predict(
    fit: LawFit,
    N: npt.ArrayLike,
    D: npt.ArrayLike,
    level: float = 0.95,
    draws: Bootstrap | None = None,
    columns: Mapping[str, npt.ArrayLike] | None = None,
    wider: npt.ArrayLike = 1.0,
) -> Prediction:
    """Predict the metric of models with N parameters and D tokens.

    Args:
        fit: The law.
        N: Parameters, above 0.
        D: Tokens, above 0; broadcasts against N.
        level: Of the intervals, between 0 and 1.
        draws: Replicates to take the confidence interval from; None takes the sandwich covariance.
        columns: Values of further columns that the law reads.
        wider: Factor on the half-widths of the interval of one further run, at least 1; broadcasts against N.
    """
    n, d = np.broadcast_arrays(np.asarray(N, float), np.asarray(D, float))
    columns, axis = columns or {}, fit.law.axis
    value = fit.law.predict(n, d, **columns)
    u = fit.law.curve.value(n, d, **columns)
    # intervals are made on the link's scale, so that a bounded link keeps them within its bounds
    z, slope, _ = axis.link.forward(u)
    if draws is None:
        # delta method: the standard error of u times the link's slope
        half = ndtri((1 + level) / 2) * _standard_error(fit, n, d, columns) * slope
        low, high = z - half, z + half
    else:
        z_draws = axis.link.forward(draws.curve(n.ndim).value(n, d, **columns))[0]
        low, high = draws.band(z_draws, level)
    # residuals shrink by what the parameters absorb
    lost = fit.n_rows / max(1, fit.n_rows - len(fit.theta))
    # an empirical quantile, since residuals under Huber have long tails
    noise = float(np.quantile(np.abs(residuals(fit)), level) * np.sqrt(lost))
    factor = np.asarray(wider, float)
    # independent errors add in squares, on each side by itself
    near, far = z - factor * np.hypot(z - low, noise), z + factor * np.hypot(high - z, noise)
    # the axis turns the ends round where higher is better
    sides = [np.sort([axis.value(a), axis.value(b)], axis=0) for a, b in ((low, high), (near, far))]
    return Prediction(value, (sides[0][0], sides[0][1]), (sides[1][0], sides[1][1]), level)


def _standard_error(fit: LawFit, n: Floats, d: Floats, columns: Mapping[str, npt.ArrayLike]) -> Floats:
    """Return the standard error of u at points, by the delta method."""
    further = {name: np.broadcast_to(np.asarray(values, float), n.shape).ravel() for name, values in columns.items()}
    there = replace(fit.table, N=n.ravel(), D=d.ravel(), C=fit.law.cost.flops(n.ravel(), d.ravel()), metrics=further)
    jacobian = fit.problem.at(there).values(fit.theta[None])[1][0]
    variance = np.einsum("np,pq,nq->n", jacobian, sandwich(fit), jacobian)
    return np.asarray(np.sqrt(np.maximum(variance, 0.0)).reshape(n.shape))


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


def profile(fit: LawFit, name: str, points: int = 41, level: float = 0.95) -> Profile:
    """Return the objective as a function of one parameter, the others refitted at each value.

    Args:
        fit: The fit.
        name: "E", an exponent, "gamma", or another parameter that the form does not scale with its column.
        points: How many values, at least 5.
        level: Of the interval that the profile gives.

    Raises:
        UnknownNameError: The form has no such parameter.
        UsageError: Too few points, or rows that determine nothing.
    """
    problem = fit.problem
    inner = {"E": 0, **problem.form.profiled}
    if name not in inner:
        raise UnknownNameError("profiled parameter", name, inner)
    if points < 5:
        raise UsageError(f"a profile needs at least 5 points, not {points}")
    unit = objective_unit(problem, fit.cost, fit.table, fit.law.axis.target(fit.table.metric(fit.metric)), fit.theta)
    if not unit > 0:
        raise UsageError("the fit is exact: there is no noise to profile against")
    index = inner[name]
    threshold = float(chi2.ppf(level, 1))
    reach = _half_width(fit, index)
    best = fit.theta[index]
    # a skewed profile runs past its standard errors: widen until both ends are beyond the quantile
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
    # searched in its logarithm, a floor never arrives at 0
    if name == "E" and problem.axis.link.positive_floor and not np.isfinite(interval[0]):
        interval = (float(problem.axis.restore(0.0)), interval[1]) if problem.axis.sign > 0 else interval
    return Profile(name, natural[order], objective[order], statistic[order], interval, level)


def _half_width(fit: LawFit, index: int) -> float:
    """Return the first half-width: four standard errors, or a tenth where these are unknown."""
    error = float(np.sqrt(sandwich(fit)[index, index]))
    return 4 * error if np.isfinite(error) and error > 0 else 0.1


def _along(fit: LawFit, index: int, grid: Floats, unit: float) -> tuple[Floats, Floats, Floats]:
    """Refit at each value, each from its neighbour's optimum (outwards from the best) and from the homotopy."""
    start = np.repeat(fit.theta[None], len(grid), axis=0)
    start[:, index] = grid
    fixed = np.arange(len(fit.theta)) == index
    near = solve_again(fit, fit.table.weight, start, fixed, homotopy=False)
    far = solve_again(fit, fit.table.weight, start, fixed, homotopy=True)
    # the neighbour's optimum may lie in a basin that is no longer the lowest
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
