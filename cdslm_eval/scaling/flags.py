"""Flags: what a reader of a fit must know; a doubt means that the fit is not to be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cdslm_eval.scaling.adequacy import Residuals, families, misfits
from cdslm_eval.scaling.law import Law
from cdslm_eval.scaling.objective import Estimator, Problem
from cdslm_eval.scaling.problem import LawProblem, at_bound
from cdslm_eval.scaling.rows import find_budgets
from cdslm_eval.scaling.solver import Solution, minimise
from cdslm_eval.scaling.table import RunTable

__all__ = ["Flag", "Search", "distrusted", "extrapolation_flags", "fit_flags", "objective_unit", "table_flags"]

Floats = npt.NDArray[np.float64]
_SAME_OBJECTIVE = 1e-6  # relative: two seeds that come this near found one optimum
_RIVAL_OBJECTIVE = 1e-3  # relative: another optimum this near is a rival
_TOP = 0.85  # quantile of C from which on budgets count as the largest
_LEAST_RATIO, _LEAST_COMPUTE = 0.01, 1e10  # no language model was trained on less
_EXACT = 1e-12
# flags of a law that still fits its rows: they limit what may be concluded beyond them
_BEYOND = frozenset({"E_unidentified", "optimum_outside_range", "seeds_apart"})
_CHI_SQUARE = 3.841458820694124  # 95 % quantile with one degree of freedom


@dataclass(frozen=True, slots=True)
class Flag:
    """One thing that a reader must know.

    Attributes:
        name: Short name, such as "E_unidentified".
        sentence: What it means here, without a full stop.
        value: The number behind it.
        doubt: Whether it forbids trusting what its scope covers.
        scope: "law" (its residuals, its search), "table" (its rows), "budget" (what is stated under a budget C), or
            "curvature" (kappa and the near-optimal range).
    """

    name: str
    sentence: str
    value: float
    doubt: bool = True
    scope: str = "law"


@dataclass(frozen=True, eq=False)
class Search:
    """A finished search of a law, as the flags read it.

    Attributes:
        problem, estimator: What was minimised.
        table: The fitted rows.
        target: The metric on the residual scale, `[rows]`.
        solution: The optimum from every start.
        law: The law at the best of them.
    """

    problem: LawProblem
    estimator: Estimator
    table: RunTable
    target: Floats
    solution: Solution
    law: Law

    @property
    def best(self) -> int:
        """Index of the best start."""
        return int(np.argmin(self.solution.objective))

    @property
    def theta(self) -> Floats:
        """The optimum, `[P]`."""
        return np.asarray(self.solution.theta[self.best])


def fit_flags(search: Search) -> tuple[Flag, ...]:
    """Return what the search itself shows about its result."""
    problem, theta, target = search.problem, search.theta, search.target
    if np.ptp(target) <= 1e-12 * max(1.0, float(np.max(np.abs(target)))):
        return (Flag("constant", "the metric is the same in every row, so there is nothing to fit", 0.0),)
    flags = [
        Flag("at_bound", f"{name} is at a bound of the search", float(theta[problem.form.profiled[name]]))
        for name in at_bound(problem, theta)
    ]
    # where rows are met to rounding, gradients are rounding as well
    exact = float(np.max(np.abs(target - problem.predict(theta[None])[0]))) < _EXACT
    if not search.solution.converged[search.best] and not exact:
        norm = float(search.solution.gradient[search.best])
        flags.append(Flag("gradient", f"the search did not reach an optimum (scaled gradient {norm:.1e})", norm))
    flags += _identification(problem, search.table, theta)
    flags += _rivals(search.solution, search.best)
    flags += _no_floor(search)
    flags += _misfit(problem, search.table, target, theta)
    flags += [Flag(name, sentence, p, doubt) for name, sentence, p, doubt in misfits(_residuals(search))]
    flags += [
        Flag("families", sentence, share, doubt, scope="table")
        for sentence, share, doubt in families(_residuals(search), search.table.labels)
    ]
    if search.law.has_optimum and not flags:
        flags += _outside(search.table, search.law)
    return tuple(flags)


def distrusted(flags: Iterable[Flag], *, within: bool = False) -> list[Flag]:
    """Return the flags that forbid trusting a law as such, whatever it is used for.

    Args:
        flags: Of the law.
        within: Whether it is used within its rows alone, so that flags of a law that still fits them are left out.
    """
    passed = _BEYOND if within else frozenset()
    return [flag for flag in flags if flag.doubt and flag.scope in {"law", "table"} and flag.name not in passed]


def _residuals(search: Search) -> Residuals:
    """Return the residuals of a search's optimum as the tests of goodness of fit read them."""
    points, table = search.problem.points(search.theta[None]), search.table
    columns = {name: np.log(getattr(table, name)) for name in ("C", "N", "D")}
    columns["D/N"] = columns["D"] - columns["N"]
    return Residuals(search.target - points.z[0], points.jacobian[0], columns, table.weight, table.run)


def _identification(problem: LawProblem, table: RunTable, theta: Floats) -> Iterator[Flag]:
    """Flag parameters to which the objective is insensitive, and directions along which it is flat."""
    points = problem.points(theta[None])
    jacobian = points.jacobian[0] * np.sqrt(table.weight)[:, None]
    felt = np.sqrt(np.mean(jacobian**2, axis=0))
    # a change of 0.1 in a log coefficient or an exponent that moves no prediction by 1e-6 is not felt
    unfelt = felt * 0.1 < 1e-6
    for name in np.array(problem.form.inner)[unfelt]:
        if name != "floor":
            yield Flag("unmoved", f"the objective is insensitive to {name}, which stays where the search started", 0.0)
    scale = np.where(unfelt, 1.0, np.linalg.norm(jacobian, axis=0))
    values = np.linalg.svd(jacobian[:, ~unfelt] / scale[~unfelt], compute_uv=False)
    lost = int(np.sum(values < 1e-7 * values[0])) + int(np.sum(unfelt[1:]))
    if lost:
        kinds = [name for name in ("N", "D", "C") if np.ptp(np.log(getattr(table, name))) < 1e-9]
        why = f": all rows have one {' and one '.join(kinds)}" if kinds else ""
        yield Flag(
            "rank_deficient", f"the data leave {lost} combination(s) of parameters undetermined{why}", float(lost)
        )


def _rivals(solution: Solution, best: int) -> Iterator[Flag]:
    least = solution.objective[best]
    tiny = 1e-20 * solution.theta.shape[1]
    near = solution.objective - least <= _RIVAL_OBJECTIVE * least + tiny
    same = solution.objective - least <= _SAME_OBJECTIVE * least + tiny
    apart = np.max(np.abs(solution.theta[:, 1:] - solution.theta[best, 1:]), axis=1) > 1e-3
    rivals = int(np.sum(near & apart & solution.converged))
    if rivals:
        count = len(solution.objective)
        yield Flag(
            "seeds_disagree",
            f"{rivals} of {count} starting points end elsewhere with an objective within 0.1 %",
            float(rivals),
        )
    elif np.mean(same) < 0.5:
        share = float(np.mean(same))
        yield Flag("seeds_apart", f"only {share:.0%} of the starting points reach the best optimum", share, doubt=False)


def _no_floor(search: Search) -> Iterator[Flag]:
    """Flag a floor without which the data are fitted as well (a ratio test), or that has no meaning of its own."""
    problem, estimator, table, target, theta = (
        search.problem, search.estimator, search.table, search.target, search.theta,
    )  # fmt: skip
    objective = float(search.solution.objective[search.best])
    if not problem.axis.link.positive_floor:
        return
    start = theta[None].copy()
    start[0, 0] = problem.low[0]
    fixed = np.arange(len(theta)) == 0
    without = minimise(problem, estimator, target, table.weight, start, fixed=fixed).objective[0]
    unit = objective_unit(problem, estimator, table, target, theta)
    statistic = 2 * (without - objective) / unit if unit > 0 else np.inf
    if statistic < _CHI_SQUARE:
        yield Flag("E_unidentified", "the data are fitted as well with E = 0, so E is not identified", float(statistic))


def objective_unit(problem: Problem, estimator: Estimator, table: RunTable, target: Floats, theta: Floats) -> float:
    """Return what an objective is divided by, so that twice a difference is chi-square: E[rho'^2] / E[rho''].

    Source: Huber & Ronchetti, "Robust Statistics" (2009), section 13.3 (the ratio test of M-estimators).
    """
    r = problem.predict(theta[None])[0] - target
    slope, _ = estimator.slopes(r)
    bend = float(np.mean(estimator.density(r)))
    lost = len(r) / max(1, len(r) - len(theta))
    weight = float(np.average(table.weight, weights=table.weight))
    return float(np.mean(slope**2)) / max(bend, 1e-300) * lost * weight


def _misfit(problem: LawProblem, table: RunTable, target: Floats, theta: Floats) -> Iterator[Flag]:
    """Flag rows that are better than the law allows at any compute, and largest budgets that it misses on one side."""
    r = target - problem.predict(theta[None])[0]
    spread = 1.4826 * float(np.median(np.abs(r)))
    floor = problem.axis.link.forward(problem.axis.orient(problem.natural(theta[None])["E"]))[0][0]
    below = int(np.sum(target < floor - 3 * spread)) if np.isfinite(floor) else 0
    if below > max(1, 0.01 * len(r)):
        yield Flag(
            "floor_above_data", f"{below} rows are better than the fitted limit E by over 3 spreads", float(below)
        )
    top = r[np.quantile(table.C, _TOP) <= table.C]
    if len(top) >= 4 and spread > 1e-9:
        z = float(np.mean(top) / spread)
        if abs(z) > max(0.5, 5 / np.sqrt(len(top))):
            side = "above" if z > 0 else "below"
            sentence = f"the rows of the largest budgets lie {side} the law by {abs(z):.2g} spreads on average"
            yield Flag("lack_of_fit", sentence, z)


def _outside(table: RunTable, law: Law) -> Iterator[Flag]:
    """Flag that the law's optima at the sampled budgets are outside the sampled sizes."""
    budgets = np.exp(np.quantile(np.log(table.C), [0.1, 0.5, 0.9]))
    n = law.optimum(budgets).N
    low, high = table.N.min(), table.N.max()
    out = int(np.sum((n < low) | (n > high)))
    if out >= 2:
        yield Flag(
            "optimum_outside_range",
            f"the optimum N* lies outside the sampled {low:.3g} to {high:.3g} parameters at the sampled budgets",
            float(n[1]),
        )


def table_flags(train: RunTable, rows: RunTable, metric: str) -> tuple[Flag, ...]:
    """Return what the data themselves show."""
    flags = [Flag("mixed_conventions", note, 1.0, scope="table") for note in train.notes]
    if rows.excluded:
        first = rows.excluded[0]
        sentence = f"{len(rows.excluded)} rows are not used (line {first.line}: {first.reason}, ...)"
        flags.append(Flag("excluded", sentence, float(len(rows.excluded)), doubt=False, scope="table"))
    flags += _duplicates(train, metric)
    flags += _units(train)
    check = train.compute_check()
    if not check.derived and check.spread > 0.01:
        flags.append(
            Flag("compute_mismatch", check.sentence, check.spread, doubt=check.spread > np.log(1.5), scope="budget")
        )
    budgets = len(find_budgets(train).C)
    if budgets == 1:
        flags.append(
            Flag("one_budget", "all rows have one budget, so growth with C is not seen in the data", 1.0, scope="table")
        )
    for name in ("N", "D"):
        if len(np.unique(getattr(train, name))) == 1:
            flags.append(
                Flag(f"one_{name}", f"all rows have one {name}, so its exponent is not determined", 1.0, scope="table")
            )
    return tuple(flags)


def _units(table: RunTable) -> Iterator[Flag]:
    """Flag counts that look as if one of them were in billions."""
    ratio, largest = float(np.median(table.D / table.N)), float(table.C.max())
    if ratio < _LEAST_RATIO or largest < _LEAST_COMPUTE:
        sentence = (
            f"a median of {ratio:.2g} tokens per parameter and at most {largest:.2g} FLOPs: is D (or N) in billions? "
            "write 20B, or multiply the column"
        )
        yield Flag("units", sentence, ratio, doubt=False, scope="table")


def _duplicates(table: RunTable, metric: str) -> Iterator[Flag]:
    points = np.column_stack([table.N, table.D, table.metric(metric)])
    _, first, counts = np.unique(points, axis=0, return_index=True, return_counts=True)
    if twice := int(np.sum(counts - 1)):
        line = int(table.line[first[np.argmax(counts > 1)]])
        yield Flag(
            "duplicates",
            f"{twice} rows repeat another row's N, D and {metric} (such as line {line}): intervals are too narrow "
            "unless they are resampled by run",
            float(twice),
            doubt=False,
            scope="table",
        )


def extrapolation_flags(table: RunTable, law: Law, C: Floats) -> tuple[Flag, ...]:
    """Return how far budgets lie beyond the fitted rows, and optima outside the sampled sizes."""
    flags = []
    ratio = float(np.max(C) / table.C.max())
    if ratio > 1:
        flags.append(
            Flag(
                "extrapolation_ratio",
                f"C = {np.max(C):.3g} is {ratio:.3g} times the largest fitted budget",
                ratio,
                doubt=ratio > 1000,
            )
        )
    if law.has_optimum:
        n = law.optimum(C).N
        out = (n < table.N.min()) | (n > table.N.max())
        if np.any(out):
            worst = float(n[out][-1])
            sentence = f"N* = {worst:.3g} lies outside the fitted sizes, {table.N.min():.3g} to {table.N.max():.3g}"
            flags.append(Flag("optimum_outside_range", sentence, worst, doubt=False))
    return tuple(flags)
