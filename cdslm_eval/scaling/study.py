"""A study: everything that one table says about one metric; what cannot be answered is named, the rest is answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import EvalError, UnknownNameError, UsageError
from cdslm_eval.scaling.bootstrap import Bootstrap
from cdslm_eval.scaling.downstream import Downstream, compare_downstream
from cdslm_eval.scaling.fit import LawFit, fit_law
from cdslm_eval.scaling.flags import Flag
from cdslm_eval.scaling.frontier import Frontier, NearRange, frontier, near_ranges, round_budgets
from cdslm_eval.scaling.isoflop import IsoFlops, fit_isoflops
from cdslm_eval.scaling.table import RunTable
from cdslm_eval.scaling.validation import Holdout, one_sided
from cdslm_eval.scaling.verdict import Verdict, doubted, judge

__all__ = ["Settings", "Study", "first_line", "study"]

Floats = npt.NDArray[np.float64]
Part = TypeVar("Part")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a study is asked for.

    Attributes:
        form, estimator, delta, link, better, bounds: Of the law; see `fit_law`.
        level: Of every interval.
        replicates, by, seed: Of the bootstrap; 0 replicates leave the intervals out.
        baseline: The metric's value on real data.
        noise: Standard deviation of the metric between repeated measurements.
        loss: The column of the loss, for a metric that is studied through it.
        budgets: Budgets in FLOPs at which optima are told, beside the data's own decades.
        law: Whether a law is fitted, or the budgets are looked at alone.
    """

    form: str = "chinchilla"
    estimator: str = "huber"
    delta: float = 1e-3
    link: str = "log"
    better: str = "lower"
    bounds: tuple[float, float] | None = None
    level: float = 0.95
    replicates: int = 1000
    by: str = "row"
    seed: int = 0
    baseline: float | None = None
    noise: float | None = None
    loss: str | None = None
    budgets: tuple[float, ...] = ()
    law: bool = True

    def fitting(self) -> dict[str, Any]:
        """Return the keyword arguments of `fit_law`."""
        return {name: getattr(self, name) for name in ("form", "estimator", "delta", "link", "better", "bounds")}


@dataclass(frozen=True, eq=False, kw_only=True)
class Study:
    """What one table says about one metric; a part that cannot be had is None, and `missing` says why.

    Attributes:
        table: All rows, fitted and held out.
        metric: The metric.
        settings: What was asked for.
        fit, bootstrap: The law and its replicates.
        isoflops: Each budget by itself.
        frontier, optima: What the law says along a grid of C (for figures), and at round budgets (for tables).
        near, near_optima: The same of the near-optimal ranges.
        holdout, rollout: How well the law predicts what it was not fitted to.
        downstream: The metric through the loss.
        downstream_draws: Name of each fit through the loss -> its replicates.
        verdict: Whether the metric scales, and whether real data's value is reachable.
        missing: Part -> why it is not there.
    """

    table: RunTable
    metric: str
    settings: Settings
    fit: LawFit | None = None
    bootstrap: Bootstrap | None = None
    isoflops: IsoFlops | None = None
    frontier: Frontier | None = None
    optima: Frontier | None = None
    near: tuple[NearRange, ...] = ()
    near_optima: tuple[NearRange, ...] = ()
    holdout: Holdout | None = None
    rollout: tuple[Holdout, ...] = ()
    downstream: Downstream | None = None
    downstream_draws: Mapping[str, Bootstrap] = field(default_factory=dict)
    verdict: Verdict | None = None
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        """The first line: the law or why it cannot be trusted."""
        if self.fit is not None:
            return first_line(self.fit, self.flags)
        if not self.settings.law and self.isoflops is not None:
            return self.isoflops.headline
        return f"NO LAW: {self.missing.get('law', 'none was asked for')}"

    @property
    def flags(self) -> tuple[Flag, ...]:
        """What a reader must know: the law's flags, of budgets beyond the data, of held-out rows that contradict it."""
        if self.fit is None:
            return ()
        beyond = self.fit.extrapolation(np.array(self.settings.budgets)) if self.settings.budgets else ()
        return (*self.fit.flags, *beyond, *(one_sided(self.holdout) if self.test.any() and self.holdout else ()))

    @cached_property
    def values(self) -> Floats:
        """The metric, `[rows]`."""
        return self.table.metric(self.metric)

    @cached_property
    def test(self) -> npt.NDArray[np.bool_]:
        """Which rows were held out, `[rows]`."""
        return np.asarray(self.table.split == "test")

    @cached_property
    def predicted(self) -> Floats:
        """The law's values, `[rows]`; NaN without a law."""
        if self.fit is None:
            return np.full(len(self.table), np.nan)
        return self.fit.law.predict(self.table.N, self.table.D)

    @cached_property
    def residuals(self) -> Floats:
        """Measured minus predicted on the scale of the link, `[rows]`; NaN without a law."""
        if self.fit is None:
            return np.full(len(self.table), np.nan)
        axis = self.fit.law.axis
        return axis.target(self.values) - axis.target(self.predicted)


def first_line(fit: LawFit, flags: Sequence[Flag]) -> str:
    """Return the first line of what a law says: the law, or why it, or what is asked of it, cannot be trusted."""
    beyond = [flag.sentence for flag in flags if flag.doubt and flag not in fit.flags]
    if not beyond:
        return fit.headline
    return f"NOT TO BE TRUSTED beyond the fitted rows: {'; '.join(beyond)}. {fit.headline}"


class _Parts:
    """Tries parts one after another and keeps why one could not be had."""

    def __init__(self, progress: Callable[[str], None] | None) -> None:
        self.missing: dict[str, str] = {}
        self._progress = progress

    def attempt(self, name: str, make: Callable[[], Part]) -> Part | None:
        """Return the part, or None with the reason kept; a name that nobody knows is the user's to mend."""
        if self._progress is not None:
            self._progress(name)
        try:
            # a law that the data do not determine lies beyond all numbers; what comes of that is told as unknown
            with np.errstate(all="ignore"):
                return make()
        except UnknownNameError:
            raise
        except EvalError as error:
            self.missing[name] = str(error)
            return None


def study(
    table: RunTable, metric: str, settings: Settings | None = None, progress: Callable[[str], None] | None = None
) -> Study:
    """Fit, resample, look at each budget, judge: all that a table says about a metric.

    Args:
        table: The runs; rows of split "test" are predicted, not fitted.
        metric: Name of the metric.
        settings: What is asked for.
        progress: Called with the name of each part before it is made.

    Raises:
        UnknownNameError: No such metric, law, estimator or link.
        UsageError: Nothing at all can be answered; the message says why.
    """
    asked = settings or Settings()
    table.metric(metric)
    parts = _Parts(progress)
    fit = parts.attempt("law", lambda: fit_law(table, metric, **asked.fitting())) if asked.law else None
    isoflops = parts.attempt("isoflops", lambda: _isoflops(table, metric, asked))
    if fit is None and isoflops is None:
        raise UsageError(parts.missing.get("law") or parts.missing["isoflops"])
    found: dict[str, Any] = {} if fit is None else _of_law(fit, asked, parts)
    if asked.loss is not None:
        loss = asked.loss
        ways = parts.attempt("downstream", lambda: _downstream(table, metric, loss, asked))
        found["downstream"] = ways
        if ways is not None and asked.replicates:
            found["downstream_draws"] = parts.attempt("downstream_intervals", lambda: _draws(ways, asked)) or {}
    if asked.law:
        found["verdict"] = parts.attempt("verdict", lambda: _verdict(table, metric, asked))
    done = Study(table=table, metric=metric, settings=asked, fit=fit, isoflops=isoflops, missing=parts.missing, **found)
    if done.verdict is None:
        return done
    # the verdict's own law weighs rows otherwise than the one that is shown: neither may contradict the first line
    return replace(done, verdict=doubted(done.verdict, [flag.sentence for flag in done.flags if flag.doubt]))


def _of_law(fit: LawFit, asked: Settings, parts: _Parts) -> dict[str, Any]:
    """Return what follows from a law."""
    found: dict[str, Any] = {}
    draws = None
    if asked.replicates:
        draws = parts.attempt("bootstrap", lambda: fit.bootstrap(asked.by, asked.replicates, asked.seed))
    found["bootstrap"] = draws
    rows = np.concatenate([fit.table.C, fit.test.C])
    grid = np.geomspace(rows.min(), max(rows.max(), *asked.budgets, 0.0), 80)
    told = round_budgets(rows, asked.budgets)
    grids = {"optima": told, **({"frontier": grid} if grid[-1] > 1.01 * grid[0] else {})}
    for name, C in grids.items():
        found[name] = parts.attempt(name, lambda C=C: frontier(fit, draws, C, asked.level))  # type: ignore[misc]
    for name, C in (("near", grid), ("near_optima", told)):
        found[name] = parts.attempt(name, lambda C=C: near_ranges(fit, draws, C, asked.level)) or ()  # type: ignore[misc]
    found["holdout"] = parts.attempt("holdout", fit.holdout)
    found["rollout"] = parts.attempt("rollout", fit.rollout) or ()
    return found


def _isoflops(table: RunTable, metric: str, asked: Settings) -> IsoFlops:
    return fit_isoflops(table, metric, bounds=asked.bounds, better=asked.better, seed=asked.seed)


def _downstream(table: RunTable, metric: str, loss: str, asked: Settings) -> Downstream:
    return compare_downstream(
        table, metric, loss, form=asked.form, link=asked.link, better=asked.better, bounds=asked.bounds, seed=asked.seed
    )


def _draws(ways: Downstream, asked: Settings) -> dict[str, Bootstrap]:
    return {one.name: one.bootstrap(asked.by, asked.replicates, asked.seed) for one in (ways.two_stage, ways.fused)}


def _verdict(table: RunTable, metric: str, asked: Settings) -> Verdict:
    return judge(
        table,
        metric,
        better=asked.better,
        baseline=asked.baseline,
        noise=asked.noise,
        form=asked.form,
        link=asked.link,
        bounds=asked.bounds,
        by=asked.by,
        replicates=max(200, asked.replicates),
        level=asked.level,
        seed=asked.seed,
    )
