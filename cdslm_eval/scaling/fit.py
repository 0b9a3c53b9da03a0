"""Fit a law to a RunTable: `fit_law`, and `LawFit`, the plain data that it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling.axis import Axis, make_axis
from cdslm_eval.scaling.dependence import checkpoint_flags
from cdslm_eval.scaling.flags import Flag, Search, distrusted, fit_flags, table_flags
from cdslm_eval.scaling.law import Law, LawSpec, get_form
from cdslm_eval.scaling.objective import Estimator, make_estimator
from cdslm_eval.scaling.problem import LawProblem, law_problem
from cdslm_eval.scaling.rows import usable_rows
from cdslm_eval.scaling.solver import Solution, minimise
from cdslm_eval.scaling.table import Excluded, RunTable

__all__ = ["LawFit", "first_line", "fit_law", "fitted_values", "refit", "residuals", "robust_fit", "solve_again"]

Floats = npt.NDArray[np.float64]
_NAMES = {"huber": "Huber (delta {delta})", "lad": "least absolute deviations", "least_squares": "least squares"}
# Huber's delta in residual spreads: 95 % as precise as least squares under normal noise
HUBER_SPREADS = 1.345


@dataclass(frozen=True, eq=False)
class LawFit:
    """A fitted law; plain data.

    Attributes:
        law: The law, with its parameters.
        metric: The metric it describes.
        spec: Which law was fitted, and how; its link is the one that was used.
        table: The rows that were fitted.
        test: The rows of split "test", which were not.
        objective: Sum of the estimator's cost over the fitted rows, times their weights.
        gradient: Scaled norm of the gradient there; 0 at an optimum (for LAD: by how much a multiplier exceeds its
            weight).
        excluded: Rows that were not used, and why.
        flags: What a reader must know before trusting it.
        problem, cost, theta: The problem, its estimator and its optimum in the coordinates of the search.
        seeds: How many starting points were used.
    """

    law: Law
    metric: str
    spec: LawSpec
    table: RunTable
    test: RunTable
    objective: float
    gradient: float
    excluded: tuple[Excluded, ...]
    flags: tuple[Flag, ...]
    problem: LawProblem = field(repr=False)
    cost: Estimator = field(repr=False)
    theta: Floats = field(repr=False)
    seeds: int = 24

    @property
    def form(self) -> str:
        """Name of the form."""
        return self.law.form

    @property
    def estimator(self) -> str:
        """The estimator in words, with its delta: "Huber (delta 0.001)"."""
        return _NAMES[self.cost.name].format(delta=self.delta)

    @property
    def delta(self) -> str:
        """Huber's delta in words; under the identity link in the metric's units as well."""
        if self.link != "identity":
            return f"{self.cost.delta:g}"
        absolute = f"{self.cost.delta * self.law.axis.link.scale:.3g} in units of {self.metric}"
        return (
            absolute if self.spec.delta_absolute else f"{self.cost.delta:g} of the median |{self.metric}|: {absolute}"
        )

    @property
    def link(self) -> str:
        """Name of the link."""
        return self.law.axis.link.name

    @property
    def parameters(self) -> dict[str, float]:
        """E (in the metric's units), A, alpha, B, beta, gamma and log_A, log_B, as the form has them."""
        return dict(self.law.parameters)

    @property
    def n_rows(self) -> int:
        """How many rows were fitted."""
        return len(self.table)

    @property
    def trusted(self) -> bool:
        """Whether no flag raises a doubt about the law itself; see `Flag.scope`."""
        return not distrusted(self.flags)

    @property
    def headline(self) -> str:
        """The first line: what was fitted, or why it cannot be trusted."""
        what = f"{self.metric} = {self.law}, by {self.estimator} on the {self.link} scale over {self.n_rows} rows"
        doubts = [flag.sentence for flag in distrusted(self.flags)]
        return f"NOT TO BE TRUSTED: {'; '.join(doubts)}. {what}" if doubts else what


def fit_law(
    table: RunTable,
    metric: str,
    spec: LawSpec | None = None,
    *,
    seeds: int = 24,
    starts: Sequence[Mapping[str, float]] = (),
) -> LawFit:
    """Fit a law to the train rows of a table.

    Args:
        table: The runs.
        metric: Name of the metric.
        spec: Which law, and how; None takes the defaults.
        seeds: How many starting points.
        starts: Starting points in natural parameters (E, A, B, alpha, beta, ...) in place of the seeds.

    Raises:
        UsageError: There are fewer usable rows than the law has parameters, plus one.
        UnknownNameError: No such metric, form, estimator or link.

    Source: Hoffmann et al., arXiv 2203.15556 (the law); Besiroglu et al., arXiv 2404.10102 (the reference fit);
    Golub & Pereyra, "Separable nonlinear least squares" (2003) (the projection that gives the seeds).
    """
    spec = spec or LawSpec()
    values = table.metric(metric)
    axis = make_axis(spec.linked(), values[np.isfinite(values)], spec.better, spec.bounds)
    spec = replace(spec, link=axis.link.name)
    return _searched(usable_rows(table, metric, axis), metric, axis, spec, seeds, starts)


def robust_fit(table: RunTable, metric: str, spec: LawSpec, *, seeds: int = 8) -> LawFit:
    """Fit by Huber with a delta of 1.345 residual spreads: nearly as precise as least squares, safe from outliers.

    Rows that the law fits exactly leave no spread; the least-squares fit is then returned.

    Args:
        table: The runs.
        metric: Name of the metric.
        spec: The law; its estimator and delta are not used.
        seeds: How many starting points.

    Raises:
        UsageError: There are too few usable rows.
    """
    first = fit_law(table, metric, replace(spec, estimator="least_squares", delta_absolute=None), seeds=seeds)
    # the factor makes a median absolute residual a standard deviation under normal noise
    spread = 1.4826 * float(np.median(np.abs(residuals(first))))
    if spread < 1e-9:
        return first
    wide = replace(spec, estimator="huber", delta=HUBER_SPREADS * spread, delta_absolute=None)
    return fit_law(table, metric, wide, seeds=seeds)


def refit(fit: LawFit, table: RunTable) -> LawFit:
    """Fit the same law, by the same spec, to another table."""
    return fit_law(table, fit.metric, fit.spec, seeds=fit.seeds)


def residuals(fit: LawFit) -> Floats:
    """Return measured minus fitted on the residual scale, `[rows]`."""
    return np.asarray(_target(fit) - fit.problem.predict(fit.theta[None])[0])


def fitted_values(fit: LawFit, table: RunTable) -> Floats:
    """Return the law's values of the metric for the rows of a table, `[rows]`."""
    columns = {name: table.metric(name) for name in fit.law.extra_columns}
    return fit.law.predict(table.N, table.D, **columns)


def solve_again(
    fit: LawFit,
    weights: Floats,
    start: Floats | None = None,
    fixed: npt.NDArray[np.bool_] | None = None,
    target: Floats | None = None,
    *,
    homotopy: bool = False,
) -> Solution:
    """Solve a fit's problem under other weights, targets or fixed parameters, from its optimum or from `start`.

    Args:
        fit: The fit.
        weights: `[n]` or `[S, n]`.
        start: `[S, P]`; None starts all at the optimum.
        fixed: Parameters that stay where they start, `[P]`.
        target: On the residual scale, `[n]` or `[S, n]`; None takes the data.
        homotopy: Whether to start from a smoother estimator.
    """
    target = _target(fit) if target is None else target
    count = max(len(weights) if weights.ndim == 2 else 1, len(target) if target.ndim == 2 else 1)
    start = np.repeat(fit.theta[None], count, axis=0) if start is None else start
    return minimise(fit.problem, fit.cost, target, weights, start, fixed=fixed, homotopy=homotopy)


def first_line(fit: LawFit, flags: Sequence[Flag], *, budget: bool = False) -> str:
    """Return the first line about a law: the law, or why it, or an answer from it, cannot be trusted.

    Args:
        fit: The law.
        flags: All flags of the answer.
        budget: Whether the answer is about a budget C, so that a wrong C = k N D matters.
    """
    under = [flag for flag in flags if budget and flag.doubt and flag.scope == "budget"]
    beyond = [flag.sentence for flag in (*under, *(f for f in distrusted(flags) if f not in fit.flags))]
    if not beyond:
        return fit.headline
    return f"NOT TO BE TRUSTED beyond the fitted rows: {'; '.join(beyond)}. {fit.headline}"


def _target(fit: LawFit) -> Floats:
    return fit.law.axis.target(fit.table.metric(fit.metric))


def _searched(
    rows: RunTable, metric: str, axis: Axis, spec: LawSpec, seeds: int, starts: Sequence[Mapping[str, float]]
) -> LawFit:
    """Search from every start, and return the best optimum with its flags."""
    form, cost = get_form(spec.form), make_estimator(spec.estimator, spec.huber_delta(axis))
    train, test = rows.select(rows.split == "train"), rows.select(rows.split == "test")
    # as many rows as parameters are met exactly, and leave nothing to judge the fit by
    if len(train) <= len(form.inner):
        raise _too_few(train, rows, metric, spec)
    u = axis.orient(train.metric(metric))
    problem = law_problem(form, axis, train, u)
    chosen = [problem.inner(start) for start in starts]
    start = np.array(chosen) if chosen else problem.seeds(u, train.weight, max(2, seeds))
    target = axis.link.forward(u)[0]
    solution = minimise(problem, cost, target, train.weight, start)
    # the objective has several basins: whether enough seeds found this one is for the flags
    best = int(np.nanargmin(np.nan_to_num(solution.objective, nan=np.inf)))
    if not np.isfinite(solution.objective[best]):
        raise UsageError(
            f"{train.source}: the law {spec.form!r} has no finite value at these rows from any of {len(start)} "
            "starting points; check its bounds, or the scale of its columns"
        )
    natural = {name: float(value[best]) for name, value in problem.natural(solution.theta).items()}
    law = Law(spec.form, natural, rows.cost, axis)
    of_search = fit_flags(Search(problem, cost, train, target, solution, law))
    flags = (*of_search, *table_flags(train, rows, metric), *checkpoint_flags(train))
    numbers = (float(solution.objective[best]), float(solution.gradient[best]))
    theta = solution.theta[best]
    return LawFit(law, metric, spec, train, test, *numbers, rows.excluded, flags, problem, cost, theta, seeds)


def _too_few(train: RunTable, rows: RunTable, metric: str, spec: LawSpec) -> UsageError:
    form = get_form(spec.form)
    why = f" (line {rows.excluded[0].line}: {rows.excluded[0].reason})" if rows.excluded else ""
    return UsageError(
        f"{train.source}: {len(train)} usable train rows of {metric!r} are too few for the {len(form.inner)} "
        f"parameters of {form.formula}; at least {len(form.inner) + 1} are needed{why}"
    )
