"""A metric as a function of the loss, alone (two-stage) or jointly with the law of the loss (fused)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cdslm_eval.scaling.estimators import Estimator, make_estimator
from cdslm_eval.scaling.fit import LawFit
from cdslm_eval.scaling.flags import Flag
from cdslm_eval.scaling.law import Law
from cdslm_eval.scaling.links import Axis
from cdslm_eval.scaling.problem import LawProblem
from cdslm_eval.scaling.solver import Points, minimise

__all__ = ["MetricMap", "Staged", "fit_fused", "fit_map"]

Floats = npt.NDArray[np.float64]
_HUBER = 1.345  # in residual spreads: 95 % as precise as least squares under normal noise
_LEAST_SPREAD = 1e-9


@dataclass(frozen=True, slots=True)
class MetricMap:
    """Metric on its residual scale as a line in the loss: z = intercept + slope loss.

    Under the identity link the metric is linear in the loss, under log exponential, under logit a logistic curve.

    Attributes:
        intercept, slope: Of the line.
        axis: The metric's axis.
        spread: Robust standard deviation of the residuals on its residual scale.
    """

    intercept: float
    slope: float
    axis: Axis
    spread: float

    def value(self, loss: npt.ArrayLike) -> Floats:
        """Return the metric at a loss."""
        return self.axis.value(self.intercept + self.slope * np.asarray(loss, float))


@dataclass(frozen=True, eq=False)
class Staged:
    """A law of the loss and a map from loss to metric, fitted one after the other or jointly.

    Attributes:
        name: "two_stage" or "fused".
        law: Of the loss.
        map: From loss to metric.
        objective: What was minimised last.
        rank_deficiency: How many combinations of parameters the objective leaves undetermined.
        flags: What a reader must know.
    """

    name: str
    law: Law
    map: MetricMap
    objective: float
    rank_deficiency: int
    flags: tuple[Flag, ...] = ()

    def predict(self, N: npt.ArrayLike, D: npt.ArrayLike) -> Floats:
        """Return the metric for N parameters and D tokens."""
        return self.map.value(self.law.predict(N, D))


class _Line:
    """z = intercept + slope (loss - centre) as a problem for the solver."""

    def __init__(self, loss: Floats) -> None:
        self.centre = float(loss.mean())
        self.columns = np.column_stack([np.ones_like(loss), loss - self.centre])
        self.low, self.high = np.full(2, -np.inf), np.full(2, np.inf)

    def predict(self, theta: Floats) -> Floats:
        return theta @ self.columns.T

    def points(self, theta: Floats) -> Points:
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
    problem, target = _Line(loss), axis.target(values)
    root = np.sqrt(weight)
    start = np.asarray(np.linalg.lstsq(problem.columns * root[:, None], target * root, rcond=None)[0], np.float64)
    spread = _spread(target - problem.predict(start[None])[0], 2)
    solution = minimise(problem, make_estimator("huber", _HUBER * spread), target, weight, start[None])
    theta = solution.theta[0]
    spread = _spread(target - problem.predict(theta[None])[0], 2)
    return MetricMap(float(theta[0] - theta[1] * problem.centre), float(theta[1]), axis, spread)


def _spread(residual: Floats, lost: int) -> float:
    free = max(1, len(residual) - lost)
    return max(1.4826 * float(np.median(np.abs(residual))) * math.sqrt(len(residual) / free), _LEAST_SPREAD)


class _Fused:
    """Residuals of the loss and of the metric in one problem, each in units of its own spread.

    Parameters: those of the law, then intercept (at the centre of the loss) and slope of the map.
    """

    def __init__(self, problem: LawProblem, centre: float, spreads: tuple[float, float], *, keep_loss: bool) -> None:
        self.problem, self.centre, self.keep_loss = problem, centre, keep_loss
        self.loss_unit, self.metric_unit = spreads
        self.low = np.concatenate([problem.low, [-np.inf, -np.inf]])
        self.high = np.concatenate([problem.high, [np.inf, np.inf]])

    def predict(self, theta: Floats) -> Floats:
        u = self.problem.values(theta[:, :-2])[0]
        mapped = (theta[:, [-2]] + theta[:, [-1]] * (u - self.centre)) / self.metric_unit
        if not self.keep_loss:
            return mapped
        return np.concatenate([self.problem.axis.link.forward(u)[0] / self.loss_unit, mapped], axis=1)

    def points(self, theta: Floats) -> Points:
        """Return the residuals' predictions with their derivatives, those of the loss first."""
        u, jacobian, hessian = self.problem.values(theta[:, :-2])
        slope, size = theta[:, -1], theta.shape[1]
        mapped = np.zeros((*u.shape, size))
        mapped[..., :-2] = slope[:, None, None] * jacobian
        mapped[..., -2], mapped[..., -1] = 1.0, u - self.centre
        parts = [mapped / self.metric_unit]
        z, first, second = self.problem.axis.link.forward(u)
        if self.keep_loss:
            padded = np.zeros_like(mapped)
            padded[..., :-2] = first[..., None] * jacobian
            parts.insert(0, padded / self.loss_unit)

        def curvature(weights: Floats) -> Floats:
            """Return the weighted sum of second derivatives, `[S, P, P]`."""
            out = np.zeros((len(theta), size, size))
            of_metric = weights[:, -u.shape[1] :] / self.metric_unit
            out[:, :-2, :-2] = hessian(of_metric * slope[:, None])
            cross = np.einsum("sn,snp->sp", of_metric, jacobian)
            out[:, :-2, -1] = cross
            out[:, -1, :-2] = cross
            if self.keep_loss:
                of_loss = weights[:, : u.shape[1]] / self.loss_unit
                out[:, :-2, :-2] += hessian(of_loss * first)
                out[:, :-2, :-2] += np.matmul((jacobian * (of_loss * second)[..., None]).transpose(0, 2, 1), jacobian)
            return out

        values = [z / self.loss_unit] if self.keep_loss else []
        values.append((theta[:, [-2]] + theta[:, [-1]] * (u - self.centre)) / self.metric_unit)
        return Points(np.concatenate(values, axis=1), np.concatenate(parts, axis=1), curvature)


def fit_fused(loss_fit: LawFit, values: Floats, first: MetricMap, *, keep_loss: bool = True) -> Staged:
    """Fit the law of the loss and the map to the metric by one objective, from the two-stage solution.

    Each residual counts in units of its own robust spread, by Huber's cost with delta 1.345.

    Args:
        loss_fit: The law of the loss, fitted to the same rows.
        values: The metric on those rows.
        first: The map fitted alone.
        keep_loss: Whether the residuals of the loss stay in the objective. Without them only intercept + slope E,
            slope A and slope B are determined, not the five themselves: the objective is rank-deficient by two, and
            says so.
    """
    rows, axis = loss_fit.table, first.axis
    loss = rows.metric(loss_fit.metric)
    spreads = (_spread(loss_fit.residuals, len(loss_fit.theta)), first.spread)
    problem = _Fused(loss_fit.problem, float(loss.mean()), spreads, keep_loss=keep_loss)
    metric_target = axis.target(values) / spreads[1]
    loss_target = loss_fit.law.axis.target(loss) / spreads[0]
    target = np.concatenate([loss_target, metric_target]) if keep_loss else metric_target
    weight = np.tile(rows.weight, 2 if keep_loss else 1)
    start = np.concatenate([loss_fit.theta, [first.intercept + first.slope * problem.centre, first.slope]])
    estimator: Estimator = make_estimator("huber", _HUBER)
    solution = minimise(problem, estimator, target, weight, start[None])
    theta = solution.theta[0]
    lost = _deficiency(problem.points(theta[None]).jacobian[0] * np.sqrt(weight)[:, None])
    flags = []
    if lost:
        sentence = f"the objective leaves {lost} combinations of parameters undetermined" + (
            "" if keep_loss else ": without residuals of the loss, E, A and B cannot be told from the metric's line"
        )
        flags.append(Flag("rank_deficient", sentence, float(lost)))
    if not solution.converged[0]:
        flags.append(Flag("gradient", "the joint search did not come to an optimum", float(solution.gradient[0])))
    natural = {name: float(v[0]) for name, v in loss_fit.problem.natural(theta[None, :-2]).items()}
    law = Law(loss_fit.form, natural, loss_fit.law.k, loss_fit.law.axis)
    slope = float(theta[-1])
    spread = _spread((problem.predict(theta[None])[0] - target)[-len(values) :] * spreads[1], len(theta))
    mapped = MetricMap(float(theta[-2] - slope * problem.centre), slope, axis, spread)
    return Staged("fused", law, mapped, float(solution.objective[0]), lost, tuple(flags))


def _deficiency(jacobian: Floats) -> int:
    scale = np.linalg.norm(jacobian, axis=0)
    values = np.linalg.svd(jacobian / np.where(scale > 0, scale, 1.0), compute_uv=False)
    return int(np.sum(values < 1e-8 * values[0])) + int(jacobian.shape[1] - len(values))
