"""The exact optimum of least absolute deviations: a vertex, where as many residuals are 0 as there are parameters.

From a nearby start the active rows are exchanged one at a time (the simplex step of Barrodale and Roberts, on the
linearised residuals, with a Newton correction onto the new vertex), for a whole batch of problems at once.

Source: Barrodale & Roberts, "An improved algorithm for discrete l1 linear approximation" (1973).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cdslm_eval.scaling.objective import Problem

__all__ = ["polish"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]

_PIVOTS = 100
_TOLERANCE = 1e-9


def polish(
    problem: Problem, target: Floats, weights: Floats, theta: Floats, free: Bools
) -> tuple[Floats, Floats, Bools]:
    """Exchange active rows until no neighbouring vertex is lower.

    Args:
        problem: The predictions.
        target: `[S, n]`.
        weights: `[S, n]`, not negative.
        theta: Where to start, `[S, P]`.
        free: Which parameters may move, `[P]`.

    Returns:
        The vertices `[S, P]`, by how much the worst multiplier exceeds its weight `[S]`, whether each is an optimum.
    """
    walk = _Walk(problem, target, weights, free)
    rows = walk.nearest(theta)
    # a parameter at its bound, or too few independent rows, leaves no vertex to start from
    ready = rows[:, 0] >= 0
    theta = theta.copy()
    theta[ready] = walk.onto(theta[ready], rows[ready], np.flatnonzero(ready))
    cost = walk.cost(theta, np.arange(len(theta)))
    excess = np.full(len(theta), np.inf)
    # edges that fall by the linearisation but not in truth; forgotten at the next vertex, which has other edges
    blocked = np.zeros(rows.shape, bool)
    active = np.flatnonzero(ready & np.isfinite(cost))
    for _ in range(_PIVOTS):
        if not len(active):
            break
        pivot = walk.pivot(theta[active], rows[active], blocked[active], active)
        excess[active] = pivot.excess
        go = np.flatnonzero(pivot.possible)
        members = active[go]
        next_rows = rows[members]
        next_rows[np.arange(len(members)), pivot.leaves[go]] = pivot.enters[go]
        there = walk.onto(theta[members] + pivot.step[go], next_rows, members)
        new = walk.cost(there, members)
        # the step was planned on linearised residuals, so the true cost decides
        lower = new < cost[members]
        won, lost = members[lower], members[~lower]
        theta[won], cost[won], rows[won], blocked[won] = there[lower], new[lower], next_rows[lower], False
        blocked[lost, pivot.leaves[go][~lower]] = True
        active = members
    return theta, excess, excess <= _TOLERANCE


class _Pivot:
    """For each problem: which active row leaves, which enters, and the step between the vertices."""

    def __init__(self, excess: Floats, possible: Bools, leaves: Indices, enters: Indices, step: Floats) -> None:
        self.excess, self.possible, self.leaves, self.enters, self.step = excess, possible, leaves, enters, step


class _Walk:
    """A batch of problems under way."""

    def __init__(self, problem: Problem, target: Floats, weights: Floats, free: Bools) -> None:
        self.problem, self.target, self.weights = problem, target, weights
        self.free = np.flatnonzero(free)

    def cost(self, theta: Floats, members: Indices) -> Floats:
        cost = np.einsum("sn,sn->s", self.weights[members], np.abs(self.problem.predict(theta) - self.target[members]))
        inside = np.all((theta >= self.problem.low) & (theta <= self.problem.high), axis=1)
        return np.where(np.isfinite(cost) & inside, cost, np.inf)

    def linear(self, theta: Floats, members: Indices) -> tuple[Floats, Floats]:
        points = self.problem.points(theta)
        return points.z - self.target[members], points.jacobian[:, :, self.free]

    def nearest(self, theta: Floats) -> Indices:
        """Return the rows of least residual whose slopes are independent, `[S, P]`; -1 where there are too few."""
        residual, jacobian = self.linear(theta, np.arange(len(theta)))
        count = len(self.free)
        # strictly inside: a bound that holds a parameter takes the place of a residual at 0
        inside = np.all((theta > self.problem.low) & (theta < self.problem.high), axis=1)
        # a row that a replicate leaves out has no kink to rest on
        size = np.where(self.weights > 0, np.abs(residual), np.inf)
        norms = np.linalg.norm(jacobian, axis=2)
        # Gram-Schmidt: a row whose slopes repeat those of chosen ones would make the basis singular
        left = jacobian.copy()
        rows = np.full((len(theta), count), -1)
        good = inside & np.all(np.isfinite(residual), axis=1)
        every = np.arange(len(theta))
        for k in range(count):
            independent = np.linalg.norm(left, axis=2) > 1e-3 * np.maximum(norms, 1e-300)
            choice = np.argmin(np.where(independent, size, np.inf), axis=1)
            good &= independent[every, choice] & np.isfinite(size[every, choice])
            rows[:, k] = choice
            unit = left[every, choice]
            unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-300)
            left = left - np.einsum("snp,sp->sn", left, unit)[..., None] * unit[:, None, :]
        rows[~good] = -1
        return rows

    def onto(self, theta: Floats, rows: Indices, members: Indices) -> Floats:
        """Return the vertex at which the residuals of `rows` are 0, by Newton's method."""
        theta = theta.copy()
        every = np.arange(len(theta))[:, None]
        for _ in range(4):
            residual, jacobian = self.linear(np.clip(theta, self.problem.low, self.problem.high), members)
            step = _solve(jacobian[every, rows], residual[every, rows])
            # a nearly singular basis throws Newton far off
            theta[:, self.free] -= np.clip(np.nan_to_num(step), -1.0, 1.0)
        return np.asarray(np.clip(theta, self.problem.low, self.problem.high))

    def pivot(self, theta: Floats, rows: Indices, blocked: Bools, members: Indices) -> _Pivot:
        """Return which residual leaves 0 and which comes to 0 in the best step along an edge from each vertex."""
        residual, jacobian = self.linear(theta, members)
        weights = self.weights[members]
        every = np.arange(len(theta))
        resting = np.zeros(residual.shape, bool)
        resting[every[:, None], rows] = True
        # ties: a row at 0 that is not in the basis pulls neither way, and resists every departure
        zero = resting | (np.abs(residual) < 1e-13)
        pull = -np.einsum("sn,snp->sp", weights * np.where(zero, 0.0, np.sign(residual)), jacobian)
        basis = jacobian[every[:, None], rows]
        # optimal where no multiplier exceeds its row's weight: the subdifferential then holds 0
        multiplier = _solve(basis.transpose(0, 2, 1), pull)
        own = weights[every[:, None], rows]
        # direction k lets active row k alone depart: columns of the inverse basis
        inverse = _solve(basis, np.broadcast_to(np.eye(basis.shape[1]), basis.shape))
        turned = np.matmul(jacobian, inverse)
        extra = np.einsum("sn,snk->sk", weights * (zero & ~resting), np.abs(turned))
        rise = own + extra - np.abs(multiplier)
        excess = np.max(-rise / np.maximum(np.abs(multiplier), 1e-300), axis=1)
        open_rise = np.where(blocked, np.inf, rise / np.maximum(np.abs(multiplier), 1e-300))
        leaves = np.argmin(open_rise, axis=1)
        possible = open_rise[every, leaves] < -_TOLERANCE
        sign = np.sign(multiplier[every, leaves])
        along = turned[every, :, leaves] * sign[:, None]
        step = np.zeros_like(theta)
        step[:, self.free] = inverse[every, :, leaves] * sign[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = np.where(~zero & (weights > 0), -residual / along, np.nan)
        reach = np.where(reach > 0, reach, np.inf)
        # the cost along an edge is convex and piecewise linear: pass kinks until its slope turns up
        order = np.argsort(reach, axis=1)
        slopes = np.take_along_axis(2 * weights * np.abs(along), order, axis=1)
        slopes = np.where(np.isfinite(np.take_along_axis(reach, order, axis=1)), slopes, 0.0)
        up = rise[every, leaves][:, None] + np.cumsum(slopes, axis=1) >= 0
        lowest = np.argmax(up, axis=1)
        enters = order[every, lowest]
        length = reach[every, enters]
        possible &= up[every, lowest] & np.isfinite(length)
        return _Pivot(excess, possible, leaves, enters, step * np.where(np.isfinite(length), length, 0.0)[:, None])


def _solve(matrices: Floats, right: Floats) -> Floats:
    """Solve a batch; a singular member gives NaN instead of ending the batch."""
    vector = right.ndim == matrices.ndim - 1
    right = right[..., None] if vector else right
    try:
        out = np.linalg.solve(matrices, right)
    except np.linalg.LinAlgError:
        out = np.full(right.shape, np.nan)
        for i, (matrix, value) in enumerate(zip(matrices, right, strict=True)):
            if np.isfinite(matrix).all() and np.linalg.matrix_rank(matrix) == len(matrix):
                out[i] = np.linalg.solve(matrix, value)
    return np.asarray(out[..., 0] if vector else out)
