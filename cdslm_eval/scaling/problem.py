"""A law over data as a problem for the solver: centred coordinates in, natural parameters out; seeds by projection."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cdslm_eval.scaling.forms import Form, Gamma
from cdslm_eval.scaling.links import Axis
from cdslm_eval.scaling.solver import Points
from cdslm_eval.scaling.table import RunTable

__all__ = ["LawProblem", "law_problem"]

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

    form: Form
    axis: Axis
    x: Floats
    centre: Floats
    typical: float
    low: Floats
    high: Floats

    def predict(self, theta: Floats) -> Floats:
        """Return z, `[S, n]`."""
        excess = self.form.excess(theta, self.x, derivatives=False).value
        return self.axis.link.forward(self._floor(theta[:, :1]) + excess)[0]

    def points(self, theta: Floats) -> Points:
        """Return z with its derivatives."""
        u, jacobian, inner = self.values(theta)
        z, slope, bend = self.axis.link.forward(u)

        def hessian(weights: Floats) -> Floats:
            direct: Floats = np.matmul((jacobian * (weights * bend)[..., None]).transpose(0, 2, 1), jacobian)
            return direct + inner(weights * slope)

        return Points(z, slope[..., None] * jacobian, hessian)

    def values(self, theta: Floats) -> tuple[Floats, Floats, Callable[[Floats], Floats]]:
        """Return u `[S, n]`, its jacobian `[S, n, P]`, and weights `[S, n]` -> the weighted sum of its Hessians."""
        excess = self.form.excess(theta, self.x)
        floor = self._floor(theta[:, :1])
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
        logs = np.log(np.stack([getattr(table, name) for name in self.form.columns]))
        return replace(self, x=logs - self.centre[:, None])

    def natural(self, theta: Floats) -> dict[str, Floats]:
        """Return parameters in natural units, each `[S]`: E in the metric's units, log_A, alpha, ..., A, B."""
        named = dict(zip(self.form.inner, theta.T, strict=True))
        gamma = named.get("gamma", np.ones(len(theta)))
        out: dict[str, Floats] = {"E": self.axis.restore(self._floor(theta[:, 0]))}
        for k, c, e in self.form.terms:
            coefficient = self.form.inner[c]
            logarithm = (theta[:, c] + theta[:, e] * self.centre[k]) / gamma
            out[coefficient.removeprefix("log_")] = np.exp(np.minimum(logarithm, 700.0))
            out[coefficient] = logarithm
            out[self.form.inner[e]] = theta[:, e] / gamma
        if "gamma" in named:
            out["gamma"] = gamma
        return out

    def inner(self, parameters: dict[str, float]) -> Floats:
        """Return theta `[P]` for natural parameters: the inverse of `natural`."""
        theta = np.zeros(len(self.form.inner))
        floor = float(self.axis.orient(parameters["E"]))
        gamma = parameters.get("gamma", 1.0)
        theta[0] = np.log(max(floor, 1e-300)) if self.axis.link.positive_floor else floor / self.typical
        for k, c, e in self.form.terms:
            exponent = parameters[self.form.inner[e]] * gamma
            theta[e], theta[c] = exponent, parameters[self.form.inner[c]] * gamma - exponent * self.centre[k]
        if "gamma" in parameters:
            theta[-1] = gamma
        return np.asarray(np.clip(theta, self.low, self.high))

    def seeds(self, u: Floats, weights: Floats, count: int) -> Floats:
        """Return starting points `[count, P]`: floor and coefficients projected out on a grid of exponents.

        The grid's best points come first, then points spread over its ranks, so that a far basin is tried as well.
        """
        exponents = self.form.exponents
        values = np.geomspace(0.03, 2.0, 40 if len(exponents) == 1 else 16)
        grid = np.array(list(itertools.product(values, repeat=len(exponents))))
        theta, cost = self._project(u, weights, grid)
        order = np.argsort(cost)
        best = order[: count - count // 2]
        spread = order[np.linspace(0, len(order) - 1, count // 2).astype(int)]
        theta = theta[np.concatenate([best, spread])]
        if isinstance(self.form, Gamma):
            theta[:, -1] = np.resize([1.0, 0.5, 2.0], len(theta))
        return np.asarray(np.clip(theta, self.low, self.high))

    def _project(self, u: Floats, weights: Floats, grid: Floats) -> tuple[Floats, Floats]:
        """Return theta `[G, P]` and cost `[G]` of weighted least squares of u in the floor and the coefficients.

        Residuals are scaled by the link's slope at the data, which makes them those of the link to first order. A
        negative coefficient is not allowed: every subset of the columns is solved, and the best of those without one is
        taken.
        """
        scale = np.sqrt(weights) * self.axis.link.forward(u)[1]
        exponent_of = {e: grid[:, i] for i, e in enumerate(self.form.exponents)}
        columns = [np.ones((len(grid), u.size))]
        columns += [np.exp(-exponent_of[e][:, None] * self.x[k]) for k, _, e in self.form.terms]
        design = np.stack(columns, axis=2) * scale[:, None]
        target = u * scale
        gram = np.matmul(design.transpose(0, 2, 1), design)
        moment = np.einsum("gnp,n->gp", design, target)
        size = gram.shape[1]
        best = np.full(len(grid), np.inf)
        found = np.zeros((len(grid), size))
        for subset in itertools.product((True, False), repeat=size):
            pick = np.flatnonzero(subset)
            if not len(pick):
                continue
            some = gram[:, pick][:, :, pick] + 1e-12 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(
                len(pick)
            )
            solved = np.linalg.solve(some, moment[:, pick, None])[..., 0]
            cost = target @ target - np.einsum("gp,gp->g", solved, moment[:, pick])
            signed = 0 if self.axis.link.positive_floor else 1
            allowed = np.all((solved > 0) | (pick < signed), axis=1)
            better = allowed & (cost < best)
            best = np.where(better, cost, best)
            full = np.zeros_like(found)
            full[:, pick] = solved
            found = np.where(better[:, None], full, found)
        theta = np.zeros((len(grid), len(self.form.inner)))
        # a coefficient that the projection put to 0 starts small, but where the search can still feel it
        least = 1e-3 * self.typical
        floor = found[:, 0]
        theta[:, 0] = np.log(np.maximum(floor, least)) if self.axis.link.positive_floor else floor / self.typical
        for (_, c, e), value in zip(self.form.terms, found.T[1:], strict=True):
            theta[:, c], theta[:, e] = np.log(np.maximum(value, least)), exponent_of[e]
        return theta, best


def law_problem(form: Form, axis: Axis, table: RunTable, u: Floats) -> LawProblem:
    """Return the problem of fitting a form to a table's rows.

    Args:
        form: The form.
        axis: The metric's axis.
        table: The rows.
        u: The oriented metric, `[rows]`.
    """
    logs = np.log(np.stack([getattr(table, name) for name in form.columns]))
    centre = logs.mean(axis=1)
    typical = float(np.median(np.abs(u))) or 1.0
    low, high = form.bounds()
    for c in form.coefficients:
        low[c - 1] += np.log(typical)
        high[c - 1] += np.log(typical)
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


def box_sides(problem: LawProblem, theta: Floats) -> list[str]:
    """Return the names of exponents and gamma that stand at a bound of their range."""
    tolerance = 1e-9
    names = [problem.form.inner[e] for e in problem.form.exponents] + (
        ["gamma"] if "gamma" in problem.form.inner else []
    )
    out = []
    for name in names:
        i = problem.form.inner.index(name)
        if theta[i] <= problem.low[i] + tolerance or theta[i] >= problem.high[i] - tolerance:
            out.append(name)
    return out
