"""Fit a law to a RunTable: `fit_law` and the immutable `LawFit` that it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling.bootstrap import Bootstrap, bootstrap_fit
from cdslm_eval.scaling.curve import NearOptimal, Optimum
from cdslm_eval.scaling.estimators import Estimator, make_estimator
from cdslm_eval.scaling.flags import Flag, extrapolation_flags, fit_flags, table_flags
from cdslm_eval.scaling.forms import Form, get_form
from cdslm_eval.scaling.law import Law
from cdslm_eval.scaling.links import Axis, make_axis
from cdslm_eval.scaling.prediction import Prediction, predict_fit, sandwich
from cdslm_eval.scaling.problem import LawProblem, law_problem
from cdslm_eval.scaling.profile import Profile, profile_fit
from cdslm_eval.scaling.rows import usable_rows
from cdslm_eval.scaling.solver import Solution, minimise
from cdslm_eval.scaling.table import Excluded, RunTable
from cdslm_eval.scaling.validation import Holdout, hold_out, roll_out

__all__ = ["FitSettings", "LawFit", "fit_law"]

Floats = npt.NDArray[np.float64]
_NAMES = {"huber": "Huber (delta {delta:g})", "lad": "least absolute deviations", "least_squares": "least squares"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """What a fit was asked for; arguments as in `fit_law`."""

    form: str = "chinchilla"
    estimator: str = "huber"
    delta: float = 1e-3
    link: str = "log"
    better: str = "lower"
    bounds: tuple[float, float] | None = None
    seeds: int = 24


@dataclass(frozen=True, eq=False)
class LawFit:
    """A fitted law; immutable.

    Attributes:
        law: The law, with its parameters.
        metric: The metric it describes.
        settings: What was asked for.
        table: The rows that were fitted.
        test: The rows of split "test", which were not.
        objective: Sum of the estimator's cost over the fitted rows, times their weights.
        gradient: Scaled norm of the gradient there; 0 at an optimum (for LAD: by how much a multiplier exceeds its
            weight).
        excluded: Rows that were not used, and why.
        flags: What a reader must know before trusting it.
    """

    law: Law
    metric: str
    settings: FitSettings
    table: RunTable
    test: RunTable
    objective: float
    gradient: float
    excluded: tuple[Excluded, ...]
    flags: tuple[Flag, ...]
    problem: LawProblem = field(repr=False)
    estimator_: Estimator = field(repr=False)
    theta: Floats = field(repr=False)

    @property
    def form(self) -> str:
        """Name of the form."""
        return self.law.form

    @property
    def estimator(self) -> str:
        """The estimator in words, with its delta: "Huber (delta 0.001)"."""
        return _NAMES[self.estimator_.name].format(delta=self.estimator_.delta)

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
        """Whether no flag raises a doubt."""
        return not any(flag.doubt for flag in self.flags)

    @property
    def headline(self) -> str:
        """The first line: what was fitted, or why it cannot be trusted."""
        what = f"{self.metric} = {self.law}, by {self.estimator} on the {self.link} scale over {self.n_rows} rows"
        doubts = [flag.sentence for flag in self.flags if flag.doubt]
        return f"NOT TO BE TRUSTED: {'; '.join(doubts)}. {what}" if doubts else what

    @cached_property
    def residuals(self) -> Floats:
        """Measured minus fitted on the residual scale, `[rows]`."""
        return np.asarray(self._target - self.problem.predict(self.theta[None])[0])

    @cached_property
    def _target(self) -> Floats:
        return self.law.axis.target(self.table.metric(self.metric))

    @cached_property
    def covariance(self) -> Floats:
        """Sandwich covariance of the inner parameters, `[P, P]`; NaN where the data do not determine them."""
        return sandwich(self)

    def predict(
        self, N: npt.ArrayLike, D: npt.ArrayLike, level: float = 0.95, bootstrap: Bootstrap | None = None
    ) -> Prediction:
        """Predict the metric of models with N parameters and D tokens.

        Args:
            N: Parameters, above 0.
            D: Tokens, above 0; broadcasts against N.
            level: Of the intervals, between 0 and 1.
            bootstrap: Replicates to take the confidence interval from; None takes the sandwich covariance.
        """
        return predict_fit(self, N, D, level, bootstrap)

    def optimum(self, C: npt.ArrayLike) -> Optimum:
        """Return the compute-optimal models for budgets C; see `Law.optimum`."""
        return self.law.optimum(C)

    def kappa(self, C: npt.ArrayLike) -> Floats:
        """Return the curvature of the isoFLOP at its optimum in ln N; see `Law.kappa`."""
        return self.law.kappa(C)

    def near_optimal(self, C: npt.ArrayLike, epsilon: npt.ArrayLike, *, relative: bool = False) -> NearOptimal:
        """Return the range of models within epsilon of the optimum; see `Law.near_optimal`."""
        return self.law.near_optimal(C, epsilon, relative=relative)

    def extrapolation(self, C: npt.ArrayLike) -> tuple[Flag, ...]:
        """Return the flags that an answer at budgets C carries: how far they lie beyond the fitted rows."""
        return extrapolation_flags(self.table, self.law, np.atleast_1d(np.asarray(C, float)))

    def bootstrap(self, by: str = "row", replicates: int = 1000, seed: int = 0, tolerance: float = 0.15) -> Bootstrap:
        """Fit resampled tables, each to its own polished optimum.

        Args:
            by: What is drawn with replacement: "row", "run" (rows of one run together) or "isoflop" (whole budgets).
            replicates: How many.
            seed: The same seed gives the same replicates.
            tolerance: Width of an isoFLOP in ln C, where the table declares none.

        Raises:
            UsageError: There are fewer than three things to draw from, or `by` is neither word.
        """
        return bootstrap_fit(self, by, replicates, seed, tolerance)

    def profile(self, name: str, points: int = 41, level: float = 0.95) -> Profile:
        """Return the objective as a function of one parameter, the others refitted at each value.

        Args:
            name: "E", "alpha", "beta" or "gamma".
            points: How many values.
            level: Of the interval that the profile gives.
        """
        return profile_fit(self, name, points, level)

    def holdout(self, share: float = 0.2) -> Holdout:
        """Predict rows that are not fitted: those of split "test", or where there are none the largest budgets.

        Args:
            share: Share of rows that is held out where the table marks none; they are not fitted then.
        """
        return hold_out(self, share)

    def rollout(self, least: int = 3, tolerance: float = 0.15) -> tuple[Holdout, ...]:
        """Fit on the smallest budgets, predict the next, take it in, and go on.

        Args:
            least: How many budgets the first fit has.
            tolerance: Width of a budget in ln C, where the table declares none.
        """
        return roll_out(self, least, tolerance)

    def refit(self, table: RunTable) -> LawFit:
        """Fit the same law, by the same settings, to another table."""
        return fit_law(table, self.metric, **_asdict(self.settings))

    def solve(
        self,
        weights: Floats,
        start: Floats | None = None,
        fixed: npt.NDArray[np.bool_] | None = None,
        target: Floats | None = None,
        *,
        homotopy: bool = False,
    ) -> Solution:
        """Solve the same problem under other weights, targets or fixed parameters, from the optimum or from `start`.

        Args:
            weights: `[n]` or `[S, n]`.
            start: `[S, P]`; None starts all at the optimum.
            fixed: Parameters that stay where they start, `[P]`.
            target: On the residual scale, `[n]` or `[S, n]`; None takes the data.
            homotopy: Whether to come from a smoother estimator.
        """
        target = self._target if target is None else target
        count = max(len(weights) if weights.ndim == 2 else 1, len(target) if target.ndim == 2 else 1)
        start = np.repeat(self.theta[None], count, axis=0) if start is None else start
        return minimise(self.problem, self.estimator_, target, weights, start, fixed=fixed, homotopy=homotopy)


def _asdict(settings: FitSettings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in FitSettings.__slots__}


def fit_law(
    table: RunTable,
    metric: str,
    form: str = "chinchilla",
    estimator: str = "huber",
    delta: float = 1e-3,
    link: str = "log",
    bounds: tuple[float, float] | None = None,
    better: str = "lower",
    seeds: int = 24,
    starts: Sequence[dict[str, float]] | None = None,
) -> LawFit:
    """Fit a law to the train rows of a table.

    Args:
        table: The runs.
        metric: Name of the metric.
        form: "chinchilla" (E + A N^-alpha + B D^-beta), "gamma" ((...)^gamma above E), "shared" (alpha = beta) or
            "power" (E + A C^-alpha).
        estimator: "huber" (sum of Huber's rho), "lad" (least absolute deviations) or "least_squares".
        delta: Huber's delta, on the residual scale.
        link: "log" (relative errors), "identity" (absolute, in units of the median |y|) or "logit" (needs bounds).
        bounds: (low, high) that the metric cannot leave.
        better: "lower", or "higher": then the law describes the distance from above, and E is what is approached.
        seeds: How many starting points.
        starts: Starting points in natural parameters (E, A, B, alpha, beta, ...) in place of the seeds.

    Raises:
        UsageError: There are fewer usable rows than the law has parameters, plus one.
        UnknownNameError: No such metric, form, estimator or link.

    Source: Hoffmann et al., arXiv 2203.15556 (the law); Besiroglu et al., arXiv 2404.10102 (the reference fit);
    Golub & Pereyra, "Separable nonlinear least squares" (2003) (the projection that gives the seeds).
    """
    settings = FitSettings(
        form=form, estimator=estimator, delta=delta, link=link, better=better, bounds=bounds, seeds=seeds
    )
    values = table.metric(metric)
    axis = make_axis(link, values[np.isfinite(values)], better, bounds)
    return _searched(usable_rows(table, metric, axis), metric, axis, settings, starts or ())


def _searched(
    rows: RunTable, metric: str, axis: Axis, settings: FitSettings, starts: Sequence[dict[str, float]]
) -> LawFit:
    """Search from every start, and return the best optimum with what is to be said of it."""
    form, cost = get_form(settings.form), make_estimator(settings.estimator, settings.delta)
    train, test = rows.select(rows.split == "train"), rows.select(rows.split == "test")
    _enough(train, rows, metric, form)
    u = axis.orient(train.metric(metric))
    problem = law_problem(form, axis, train, u)
    given = [problem.inner(_logs(one)) for one in starts]
    start = np.array(given) if given else problem.seeds(u, train.weight, max(2, settings.seeds))
    solution = minimise(problem, cost, axis.link.forward(u)[0], train.weight, start)
    best = int(np.argmin(solution.objective))
    natural = {name: float(value[best]) for name, value in problem.natural(solution.theta).items()}
    law = Law(form.name, natural, rows.k, axis)
    flags = fit_flags(problem, cost, train, u, solution, law) + table_flags(train, rows, metric)
    found = (float(solution.objective[best]), float(solution.gradient[best]))
    theta = solution.theta[best]
    return LawFit(law, metric, settings, train, test, *found, rows.excluded, flags, problem, cost, theta)


def _enough(train: RunTable, rows: RunTable, metric: str, form: Form) -> None:
    if len(train) > len(form.inner):
        return
    why = f" (line {rows.excluded[0].line}: {rows.excluded[0].reason})" if rows.excluded else ""
    raise UsageError(
        f"{train.source}: {len(train)} usable train rows of {metric!r} are too few for the {len(form.inner)} "
        f"parameters of {form.formula}; at least {len(form.inner) + 1} are needed{why}"
    )


def _logs(start: dict[str, float]) -> dict[str, float]:
    return {**start, **{f"log_{name}": float(np.log(start[name])) for name in ("A", "B") if name in start}}
