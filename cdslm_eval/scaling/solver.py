"""The solver: batched Levenberg-Marquardt with exact Hessians, a homotopy in delta, and a Newton polish.

Every problem of a batch (seeds of a point fit, replicates of a bootstrap, points of a profile) takes its own steps;
those that have converged leave the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cdslm_eval.scaling.objective import Estimator, Problem
from cdslm_eval.scaling.vertex import polish

__all__ = ["Solution", "minimise"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_STEPS = 60
_POLISH_STEPS = 200
_CHUNK = 400_000  # numbers in one [problems, rows] array: keeps the memory of a bootstrap flat as rows grow


@dataclass(frozen=True, slots=True)
class Solution:
    """Result of the solver.

    Attributes:
        theta: `[S, P]`.
        objective: `[S]`.
        gradient: Norm of the gradient of what was minimised last, scaled to be free of units, `[S]`; 0 at an optimum.
        converged: `[S]`.
    """

    theta: Floats
    objective: Floats
    gradient: Floats
    converged: Bools


def minimise(
    problem: Problem,
    estimator: Estimator,
    target: Floats,
    weights: Floats,
    start: Floats,
    *,
    fixed: Bools | None = None,
    homotopy: bool = True,
) -> Solution:
    """Minimise the weighted sum of the estimator's cost for each row of `start`.

    Args:
        problem: The predictions.
        estimator: The cost.
        target: What should be predicted, on the residual scale: `[n]`, or `[S, n]` for one target per problem.
        weights: Weight of each row, not negative: `[n]`, or `[S, n]`.
        start: `[S, P]`.
        fixed: Parameters that stay where they start, `[P]`.
        homotopy: Come from a smoother estimator; False when `start` is next to the optimum.

    Returns:
        The solution of each problem.
    """
    chunk = max(1, _CHUNK // max(1, target.shape[-1]))
    parts = [
        _minimise(
            problem,
            estimator,
            target if target.ndim == 1 else target[i : i + chunk],
            weights if weights.ndim == 1 else weights[i : i + chunk],
            start[i : i + chunk],
            np.zeros(start.shape[1], bool) if fixed is None else fixed,
            homotopy=homotopy,
        )
        for i in range(0, len(start), chunk)
    ]
    return Solution(
        np.concatenate([part.theta for part in parts]),
        np.concatenate([part.objective for part in parts]),
        np.concatenate([part.gradient for part in parts]),
        np.concatenate([part.converged for part in parts]),
    )


def _minimise(
    problem: Problem,
    estimator: Estimator,
    target: Floats,
    weights: Floats,
    start: Floats,
    fixed: Bools,
    *,
    homotopy: bool,
) -> Solution:
    count = len(start)
    data = _Data(
        problem,
        np.broadcast_to(target, (count, target.shape[-1])),
        np.broadcast_to(weights, (count, weights.shape[-1])),
        fixed,
    )
    theta = np.clip(start, problem.low, problem.high)
    stages = _stages(estimator, data, theta) if homotopy else []
    for stage in stages:
        # a stage has only to stay in the basin: the next one moves the optimum again
        theta = _descend(data, stage, theta, _STEPS, 1e-3)[0]
    # LAD has no curvature to descend by: its optimum is a kink
    if estimator.name == "lad":
        return _least_absolute(data, estimator, theta)
    theta, gradient, converged = _descend(data, estimator, theta, _POLISH_STEPS, 1e-9)
    return Solution(theta, data.cost(estimator, theta, slice(None)), gradient, converged)


def _least_absolute(data: _Data, estimator: Estimator, theta: Floats) -> Solution:
    """End at a vertex; a parameter at its bound leaves none, and a very sharp Huber replaces it."""
    theta, gradient, converged = _descend(data, estimator.smooth(_SHARP * data.spread(theta)), theta, _STEPS, 1e-6)
    exact, excess, optimal = polish(data.problem, data.target, data.weights, theta, ~data.fixed)
    before, after = data.cost(estimator, theta, slice(None)), data.cost(estimator, exact, slice(None))
    # the vertex nearest to the smooth optimum may be the worse of the two
    better = after <= before
    return Solution(
        np.where(better[:, None], exact, theta),
        np.minimum(before, after),
        np.where(optimal, np.maximum(excess, 0.0), gradient),
        # without any vertex the smooth search is the judge
        optimal | (converged & ~np.isfinite(excess)),
    )


_SHARP = 1e-3


def _stages(estimator: Estimator, data: _Data, theta: Floats) -> list[Estimator]:
    """Return Huber estimators from ten times the spread of the residuals down to the wanted delta, by tenths.

    The first is all but least squares, whose valleys are smooth; rows far off hold no sway over it all the same.
    """
    if estimator.name == "least_squares":
        return []
    wanted = estimator.delta if estimator.name == "huber" else 0.0
    spread = 10 * data.spread(theta)
    # a delta far below the spread, as the 0 of LAD, would ask for endless stages
    wanted = max(wanted, _SHARP * spread / 10)
    steps = max(0, int(np.ceil(np.log10(spread / wanted)))) if spread > 0 else 0
    return [estimator.smooth(spread * (wanted / spread) ** (k / steps)) for k in range(steps)]


@dataclass(frozen=True, slots=True)
class _Data:
    """A batch of problems: targets and weights `[S, n]`."""

    problem: Problem
    target: Floats
    weights: Floats
    fixed: Bools

    def spread(self, theta: Floats) -> float:
        """Return a typical size of the residuals over the batch."""
        # over the whole batch, so that all its problems go through the same stages
        r = np.abs(self.problem.predict(theta) - self.target)
        # a start outside the link's domain predicts NaN
        r = r[np.isfinite(r)]
        return float(2 * np.median(r)) if len(r) else 1.0

    def cost(self, estimator: Estimator, theta: Floats, members: npt.NDArray[np.intp] | slice) -> Floats:
        r = self.problem.predict(theta) - self.target[members]
        cost = np.einsum("sn,sn->s", self.weights[members], estimator.cost(r))
        # infinite outside the link's domain, so that a step there is always refused
        return np.where(np.isfinite(cost), cost, np.inf)

    def system(
        self, estimator: Estimator, theta: Floats, members: npt.NDArray[np.intp] | slice
    ) -> tuple[Floats, Floats, Floats]:
        """Return gradient `[S, P]`, Hessian `[S, P, P]` and the scale of each parameter `[S, P]`."""
        points = self.problem.points(theta)
        weights = self.weights[members]
        slope, bend = estimator.slopes(points.z - self.target[members])
        size = np.abs(points.z - self.target[members])
        pull = weights * slope
        gradient = np.einsum("sn,snp->sp", pull, points.jacobian)
        turned = points.jacobian.transpose(0, 2, 1)
        hessian = np.matmul(turned * (weights * bend)[:, None, :], points.jacobian) + points.hessian(pull)
        # the scale comes from the majorising quadratic (IRLS), which is never 0 where a parameter is felt
        weight = weights * np.minimum(1.0, estimator.delta / np.maximum(size, 1e-300))
        scale = np.sqrt(np.einsum("sn,snp->sp", weight, points.jacobian**2))
        # a parameter at its bound, pushed outwards, stays, as a fixed one does
        stuck = ((theta <= self.problem.low) & (gradient > 0)) | ((theta >= self.problem.high) & (gradient < 0))
        stuck |= self.fixed
        gradient = np.where(stuck, 0.0, gradient)
        hessian = np.where(stuck[:, :, None] | stuck[:, None, :], 0.0, hessian)
        return gradient, hessian, np.where(stuck | (scale < 1e-150), 1.0, scale)


def _descend(
    data: _Data, estimator: Estimator, theta: Floats, steps: int, tolerance: float
) -> tuple[Floats, Floats, Bools]:
    """Descend from each start; return the end, the scaled gradient there, and whether that is an optimum."""
    theta = theta.copy()
    cost = data.cost(estimator, theta, slice(None))
    gradient, hessian, scale = data.system(estimator, theta, slice(None))
    damping = np.full(len(theta), 1e-2)
    norm = _norm(gradient, scale, cost)
    active = np.flatnonzero((norm > tolerance) & np.isfinite(cost))
    for _ in range(steps):
        if not len(active):
            break
        step = _step(gradient[active], hessian[active], scale[active], damping[active])
        trial = np.clip(theta[active] + step, data.problem.low, data.problem.high)
        new = data.cost(estimator, trial, active)
        trial, new = _back_to_valley(data, estimator, trial, new, cost[active], active, damping[active])
        better = new < cost[active]
        # next to the optimum the cost is flat to rounding: a step is then good when the gradient falls
        tied = ~better & (new <= cost[active] * (1 + 1e-13))
        moved = np.flatnonzero(better | tied)
        keep = better.copy()
        if len(moved):
            chosen = active[moved]
            g, h, s = data.system(estimator, trial[moved], chosen)
            norms = _norm(g, s, new[moved])
            good = better[moved] | (norms < norm[chosen])
            keep[moved] = good
            chosen, moved = chosen[good], moved[good]
            theta[chosen], cost[chosen] = trial[moved], new[moved]
            gradient[chosen], hessian[chosen], scale[chosen], norm[chosen] = g[good], h[good], s[good], norms[good]
        damping[active] = np.where(keep, np.maximum(damping[active] / 8, 1e-12), damping[active] * 6)
        # under so much damping nothing moves: the search has stalled
        active = active[(norm[active] > tolerance) & (damping[active] < 1e9)]
    # rounding may end a search above its tolerance and still at an optimum
    return theta, norm, np.isfinite(cost) & (norm <= max(1e-5, tolerance))


def _back_to_valley(
    data: _Data,
    estimator: Estimator,
    trial: Floats,
    new: Floats,
    cost: Floats,
    active: npt.NDArray[np.intp],
    damping: Floats,
) -> tuple[Floats, Floats]:
    """Correct steps that went up: a long step along a curved valley leaves its floor, and a stiff step leads back.

    Damping holds the soft directions, in which the step has gone far, and lets the stiff ones give way. Without it the
    search creeps along the valley in which a floor, a coefficient and its exponent trade off.
    """
    for _ in range(_CORRECTIONS):
        bad = np.flatnonzero(np.isfinite(new) & (new >= cost))
        if not len(bad):
            break
        gradient, hessian, scale = data.system(estimator, trial[bad], active[bad])
        step = _step(gradient, hessian, scale, np.maximum(_STIFF, 10 * damping[bad]))
        corrected = np.clip(trial[bad] + step, data.problem.low, data.problem.high)
        value = data.cost(estimator, corrected, active[bad])
        lower = value < new[bad]
        trial[bad[lower]], new[bad[lower]] = corrected[lower], value[lower]
        if not lower.any():
            break
    return trial, new


_CORRECTIONS = 2
_STIFF = 0.05


def _norm(gradient: Floats, scale: Floats, cost: Floats) -> Floats:
    # the scale takes out the units of the parameters, the root of the cost those of the residuals
    size = np.max(np.abs(gradient / scale), axis=1)
    return np.asarray(size / np.sqrt(np.maximum(cost, 1e-290)))


def _step(gradient: Floats, hessian: Floats, scale: Floats, damping: Floats) -> Floats:
    """Return the damped Newton step; directions of negative curvature are walked downhill instead of up."""
    # scaled first, so that one damping suits parameters of all units
    scaled = hessian / (scale[:, :, None] * scale[:, None, :])
    if not np.isfinite(scaled).all():
        # a law that leaves its domain in one member must not end the search of the others
        scaled = np.nan_to_num(scaled, nan=0.0, posinf=1e100, neginf=-1e100)
    values, vectors = np.linalg.eigh(scaled)
    pull = np.einsum("spq,sp->sq", vectors, gradient / scale)
    length = pull / (np.abs(values) + damping[:, None])
    return np.asarray(-np.einsum("spq,sq->sp", vectors, length) / scale)
