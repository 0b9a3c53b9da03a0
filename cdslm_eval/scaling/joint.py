"""Joint fits: one law over groups of runs, of which the groups share all, E and exponents, exponents, or nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling.axis import Axis
from cdslm_eval.scaling.bootstrap import Bootstrap, resampling_weights
from cdslm_eval.scaling.fit import fit_law
from cdslm_eval.scaling.flags import objective_unit
from cdslm_eval.scaling.frontier import Resampling
from cdslm_eval.scaling.law import Law, LawSpec, get_form
from cdslm_eval.scaling.objective import Estimator, Points, make_estimator
from cdslm_eval.scaling.problem import LawProblem, law_problem
from cdslm_eval.scaling.solver import minimise
from cdslm_eval.scaling.table import RunTable

__all__ = ["SHARING", "JointFit", "joint_fits"]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
# what the groups have in common, from all to nothing
SHARING = {
    "all": "one law for all",
    "E and exponents": "coefficients of each group",
    "exponents": "coefficients and E of each group",
    "nothing": "a law of each group",
}
_STARTS = 6
# AICc above the best up to which what groups share is in doubt (Burnham & Anderson 2002, section 2.6: 4 to 7 and more)
_PLAUSIBLE = 7.0
# rows a group for each parameter of a law, from which on criteria and intervals have their nominal coverage: with 4, 6
# and 7 rows for 5 parameters .95 intervals held .37 to .52, .82 to .85 and .80 to .98 of simulated multipliers, with
# 10 .92
_ROWS_PER_PARAMETER = 2


@dataclass(frozen=True, eq=False)
class JointFit:
    """One fit to all groups, of which some parameters are shared.

    Attributes:
        shared: A key of `SHARING`.
        laws: Group -> its law.
        draws: Group -> its replicates, drawn together with those of the other groups; empty without a bootstrap, and of
            fits that do not separate the groups or have over 7 of AICc above the best that does.
        parameters: How many were fitted.
        objective: Sum of the estimator's cost.
        criterion: Corrected Akaike criterion, less that of the best joint fit.
        p: Probability, by chance, of a law of each group being so much better; NaN for that itself.
        unknown: Why it has neither replicates nor p, or "".
    """

    shared: str
    laws: dict[str, Law]
    draws: dict[str, Bootstrap]
    parameters: int
    objective: float
    criterion: float
    p: float = math.nan
    unknown: str = ""


@dataclass(frozen=True, eq=False)
class _Groups:
    """A law over several groups as one problem: its coordinates are the shared ones once, the others per group."""

    problems: tuple[LawProblem, ...]
    rows: tuple[npt.NDArray[np.intp], ...]
    index: npt.NDArray[np.intp]
    low: Floats
    high: Floats

    @classmethod
    def of(cls, whole: LawProblem, label: npt.NDArray[np.intp], shared: npt.NDArray[np.bool_]) -> _Groups:
        """Return the problem of one law's form over groups of its rows; all keep the centre of the whole."""
        groups, size = int(label.max()) + 1, len(whole.low)
        index = np.zeros((groups, size), np.intp)
        low: list[float] = []
        high: list[float] = []
        for k in range(size):
            count = 1 if shared[k] else groups
            index[:, k] = len(low) + (np.zeros(groups, np.intp) if shared[k] else np.arange(groups))
            low += [float(whole.low[k])] * count
            high += [float(whole.high[k])] * count
        rows = tuple(np.flatnonzero(label == group) for group in range(groups))
        problems = tuple(replace(whole, x=whole.x[:, own]) for own in rows)
        return cls(problems, rows, index, np.array(low), np.array(high))

    def join(self, theta: Sequence[Floats], shared: Floats) -> Floats:
        """Return joint coordinates `[P]` of each group's own `[size]` and those to take where they are shared."""
        out = np.zeros(len(self.low))
        for own, index in zip(theta, self.index, strict=True):
            out[index] = own
        common = (self.index == self.index[0]).all(axis=0)
        if len(self.index) > 1:
            out[self.index[0][common]] = shared[common]
        return np.asarray(np.clip(out, self.low, self.high))

    def predict(self, theta: Floats) -> Floats:
        """Return z, `[S, n]`."""
        z = np.empty((len(theta), sum(map(len, self.rows))))
        for problem, rows, index in zip(self.problems, self.rows, self.index, strict=True):
            z[:, rows] = problem.predict(theta[:, index])
        return z

    def points(self, theta: Floats) -> Points:
        """Return z with its derivatives."""
        count, size = sum(map(len, self.rows)), theta.shape[1]
        z, jacobian = np.empty((len(theta), count)), np.zeros((len(theta), count, size))
        parts = [p.points(theta[:, index]) for p, index in zip(self.problems, self.index, strict=True)]
        for part, rows, index in zip(parts, self.rows, self.index, strict=True):
            z[:, rows] = part.z
            jacobian[:, rows[:, None], index[None]] = part.jacobian

        def hessian(weights: Floats) -> Floats:
            out = np.zeros((len(theta), size, size))
            for part, rows, index in zip(parts, self.rows, self.index, strict=True):
                out[:, index[:, None], index[None]] += part.hessian(weights[:, rows])
            return out

        return Points(z, jacobian, hessian)


@dataclass(frozen=True, eq=False)
class _Data:
    """What all joint fits have in common."""

    names: tuple[str, ...]
    table: RunTable
    metric: str
    label: Indices
    whole: LawProblem
    cost: Estimator
    target: Floats


@dataclass(frozen=True, eq=False)
class _Solved:
    """A joint optimum."""

    shared: str
    problem: _Groups
    theta: Floats
    objective: float


def joint_fits(
    train: RunTable,
    metric: str,
    groups: Mapping[str, Mapping[str, float] | None],
    label: Indices,
    axis: Axis,
    spec: LawSpec,
    how: Resampling,
) -> tuple[JointFit, ...]:
    """Fit a law to groups of rows in every way of sharing for which each group has rows enough.

    Args:
        train: The rows.
        metric: Name of the metric.
        groups: Name of each group -> parameters of its own law, from which searches start; None where it has none.
        label: Group of each row, `[rows]`.
        axis: The metric's axis, the same for all groups.
        spec: The law, and how it is fitted.
        how: How intervals are made; rows are drawn within each group.

    Raises:
        UsageError: A group has no more rows than coefficients of its own.
    """
    form, sizes = get_form(spec.form), np.bincount(label, minlength=len(groups))
    needed = len(form.coefficients)
    for name, size in zip(groups, sizes, strict=True):
        # a group with no more rows than parameters of its own is met exactly, which is no evidence
        if size <= needed:
            raise UsageError(f"group {name!r} has {size} usable train rows, and a joint fit needs over {needed}")
    whole = law_problem(form, axis, train, axis.orient(train.metric(metric)))
    cost = make_estimator(spec.estimator, spec.delta)
    data = _Data(tuple(groups), train, metric, label, whole, cost, axis.target(train.metric(metric)))
    pooled = whole.inner(fit_law(train, metric, spec).parameters)
    own = [pooled if parameters is None else whole.inner(parameters) for parameters in groups.values()]
    solutions = [
        _solve(data, shared, mask, pooled, own)
        for shared, mask in _shares(whole).items()
        if min(sizes) > int(np.sum(~mask))
    ]
    unknown = _too_few(data, sizes.tolist())
    judged = [
        (replace(fit, p=math.nan, unknown=unknown) if unknown else fit, solution)
        for fit, solution in _judged(solutions, data)
    ]
    for fit, solution in judged:
        _set_laws(fit, solution, data)
    apart = [pair for pair in judged if pair[0].shared != "all"]
    if apart and how.replicates and not unknown:
        _set_draws(apart, data, how)
    return tuple(fit for fit, _ in judged)


def _too_few(data: _Data, sizes: Sequence[int]) -> str:
    """Return why the rows are too few to tell what groups share, or "".

    Residuals of hardly more rows than parameters are far below the noise, and every criterion counts in units of it.
    """
    needed = _ROWS_PER_PARAMETER * len(data.whole.low)
    name, size = min(zip(data.names, sizes, strict=True), key=lambda pair: pair[1])
    if size >= needed:
        return ""
    return f"group {name!r} has {size} rows, and what groups share is decided from {needed} rows a group on"


def _shares(whole: LawProblem) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which coordinates each way of sharing has in common, `[P]`."""
    numbers = np.arange(len(whole.low))
    exponents = ~np.isin(numbers, [0, *whole.form.coefficients])
    masks = (np.ones(len(numbers), bool), exponents | (numbers == 0), exponents, np.zeros(len(numbers), bool))
    return dict(zip(SHARING, masks, strict=True))


def _solve(data: _Data, shared: str, mask: npt.NDArray[np.bool_], pooled: Floats, own: Sequence[Floats]) -> _Solved:
    """Search from the pooled law, and from each group's coefficients with the exponents of the largest groups."""
    problem = _Groups.of(data.whole, data.label, mask)
    largest = np.argsort(-np.bincount(data.label), kind="stable")[:_STARTS]
    starts = [problem.join([pooled] * len(own), pooled), *(problem.join(own, own[k]) for k in largest)]
    solution = minimise(problem, data.cost, data.target, data.table.weight, np.array(starts))
    best = int(np.argmin(solution.objective))
    return _Solved(shared, problem, solution.theta[best], float(solution.objective[best]))


def _judged(solutions: Sequence[_Solved], data: _Data) -> list[tuple[JointFit, _Solved]]:
    """Return the fits with criteria and ratio tests, in the unit in which an objective is a likelihood."""
    last = solutions[-1]
    unit = max(objective_unit(last.problem, data.cost, data.table, data.target, last.theta), 1e-300)
    rows, scores = len(data.table), []
    for solution in solutions:
        size = len(solution.theta)
        scores.append(2 * solution.objective / unit + 2 * size * rows / max(rows - size - 1, 1))
    fits = []
    for k, solution in enumerate(solutions):
        further = len(last.theta) - len(solution.theta)
        gain = max(0.0, 2 * (solution.objective - last.objective) / unit)
        p = float(chi2.sf(gain, further)) if further else math.nan
        score = scores[k] - min(scores)
        fit = JointFit(solution.shared, {}, {}, len(solution.theta), solution.objective, score, p)
        fits.append((fit, solution))
    return fits


def _weights(train: RunTable, label: Indices, how: Resampling) -> tuple[Floats, int]:
    """Return weights `[replicates, rows]` drawn within each group, and how many units there were to draw from."""
    weights, units = np.empty((how.replicates, len(train))), 0
    for group in range(int(label.max()) + 1):
        rows = np.flatnonzero(label == group)
        weights[:, rows], count = resampling_weights(train.select(rows), how.by, how.replicates, how.seed + group)
        units += count
    return weights, units


def _set_laws(fit: JointFit, solution: _Solved, data: _Data) -> None:
    """Set the law of each group."""
    form, axis, cost = data.whole.form.name, data.whole.axis, data.table.cost
    for name, index in zip(data.names, solution.problem.index, strict=True):
        natural = data.whole.natural(solution.theta[None, index])
        fit.laws[name] = Law(form, {key: float(value[0]) for key, value in natural.items()}, cost, axis)


def _set_draws(apart: Sequence[tuple[JointFit, _Solved]], data: _Data, how: Resampling) -> None:
    """Set replicates of every fit that separates the groups and is plausible."""
    weights, units = _weights(data.table, data.label, how)
    least = min(fit.criterion for fit, _ in apart)
    for fit, solution in apart:
        if fit.criterion - least <= _PLAUSIBLE:
            fit.draws.update(_drawn(solution, weights, units, data, how))


def _drawn(solution: _Solved, weights: Floats, units: int, data: _Data, how: Resampling) -> dict[str, Bootstrap]:
    """Return replicates of each group's law under weights of the rows, `[replicates, rows]`."""
    start = np.repeat(solution.theta[None], len(weights), axis=0)
    # LAD may stop at a vertex next to its start, so it comes from a smooth cost
    refits = minimise(solution.problem, data.cost, data.target, weights, start, homotopy=data.cost.name == "lad")
    # whole runs or budgets may be fewer than the parameters: they lose one degree per group
    free = max(1, units - (len(solution.theta) if how.by == "row" else len(data.names)))
    form, axis, cost = data.whole.form.name, data.whole.axis, data.table.cost
    draws = {}
    for name, index in zip(data.names, solution.problem.index, strict=True):
        drawn = (data.whole.natural(refits.theta[:, index]), refits.objective, refits.converged)
        draws[name] = Bootstrap(*drawn, how.by, units, free, how.seed, form, axis, cost)
    return draws
