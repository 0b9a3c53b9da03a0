"""Simulation: tables drawn from a known law, to plan how many runs are needed and to test their readers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UnknownNameError, UsageError
from cdslm_eval.scaling.fit import LawFit, fit_law, solve_again
from cdslm_eval.scaling.law import Law, LawSpec
from cdslm_eval.scaling.table import RunTable

__all__ = ["Plan", "PlanIntervals", "plan_intervals", "plan_runs", "simulate"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Plan:
    """Which models are to be trained: sizes spread evenly in ln N around a centre, at each budget.

    Attributes:
        budgets: C of each budget in FLOPs, above 0.
        sizes: Models per budget, at least 1.
        width: Ratio of the largest to the smallest N of a budget, at least 1.
        repeats: Runs per model.
        ratio: Tokens per parameter at the centre; None centres each budget at the law's own optimum.
    """

    budgets: tuple[float, ...]
    sizes: int = 9
    width: float = 16.0
    repeats: int = 1
    ratio: float | None = None

    def __post_init__(self) -> None:
        if not self.budgets or not all(np.isfinite(c) and c > 0 for c in self.budgets):
            raise UsageError("a plan needs budgets above 0")
        if self.sizes < 1 or self.repeats < 1 or not self.width >= 1 or not (self.ratio is None or self.ratio > 0):
            raise UsageError("a plan needs at least 1 size and 1 repeat, a width of at least 1 and a ratio above 0")

    @property
    def runs(self) -> int:
        """How many runs it has."""
        return len(self.budgets) * self.sizes * self.repeats

    @property
    def flops(self) -> float:
        """Training FLOPs of all runs together."""
        return float(sum(self.budgets)) * self.sizes * self.repeats

    def models(self, law: Law) -> tuple[Floats, Floats, Floats]:
        """Return N, D and C of every run, each `[runs]`."""
        C = np.asarray(self.budgets, float)
        if self.ratio is not None or not law.has_optimum:
            centre = np.exp(law.cost.log_balanced(np.log(C), self.ratio or 20.0))
        else:
            centre = law.optimum(C).N
        spread = np.exp(np.linspace(-0.5, 0.5, self.sizes) * np.log(self.width)) if self.sizes > 1 else np.ones(1)
        n = np.repeat((centre[:, None] * spread).ravel(), self.repeats)
        c = np.repeat(C, self.sizes * self.repeats)
        return n, law.cost.tokens(c, n), c


def simulate(
    law: Law | LawFit,
    plan: Plan,
    noise: float,
    seed: int = 0,
    *,
    metric: str = "loss",
    tails: float | None = None,
) -> RunTable:
    """Draw a table from a law.

    Args:
        law: The truth.
        plan: Which models are trained.
        noise: Standard deviation of a run on the residual scale of the law's link: 0.01 is 1 % under the log link (and
            a hundredth of the unit of an identity link).
        seed: The same seed gives the same table.
        metric: Name of the metric.
        tails: Degrees of freedom of Student's t, above 2, where noise has heavy tails; None is normal.

    Raises:
        UsageError: `noise` is below 0, or `tails` not above 2.
    """
    truth = law.law if isinstance(law, LawFit) else law
    n, d, c = plan.models(truth)
    z = truth.axis.link.forward(truth.curve.value(n, d))[0]
    values = truth.axis.value(z + _noise(noise, tails, (len(n),), np.random.default_rng(seed)))
    numbers = np.arange(len(n))
    return RunTable(
        n,
        d,
        c,
        {metric: values},
        np.ones(len(n)),
        np.array([f"run {i}" for i in numbers]),
        np.full(len(n), "train"),
        np.array([f"{value:.6g}" for value in c]),
        numbers + 1,
        cost=truth.cost,
        derived="D",
        conventions={"origin": "simulated"},
        source="simulation",
    )


def _noise(noise: float, tails: float | None, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    if not (np.isfinite(noise) and noise >= 0):
        raise UsageError(f"noise must be 0 or above, not {noise}")
    if tails is None:
        return noise * rng.standard_normal(shape)
    if not tails > 2:
        raise UsageError(f"tails must be above 2 degrees of freedom, not {tails}")
    return np.asarray(noise * rng.standard_t(tails, shape) * np.sqrt((tails - 2) / tails))


@dataclass(frozen=True, eq=False)
class PlanIntervals:
    """How well a plan would determine a law.

    Attributes:
        plan: The plan.
        estimates: Name (parameters, "ratio_exponent", "N_exponent") -> what each simulated table gave, `[simulations]`.
        truth: The same of the law itself.
        converged: Share of simulated tables whose fit reached an optimum.
        level: Of `interval` and `width`.
    """

    plan: Plan
    estimates: Mapping[str, Floats]
    truth: Mapping[str, float]
    converged: float
    level: float

    def interval(self, name: str) -> tuple[float, float]:
        """Return the interval in which estimates of a parameter fall."""
        low, high = np.quantile(self._of(name), [(1 - self.level) / 2, (1 + self.level) / 2])
        return float(low), float(high)

    def width(self, name: str) -> float:
        """Return the width of that interval."""
        low, high = self.interval(name)
        return high - low

    def bias(self, name: str) -> float:
        """Return the median estimate less the truth."""
        return float(np.median(self._of(name)) - self.truth[name])

    @property
    def sign_known(self) -> float:
        """Share of simulated tables whose ratio exponent has the sign of the truth."""
        return float(np.mean(np.sign(self._of("ratio_exponent")) == np.sign(self.truth["ratio_exponent"])))

    def _of(self, name: str) -> Floats:
        if name not in self.estimates:
            raise UnknownNameError("parameter", name, self.estimates)
        return self.estimates[name]


def plan_intervals(
    law: Law | LawFit,
    plan: Plan,
    noise: float,
    *,
    simulations: int = 200,
    seed: int = 0,
    level: float = 0.95,
    estimator: str = "huber",
    delta: float | None = None,
    tails: float | None = None,
) -> PlanIntervals:
    """Return how wide the intervals of a law's parameters would be, from many tables drawn under a plan.

    All tables share their models, so that they are solved in one batch.

    Args:
        law: What is assumed to be true.
        plan: Which models are trained.
        noise: Of a run, on the residual scale; see `simulate`.
        simulations: How many tables.
        seed: The same seed gives the same tables.
        level: Of the intervals.
        estimator: As in `fit_law`.
        delta: Huber's; None takes 1.345 times the noise, which loses 5 % of precision under normal noise.
        tails: As in `simulate`.

    Raises:
        UsageError: The plan has too few runs for the law, or `noise` is not above 0.
    """
    truth = law.law if isinstance(law, LawFit) else law
    if not noise > 0:
        raise UsageError(f"noise must be above 0 to plan with, not {noise}")
    table = simulate(truth, plan, 0.0)
    axis = truth.axis
    spec = LawSpec(
        form=truth.form,
        estimator=estimator,
        delta=1.345 * noise if delta is None else delta,
        link=axis.link.name,
        better=axis.better,
        bounds=axis.bounds,
    )
    fit = fit_law(table, "loss", spec, starts=[truth.parameters])
    # the identity link measures residuals in a unit of its own, which must be the law's, not the exact table's
    fit = replace(fit, problem=replace(fit.problem, axis=truth.axis))
    z = truth.axis.link.forward(truth.curve.value(table.N, table.D))[0]
    target = z + _noise(noise, tails, (simulations, len(table)), np.random.default_rng(seed))
    start = np.repeat(fit.problem.inner(truth.parameters)[None], simulations, axis=0)
    solution = solve_again(fit, table.weight, start, target=target, homotopy=True)
    estimates: dict[str, Any] = dict(fit.problem.natural(solution.theta))
    known: dict[str, float] = dict(truth.parameters)
    if truth.has_optimum and "alpha" in truth.parameters:
        for values in (estimates, known):
            alpha, beta = values["alpha"], values.get("beta", values["alpha"])
            values["ratio_exponent"] = (alpha - beta) / (alpha + beta)
            values["N_exponent"] = beta / (alpha + beta)
    return PlanIntervals(plan, estimates, known, float(np.mean(solution.converged)), level)


def plan_runs(
    law: Law | LawFit,
    plan: Plan,
    noise: float,
    parameter: str,
    width: float,
    *,
    most: int = 4096,
    progress: Callable[[PlanIntervals], None] | None = None,
    **settings: Any,
) -> PlanIntervals:
    """Return the smallest plan, by doubling the repeats of each model, whose interval of a parameter is narrow enough.

    Args:
        law: What is assumed to be true.
        plan: Where to start.
        noise: Of a run, on the residual scale.
        parameter: Such as "alpha", "E" or "ratio_exponent".
        width: Wanted width of its interval, above 0.
        most: Largest number of runs to consider.
        progress: Called with each plan that was tried.
        **settings: As in `plan_intervals`.

    Raises:
        UsageError: No plan of at most `most` runs is enough; the message names the width under the largest one.
    """
    if not width > 0:
        raise UsageError(f"the wanted width must be above 0, not {width}")
    while True:
        planned = plan_intervals(law, plan, noise, **settings)
        if progress:
            progress(planned)
        if planned.width(parameter) <= width:
            return planned
        if 2 * plan.runs > most:
            raise UsageError(
                f"{plan.runs} runs leave an interval of {parameter} {planned.width(parameter):.3g} wide, and more than "
                f"{most} are not considered; widen the budgets or the sizes instead"
            )
        plan = replace(plan, repeats=2 * plan.repeats)
