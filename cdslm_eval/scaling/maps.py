"""A metric as a function of the loss, fitted alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cdslm_eval.scaling.axis import Axis
from cdslm_eval.scaling.fit import HUBER_SPREADS
from cdslm_eval.scaling.objective import Estimator, Points, Problem, make_estimator
from cdslm_eval.scaling.solver import Solution, minimise

__all__ = ["Line", "MetricMap", "Repeatable", "fit_map", "residual_spread"]

Floats = npt.NDArray[np.float64]
_LEAST_SPREAD = 1e-9


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A finished search that can be repeated under other weights.

    Attributes:
        problem, estimator, target: What was minimised; units of spread stay those of the data.
        weight: Of the rows, `[rows]`.
        theta: The optimum, `[P]`.
    """

    problem: Problem
    estimator: Estimator
    target: Floats
    weight: Floats
    theta: Floats

    def repeat(self, weights: Floats) -> Solution:
        """Search again from the optimum.

        Args:
            weights: Of the rows, `[S, rows]`.
        """
        weights = np.tile(weights, (1, len(self.target) // len(self.weight)))
        start = np.repeat(self.theta[None], len(weights), axis=0)
        return minimise(self.problem, self.estimator, self.target, weights, start)


@dataclass(frozen=True, slots=True)
class MetricMap:
    """Metric on its residual scale as a line in the loss: z = intercept + slope loss.

    Under the identity link the metric is linear in the loss, under log exponential, under logit a logistic curve.

    Attributes:
        intercept, slope: Of the line.
        axis: The metric's axis.
        spread: Robust standard deviation of the residuals on its residual scale.
        search: The search behind it where it was fitted alone.
    """

    intercept: float
    slope: float
    axis: Axis
    spread: float
    search: Repeatable | None = field(default=None, repr=False)

    def value(self, loss: npt.ArrayLike) -> Floats:
        """Return the metric at a loss."""
        return self.axis.value(self.intercept + self.slope * np.asarray(loss, float))


class Line:
    """z = intercept + slope (loss - centre) as a problem for the solver."""

    def __init__(self, loss: Floats) -> None:
        self.centre = float(loss.mean())
        self.columns = np.column_stack([np.ones_like(loss), loss - self.centre])
        self.low, self.high = np.full(2, -np.inf), np.full(2, np.inf)

    def predict(self, theta: Floats) -> Floats:
        """Return z, `[S, n]`."""
        return theta @ self.columns.T

    def points(self, theta: Floats) -> Points:
        """Return z with its derivatives."""
        jacobian = np.broadcast_to(self.columns, (len(theta), *self.columns.shape))
        return Points(self.predict(theta), jacobian, lambda _: np.zeros((len(theta), 2, 2)))


def fit_map(loss: Floats, values: Floats, weight: Floats, axis: Axis) -> MetricMap:
    """Fit the metric as a function of the measured loss, by Huber with a delta of 1.345 residual spreads.

    Args:
        loss: `[rows]`.
        values: The metric, `[rows]`, within its link's domain.
        weight: `[rows]`.
        axis: The metric's axis.
    """
    problem, target = Line(loss), axis.target(values)
    root = np.sqrt(weight)
    start = np.asarray(np.linalg.lstsq(problem.columns * root[:, None], target * root, rcond=None)[0], np.float64)
    spread = residual_spread(target - problem.predict(start[None])[0], 2)
    estimator = make_estimator("huber", HUBER_SPREADS * spread)
    solution = minimise(problem, estimator, target, weight, start[None])
    theta = solution.theta[0]
    spread = residual_spread(target - problem.predict(theta[None])[0], 2)
    search = Repeatable(problem, estimator, target, weight, theta)
    return MetricMap(float(theta[0] - theta[1] * problem.centre), float(theta[1]), axis, spread, search)


def residual_spread(residual: Floats, lost: int) -> float:
    """Return the robust standard deviation of residuals after `lost` fitted parameters, at least 1e-9."""
    free = max(1, len(residual) - lost)
    return max(1.4826 * float(np.median(np.abs(residual))) * math.sqrt(len(residual) / free), _LEAST_SPREAD)
