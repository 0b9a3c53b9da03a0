"""A law of the loss with a map from loss to metric, fitted one after the other (two-stage) or jointly (fused)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling.bootstrap import Bootstrap, bootstrap, resampling_weights
from cdslm_eval.scaling.fit import HUBER_SPREADS, LawFit, residuals
from cdslm_eval.scaling.flags import Flag
from cdslm_eval.scaling.law import Law
from cdslm_eval.scaling.maps import MetricMap, Repeatable, residual_spread
from cdslm_eval.scaling.objective import Estimator, Points, make_estimator
from cdslm_eval.scaling.problem import LawProblem
from cdslm_eval.scaling.solver import minimise

__all__ = ["Fused", "Staged", "bootstrap_staged", "fit_fused"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Staged:
    """A law of the loss and a map from loss to metric, fitted one after the other or jointly.

    Attributes:
        name: "two_stage" or "fused".
        law: Of the loss.
        map: From loss to metric.
        objective: What was minimised last.
        rank_deficiency: How many combinations of parameters the objective leaves undetermined.
        loss_fit: The law of the loss fitted alone.
        flags: What a reader must know.
        search: The search of law and map together; None where they were fitted one after the other.
    """

    name: str
    law: Law
    map: MetricMap
    objective: float
    rank_deficiency: int
    loss_fit: LawFit
    flags: tuple[Flag, ...] = ()
    search: Repeatable | None = field(default=None, repr=False)

    @property
    def parameters(self) -> dict[str, float]:
        """Those of the law, and "intercept" and "slope" of the map."""
        return {**self.law.parameters, "intercept": self.map.intercept, "slope": self.map.slope}

    def predict(self, N: npt.ArrayLike, D: npt.ArrayLike) -> Floats:
        """Return the metric for N parameters and D tokens."""
        return self.map.value(self.law.predict(N, D))


def bootstrap_staged(staged: Staged, by: str = "row", replicates: int = 1000, seed: int = 0) -> Bootstrap:
    """Fit resampled tables, each from this optimum: every row with its loss and its metric together.

    Args:
        staged: The fit.
        by: "row", "run" or "isoflop".
        replicates: How many.
        seed: The same seed gives the same replicates.

    Raises:
        UsageError: The objective leaves parameters undetermined, or there is too little to draw from.
    """
    if staged.rank_deficiency:
        raise UsageError(
            f"{staged.rank_deficiency} combinations of parameters are undetermined, so none has an interval"
        )
    fit = staged.loss_fit
    weights, units = resampling_weights(fit.table, by, replicates, seed)
    free = units - (len(fit.theta) + 2 if by == "row" else 1)
    if staged.search is not None:
        joint = staged.search.repeat(weights)
        objective, converged, line = joint.objective, joint.converged, joint.theta[:, -2:]
        law: Mapping[str, Floats] = fit.problem.natural(joint.theta[:, :-2])
    else:
        assert staged.map.search is not None
        mapped, alone = staged.map.search.repeat(weights), bootstrap(fit, by, replicates, seed)
        law, objective, converged = alone.parameters, alone.objective, alone.converged & mapped.converged
        line = mapped.theta[:, -2:]
    # the search has its intercept at the mean loss
    centre = float(fit.table.metric(fit.metric).mean())
    natural = {"intercept": line[:, 0] - line[:, 1] * centre, "slope": line[:, 1]}
    drawn = (objective, converged, by, units, max(1, free), seed)
    return Bootstrap({**law, **natural}, *drawn, fit.form, fit.law.axis, fit.law.k)


class Fused:
    """Residuals of the loss and of the metric in one problem, each in units of its own spread.

    Parameters: those of the law, then intercept (at the centre of the loss) and slope of the map.
    """

    def __init__(self, problem: LawProblem, centre: float, spreads: tuple[float, float], *, keep_loss: bool) -> None:
        self.problem, self.centre, self.keep_loss = problem, centre, keep_loss
        self.loss_unit, self.metric_unit = spreads
        self.low = np.concatenate([problem.low, [-np.inf, -np.inf]])
        self.high = np.concatenate([problem.high, [np.inf, np.inf]])

    def predict(self, theta: Floats) -> Floats:
        """Return the predictions, those of the loss first."""
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
            its flag names it.
    """
    rows, axis = loss_fit.table, first.axis
    loss = rows.metric(loss_fit.metric)
    spreads = (residual_spread(residuals(loss_fit), len(loss_fit.theta)), first.spread)
    problem = Fused(loss_fit.problem, float(loss.mean()), spreads, keep_loss=keep_loss)
    metric_target = axis.target(values) / spreads[1]
    loss_target = loss_fit.law.axis.target(loss) / spreads[0]
    target = np.concatenate([loss_target, metric_target]) if keep_loss else metric_target
    weight = np.tile(rows.weight, 2 if keep_loss else 1)
    start = np.concatenate([loss_fit.theta, [first.intercept + first.slope * problem.centre, first.slope]])
    estimator: Estimator = make_estimator("huber", HUBER_SPREADS)
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
        flags.append(Flag("gradient", "the joint search did not reach an optimum", float(solution.gradient[0])))
    natural = {name: float(v[0]) for name, v in loss_fit.problem.natural(theta[None, :-2]).items()}
    law = Law(loss_fit.form, natural, loss_fit.law.k, loss_fit.law.axis)
    slope = float(theta[-1])
    spread = residual_spread((problem.predict(theta[None])[0] - target)[-len(values) :] * spreads[1], len(theta))
    mapped = MetricMap(float(theta[-2] - slope * problem.centre), slope, axis, spread)
    search = Repeatable(problem, estimator, target, rows.weight, theta)
    return Staged("fused", law, mapped, float(solution.objective[0]), lost, loss_fit, tuple(flags), search)


def _deficiency(jacobian: Floats) -> int:
    scale = np.linalg.norm(jacobian, axis=0)
    values = np.linalg.svd(jacobian / np.where(scale > 0, scale, 1.0), compute_uv=False)
    return int(np.sum(values < 1e-8 * values[0])) + int(jacobian.shape[1] - len(values))
