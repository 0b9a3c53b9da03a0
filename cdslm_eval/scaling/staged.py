"""A law of the loss with a map from loss to metric, fitted one after the other (two-stage) or jointly (fused)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling.bootstrap import Bootstrap, resampling_weights, searched_again
from cdslm_eval.scaling.fit import HUBER_SPREADS, LawFit, residuals
from cdslm_eval.scaling.flags import Flag
from cdslm_eval.scaling.law import Law
from cdslm_eval.scaling.map_fit import MetricMap, Repeatable, residual_spread
from cdslm_eval.scaling.map_kind import MapKind
from cdslm_eval.scaling.objective import Points, make_estimator
from cdslm_eval.scaling.problem import LawProblem
from cdslm_eval.scaling.solver import minimise
from cdslm_eval.scaling.table import RunTable

__all__ = ["Fused", "StageRows", "Staged", "bootstrap_staged", "fit_fused"]

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]
_CONTINUED = 5


@dataclass(frozen=True, eq=False)
class StageRows:
    """Rows of the two stages.

    Attributes:
        table: All rows of either stage.
        loss, metric: Numbers of the rows that each stage is fitted to, in `table`.
    """

    table: RunTable
    loss: Places
    metric: Places


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
        rows: The rows of each stage.
        flags: What a reader must know.
        search: The search of law and map together; None where they were fitted one after the other.
    """

    name: str
    law: Law
    map: MetricMap
    objective: float
    rank_deficiency: int
    loss_fit: LawFit
    rows: StageRows
    flags: tuple[Flag, ...] = ()
    search: Repeatable | None = field(default=None, repr=False)

    @property
    def parameters(self) -> dict[str, float]:
        """Those of the law and of the map."""
        return {**self.law.parameters, **self.map.parameters}

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
    fit, rows, size = staged.loss_fit, staged.rows, staged.map.kind.size
    weights, units = resampling_weights(rows.table, by, replicates, seed)
    # one draw for both stages, since loss and metric of a row share its luck
    of_loss, of_metric = weights[:, rows.loss], weights[:, rows.metric]
    if staged.search is not None:
        joint = staged.search.repeat(np.concatenate([of_loss, of_metric], axis=1))
        law, mapped = joint.theta[:, :-size], joint.theta[:, -size:]
        objective, converged = joint.objective, joint.converged
    else:
        assert staged.map.search is not None
        second = staged.map.search.repeat(of_metric)
        law, objective, reached = searched_again(fit, of_loss)
        mapped, converged = second.theta, reached & second.converged
    natural = {**fit.problem.natural(law), **staged.map.kind.natural(mapped)}
    free = max(1, units - (len(fit.theta) + size if by == "row" else 1))
    return Bootstrap(natural, objective, converged, by, units, free, seed, fit.form, fit.law.axis, fit.law.cost)


class Fused:
    """Residuals of the loss and of the metric in one problem, each in units of its own spread.

    Parameters: those of the law, then those of the map.

    Args:
        problem: The law over all rows of either stage.
        kind: The map.
        rows: Numbers of the rows of the loss and of the metric.
        spreads: Units of their residuals.
        keep_loss: Whether the residuals of the loss count.
    """

    def __init__(
        self,
        problem: LawProblem,
        kind: MapKind,
        rows: tuple[Places, Places],
        spreads: tuple[float, float],
        *,
        keep_loss: bool,
    ) -> None:
        self.problem, self.kind, self.keep_loss = problem, kind, keep_loss
        self.loss_rows, self.metric_rows = rows
        self.loss_unit, self.metric_unit = spreads
        self.low = np.concatenate([problem.low, kind.low])
        self.high = np.concatenate([problem.high, kind.high])

    def predict(self, theta: Floats) -> Floats:
        """Return the predictions, those of the loss first, those of anchors of the map last."""
        law, mapped = theta[:, : -self.kind.size], theta[:, -self.kind.size :]
        u = self.problem.values(law)[0]
        of_rows = self.kind.slopes(mapped, u[:, self.metric_rows]).z
        of_metric = np.concatenate([of_rows, self.kind.scaled_anchor(mapped)[0]], axis=1) / self.metric_unit
        if not self.keep_loss:
            return of_metric
        of_loss = self.problem.axis.link.forward(u[:, self.loss_rows])[0] / self.loss_unit
        return np.concatenate([of_loss, of_metric], axis=1)

    def points(self, theta: Floats) -> Points:
        """Return the residuals' predictions with their derivatives, in the order of `predict`."""
        size, law = self.kind.size, theta[:, : -self.kind.size]
        mapped, loss_rows, metric_rows = theta[:, -size:], self.loss_rows, self.metric_rows
        u, jacobian, hessian = self.problem.values(law)
        slopes = self.kind.slopes(mapped, u[:, metric_rows])
        # the metric bears on the law only through the map's slope: where the map is flat it is silent
        by_law = slopes.by_loss[..., None] * jacobian[:, metric_rows]
        anchor, of_anchor = self.kind.scaled_anchor(mapped)
        aside = np.concatenate([np.zeros((*anchor.shape, law.shape[1])), of_anchor], axis=2)
        parts = [np.concatenate([by_law, slopes.by_theta], axis=2) / self.metric_unit, aside / self.metric_unit]
        values = [slopes.z / self.metric_unit, anchor / self.metric_unit]
        z, first, second = self.problem.axis.link.forward(u[:, loss_rows])
        if self.keep_loss:
            alone = first[..., None] * jacobian[:, loss_rows]
            padded = np.concatenate([alone, np.zeros((*z.shape, size))], axis=2)
            parts.insert(0, padded / self.loss_unit)
            values.insert(0, z / self.loss_unit)

        def curvature(weights: Floats) -> Floats:
            """Return the weighted sum of second derivatives, `[S, P, P]`."""
            out = np.zeros((len(theta), theta.shape[1], theta.shape[1]))
            end = weights.shape[1] - anchor.shape[1]
            of_metric = weights[:, end - len(metric_rows) : end] / self.metric_unit
            by_loss, crossed, own = self.kind.bend(mapped, u[:, metric_rows], of_metric)
            out[:, -size:, -size:] = own + self.kind.anchor_bend(mapped, weights[:, end:] / self.metric_unit)
            cross = np.einsum("sn,snp,snq->spq", of_metric, jacobian[:, metric_rows], crossed)
            out[:, :-size, -size:], out[:, -size:, :-size] = cross, cross.transpose(0, 2, 1)
            # second derivatives of map(law): map'' u' u'^T and map' u''
            pull, bend = np.zeros_like(u), np.zeros_like(u)
            pull[:, metric_rows] += of_metric * slopes.by_loss
            bend[:, metric_rows] += of_metric * by_loss
            if self.keep_loss:
                of_loss = weights[:, : len(loss_rows)] / self.loss_unit
                pull[:, loss_rows] += of_loss * first
                bend[:, loss_rows] += of_loss * second
            weighted = (jacobian * bend[..., None]).transpose(0, 2, 1)
            out[:, :-size, :-size] = hessian(pull) + np.matmul(weighted, jacobian)
            return out

        return Points(np.concatenate(values, axis=1), np.concatenate(parts, axis=1), curvature)


def fit_fused(loss_fit: LawFit, rows: StageRows, metric: str, first: MetricMap, *, keep_loss: bool = True) -> Staged:
    """Fit the law of the loss and the map to the metric by one objective, from the two-stage solution.

    Each residual counts in units of its own robust spread, by Huber's cost with delta 1.345.

    Args:
        loss_fit: The law of the loss, fitted to the rows of its stage.
        rows: The rows of each stage.
        metric: The metric.
        first: The map fitted alone.
        keep_loss: Whether the residuals of the loss stay in the objective. Without them a line determines only
            intercept + slope E, slope A and slope B, not the five themselves: the objective is rank-deficient by two,
            and a flag names it.
    """
    kind, axis, size = first.kind, first.kind.axis, first.kind.size
    used = (np.arange(0), rows.metric) if not keep_loss else (rows.loss, rows.metric)
    spreads = (residual_spread(residuals(loss_fit), len(loss_fit.theta)), first.spread)
    problem = Fused(loss_fit.problem.at(rows.table), kind, used, spreads, keep_loss=keep_loss)
    loss = rows.table.metric(loss_fit.metric)[used[0]]
    values = rows.table.metric(metric)[rows.metric]
    anchors = kind.anchor_weights(float(rows.table.weight[used[1]].mean()))
    known = [loss_fit.law.axis.target(loss) / spreads[0], axis.target(values) / spreads[1], np.zeros(len(anchors))]
    # rows that repeat each other must not outweigh those of the loss by their number
    of_metric = first.share * (first.effective / len(first.share))
    share = np.concatenate([np.ones(len(used[0])), of_metric])
    target, weight = np.concatenate(known), np.concatenate([rows.table.weight[np.concatenate(used)] * share, anchors])
    start = np.concatenate([loss_fit.theta, first.theta])
    estimator = make_estimator("huber", HUBER_SPREADS)
    solution = minimise(problem, estimator, target, weight, start[None])
    # law and map may trade off along a valley that is longer than one search
    for _ in range(_CONTINUED):
        if solution.converged[0]:
            break
        solution = minimise(problem, estimator, target, weight, solution.theta, homotopy=False)
    theta = solution.theta[0]
    lost = _deficiency(problem.points(theta[None]).jacobian[0] * np.sqrt(weight)[:, None])
    flags = list(first.flags)
    if lost:
        sentence = f"the objective leaves {lost} combinations of parameters undetermined" + (
            "" if keep_loss else ": without residuals of the loss, E, A and B cannot be separated from the metric's map"
        )
        flags.append(Flag("rank_deficient", sentence, float(lost)))
    if not solution.converged[0]:
        flags.append(Flag("gradient", "the joint search did not reach an optimum", float(solution.gradient[0])))
    natural = {name: float(v[0]) for name, v in loss_fit.problem.natural(theta[None, :-size]).items()}
    law = Law(loss_fit.form, natural, loss_fit.law.cost, loss_fit.law.axis)
    missed = (problem.predict(theta[None])[0] - target)[len(used[0]) : len(used[0]) + len(values)] * spreads[1]
    # the search of the map alone led elsewhere, and must not be repeated in its place
    mapped = replace(first, theta=theta[-size:], spread=residual_spread(missed, len(theta)), search=None)
    search = Repeatable(problem, estimator, target, theta, anchors, share)
    return Staged("fused", law, mapped, float(solution.objective[0]), lost, loss_fit, rows, tuple(flags), search)


def _deficiency(jacobian: Floats) -> int:
    # columns of equal length, so that units of parameters do not pass for lack of rank
    scale = np.linalg.norm(jacobian, axis=0)
    values = np.linalg.svd(jacobian / np.where(scale > 0, scale, 1.0), compute_uv=False)
    return int(np.sum(values < 1e-8 * values[0])) + int(jacobian.shape[1] - len(values))
