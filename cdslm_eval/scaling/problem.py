"""A law over data as a problem for the solver: centred coordinates in, natural parameters out; seeds by projection."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.law import LawForm
from cdslm_eval.scaling.axis import Axis
from cdslm_eval.scaling.objective import Points
from cdslm_eval.scaling.table import RunTable

__all__ = ["LawProblem", "at_bound", "columns_of", "law_problem"]

Floats = npt.NDArray[np.float64]
_FLOOR_RANGE = (-15.0, 0.5)  # ln E below and above ln of the typical u: below, a floor is 0 to seven digits


@dataclass(frozen=True)
class LawProblem:
    """Predictions of a form on the residual scale.

    Attributes:
        form: The form.
        axis: The metric's axis.
        x: Centred logarithms of the form's columns, `[columns, n]`.
        centre: What was taken off them, `[columns]`.
        typical: A typical u, which sizes the box of the parameters.
        low, high: The box, `[P]`.
    """

    form: LawForm
    axis: Axis
    x: Floats
    centre: Floats
    typical: float
    low: Floats
    high: Floats

    def predict(self, theta: Floats) -> Floats:
        """Return z, `[S, n]`."""
        excess = self.form.excess(theta[:, 1:], self.x, self.centre, derivatives=False).value
        return self.axis.link.forward(self._floor(theta[:, :1]) + excess)[0]

    def points(self, theta: Floats) -> Points:
        """Return z with its derivatives."""
        u, jacobian, inner = self.values(theta)
        z, slope, bend = self.axis.link.forward(u)

        def hessian(weights: Floats) -> Floats:
            # second derivatives of link(u): link'' u' u'^T here, link' u'' by the form
            direct: Floats = np.matmul((jacobian * (weights * bend)[..., None]).transpose(0, 2, 1), jacobian)
            return direct + inner(weights * slope)

        return Points(z, slope[..., None] * jacobian, hessian)

    def values(self, theta: Floats) -> tuple[Floats, Floats, Callable[[Floats], Floats]]:
        """Return u `[S, n]`, its jacobian `[S, n, P]`, and weights `[S, n]` -> the weighted sum of its Hessians."""
        excess = self.form.excess(theta[:, 1:], self.x, self.centre)
        floor = self._floor(theta[:, :1])
        # a positive floor is searched in its logarithm, which needs no bound at 0
        slope = floor if self.axis.link.positive_floor else np.full_like(floor, self.typical)
        first = np.broadcast_to(slope[:, :, None], (*excess.value.shape, 1))
        jacobian = np.concatenate([first, excess.jacobian], axis=2)

        def hessian(weights: Floats) -> Floats:
            out = np.zeros((len(theta), theta.shape[1], theta.shape[1]))
            out[:, 1:, 1:] = excess.hessian(weights)
            if self.axis.link.positive_floor:
                out[:, 0, 0] = weights.sum(axis=1) * floor[:, 0]
            return out

        return floor + excess.value, jacobian, hessian

    def _floor(self, theta: Floats) -> Floats:
        return np.exp(theta) if self.axis.link.positive_floor else theta * self.typical

    def at(self, table: RunTable) -> LawProblem:
        """Return the same parameters over other rows."""
        # the centre stays that of the fit, since coefficients are values at that point
        return replace(self, x=np.log(columns_of(self.form, table)) - self.centre[:, None])

    def natural(self, theta: Floats) -> dict[str, Floats]:
        """Return parameters in natural units, each `[S]`: E in the metric's units, then those of the form."""
        floor = {"E": self.axis.restore(self._floor(theta[:, 0]))}
        return {**floor, **self.form.natural(theta[:, 1:], self.centre)}

    def inner(self, parameters: Mapping[str, float]) -> Floats:
        """Return theta `[P]` for natural parameters: the inverse of `natural`."""
        floor = float(self.axis.orient(parameters["E"]))
        first = np.log(max(floor, 1e-300)) if self.axis.link.positive_floor else floor / self.typical
        theta = np.concatenate([[first], self.form.search_coordinates(parameters, self.centre)])
        return np.asarray(np.clip(theta, self.low, self.high))

    def seeds(self, u: Floats, weights: Floats, count: int) -> Floats:
        """Return starting points `[count, P]`: floor and linear coefficients projected out at the form's candidates.

        The best candidates come first, then points spread over their ranks, so that a far basin is tried as well.
        """
        theta, cost = self._project(u, weights, self.form.candidates(self.low[1:], self.high[1:]))
        order = np.argsort(cost)
        best = order[: count - count // 2]
        spread = order[np.linspace(0, len(order) - 1, count // 2).astype(int)]
        theta = self.form.disperse(theta[np.concatenate([best, spread])])
        return np.asarray(np.clip(theta, self.low, self.high))

    def _project(self, u: Floats, weights: Floats, candidates: Floats) -> tuple[Floats, Floats]:
        """Return theta `[G, P]` and cost `[G]` of weighted least squares of u in the floor and the coefficients.

        Residuals are scaled by the link's slope at the data, which makes them those of the link to first order. A
        negative coefficient is not allowed: every subset of the columns is solved, and the best of those without one is
        taken.
        """
        linear = self.form.coefficients
        scale = np.sqrt(weights) * self.axis.link.forward(u)[1]
        powers = self.form.design(candidates, self.x, self.centre)
        rest = u
        if not linear:  # nothing to project but the floor, under an excess that stays as the candidate has it
            rest = u - self.form.excess(candidates, self.x, self.centre, derivatives=False).value
        columns = [np.ones((len(candidates), u.size)), *np.moveaxis(powers, 2, 0)]
        # a candidate whose values leave the range of numbers is merely a bad one
        design = np.nan_to_num(np.stack(columns, axis=2) * scale[:, None], posinf=1e100, neginf=-1e100)
        target = np.nan_to_num(rest * scale, posinf=1e100, neginf=-1e100)
        solved, cost = _non_negative(design, target, signed=0 if self.axis.link.positive_floor else 1)
        theta = np.concatenate([np.zeros((len(candidates), 1)), candidates], axis=1)
        # a coefficient that the projection put to 0 starts small, but where the search can still feel it
        least = 1e-3 * self.typical
        floor = solved[:, 0]
        theta[:, 0] = np.log(np.maximum(floor, least)) if self.axis.link.positive_floor else floor / self.typical
        for index, value in zip(linear, solved.T[1:], strict=True):
            theta[:, index] = np.log(np.maximum(value, least))
        return theta, cost


def _non_negative(design: Floats, target: Floats, *, signed: int) -> tuple[Floats, Floats]:
    """Return least squares `[G, columns]` without negative coefficients, the first `signed` ones free, and costs.

    Args:
        design: `[G, n, columns]`.
        target: `[n]` or `[G, n]`.
        signed: How many of the first columns may have a negative coefficient.
    """
    gram = np.matmul(design.transpose(0, 2, 1), design)
    moment = np.einsum("gnp,n->gp" if target.ndim == 1 else "gnp,gn->gp", design, target)
    squares = target @ target if target.ndim == 1 else np.einsum("gn,gn->g", target, target)
    count, size = moment.shape
    best, out = np.full(count, np.inf), np.zeros((count, size))
    # columns are so few that all subsets, solved as a batch, are cheaper than a search for the active ones
    for subset in itertools.product((True, False), repeat=size):
        pick = np.flatnonzero(subset)
        if not len(pick):
            continue
        # an exponent near 0 makes a power constant, as the floor's column is
        ridge = 1e-12 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(len(pick))
        solved = np.linalg.solve(gram[:, pick][:, :, pick] + ridge, moment[:, pick, None])[..., 0]
        cost = squares - np.einsum("gp,gp->g", solved, moment[:, pick])
        # coefficients are searched in logarithms, so none may be below 0
        better = np.all((solved > 0) | (pick < signed), axis=1) & (cost < best)
        best = np.where(better, cost, best)
        full = np.zeros_like(out)
        full[:, pick] = solved
        out = np.where(better[:, None], full, out)
    return out, best


def columns_of(form: LawForm, table: RunTable) -> Floats:
    """Return the columns that a form reads, `[columns, rows]`.

    Raises:
        UnknownNameError: The table has no such column.
        UsageError: A value is missing or not above 0.
    """
    values = [getattr(table, name) if name in "NDC" else table.metric(name) for name in form.columns]
    for name, column in zip(form.columns, values, strict=True):
        bad = np.flatnonzero(~(np.isfinite(column) & (column > 0)))
        if len(bad):
            raise UsageError(
                f"{table.source}, line {table.line[bad[0]]}: {name} = {column[bad[0]]:g}, and the law {form.name!r} "
                f"needs {name} above 0 in every row; use --exclude for such rows"
            )
    return np.stack(values)


def law_problem(form: LawForm, axis: Axis, table: RunTable, u: Floats) -> LawProblem:
    """Return the problem of fitting a form to a table's rows.

    Args:
        form: The form.
        axis: The metric's axis.
        table: The rows.
        u: The oriented metric, `[rows]`.
    """
    logs = np.log(columns_of(form, table))
    # a coefficient at N = 1 is all but collinear with its exponent; at the centroid it is not
    centre = logs.mean(axis=1)
    typical = float(np.median(np.abs(u))) or 1.0
    low, high = form.box(typical, centre)
    # a floor of either sign is in units of the typical value, and its range never binds
    floor = np.array(_FLOOR_RANGE) + np.log(typical) if axis.link.positive_floor else np.array([-1e3, 1e3])
    return LawProblem(
        form,
        axis,
        logs - centre[:, None],
        centre,
        typical,
        np.concatenate([floor[:1], low]),
        np.concatenate([floor[1:], high]),
    )


def at_bound(problem: LawProblem, theta: Floats) -> list[str]:
    """Return the names of exponents, gamma and other profiled parameters that are at a bound of their range."""
    tolerance = 1e-9
    return [
        name
        for name, index in problem.form.profiled.items()
        if theta[index] <= problem.low[index] + tolerance or theta[index] >= problem.high[index] - tolerance
    ]
