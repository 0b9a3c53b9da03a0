"""A study: all results about one metric of a table; what cannot be computed is named with its reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import EvalError, UnknownNameError, UsageError
from cdslm_eval.scaling.bootstrap import Bootstrap
from cdslm_eval.scaling.curvature import Curvature, curvature
from cdslm_eval.scaling.dependence import resampled_apart
from cdslm_eval.scaling.downstream import Downstream, compare_downstream
from cdslm_eval.scaling.fit import LawFit, first_line, fit_law, fitted_values
from cdslm_eval.scaling.flags import Flag, distrusted, extrapolation_flags
from cdslm_eval.scaling.frontier import EPSILONS, Frontier, NearRange, Resampling, frontier, near_ranges, round_budgets
from cdslm_eval.scaling.influence import Influence, influence
from cdslm_eval.scaling.isoflop import IsoFlops, fit_isoflops
from cdslm_eval.scaling.law import LawSpec
from cdslm_eval.scaling.staged import bootstrap_staged
from cdslm_eval.scaling.table import RunTable
from cdslm_eval.scaling.validation import Holdout, hold_out, one_sided, roll_out, undercovered
from cdslm_eval.scaling.verdict import Verdict, doubted, judge

__all__ = ["Settings", "Study", "study"]

Floats = npt.NDArray[np.float64]
Part = TypeVar("Part")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options of a study.

    Attributes:
        spec: The law.
        resampling: How intervals are made.
        baseline: The metric's value on real data.
        noise: Standard deviation of the metric between repeated measurements.
        loss: The column of the loss, for a metric that is studied through it.
        through: Options of `compare_downstream`: `loss_link`, `maps`, `loss_rows`, `metric_rows`.
        budgets: Budgets in FLOPs at which optima are reported, besides the data's own decades.
        law: Whether a law is fitted, or the budgets are fitted alone.
        isoflop: Options of `fit_isoflops`: `degree`, `curve`, `window`.
        epsilons: (how far from the optimum near-optimal widths are measured, whether as a share of its value).
    """

    spec: LawSpec = field(default_factory=LawSpec)
    resampling: Resampling = field(default_factory=Resampling)
    baseline: float | None = None
    noise: float | None = None
    loss: str | None = None
    through: Mapping[str, Any] = field(default_factory=dict)
    budgets: tuple[float, ...] = ()
    law: bool = True
    isoflop: Mapping[str, Any] = field(default_factory=dict)
    epsilons: tuple[tuple[float, bool], ...] = EPSILONS


@dataclass(frozen=True, eq=False, kw_only=True)
class Study:
    """Results about one metric of one table; a part that cannot be computed is None, with its reason in `missing`.

    Attributes:
        table: All rows, fitted and held out.
        metric: The metric.
        settings: Its options.
        fit, bootstrap: The law and its replicates.
        influence: The row that moves the law most.
        isoflops: Each budget by itself.
        curvature: How kappa and the near-optimal widths go with compute, and whether budgets and law agree.
        frontier, optima: The law along a grid of C (for figures), and at round budgets (for tables).
        near, near_optima: The same of the near-optimal ranges.
        holdout, rollout: How well the law predicts what it was not fitted to.
        downstream: The metric through the loss.
        downstream_draws: Name of each fit through the loss -> its replicates.
        verdict: Whether the metric scales, and whether real data's value is reachable.
        missing: Part -> why it is None.
    """

    table: RunTable
    metric: str
    settings: Settings
    fit: LawFit | None = None
    bootstrap: Bootstrap | None = None
    influence: Influence | None = None
    isoflops: IsoFlops | None = None
    curvature: Curvature | None = None
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
        return f"NO LAW: {self.missing.get('law', 'none was requested')}"

    @property
    def flags(self) -> tuple[Flag, ...]:
        """What a reader must know: the law's flags, of budgets beyond the data, of held-out rows that contradict it."""
        if self.fit is None:
            return ()
        budgets = np.array(self.settings.budgets)
        beyond = extrapolation_flags(self.fit.table, self.fit.law, budgets) if len(budgets) else ()
        bent = () if self.curvature is None else self.curvature.flags
        moved = () if self.influence is None else self.influence.flags
        by_row = self.bootstrap is not None and self.bootstrap.by == "row"
        apart = resampled_apart(self.fit.table) if by_row else ()
        return (*self.fit.flags, *apart, *beyond, *bent, *moved, *self._held_out_flags)

    @property
    def _held_out_flags(self) -> tuple[Flag, ...]:
        if self.holdout is None:
            return ()
        sides = one_sided(self.holdout) if self.test.any() else ()
        return (*sides, *undercovered(self.holdout))

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
        return fitted_values(self.fit, self.table)

    @cached_property
    def residuals(self) -> Floats:
        """Measured minus predicted on the scale of the link, `[rows]`; NaN without a law."""
        if self.fit is None:
            return np.full(len(self.table), np.nan)
        axis = self.fit.law.axis
        return axis.target(self.values) - axis.target(self.predicted)


class _Parts:
    """Computes parts one after another and records why one could not be."""

    def __init__(self, progress: Callable[[str], None] | None) -> None:
        self.missing: dict[str, str] = {}
        self._progress = progress

    def attempt(self, name: str, make: Callable[[], Part]) -> Part | None:
        """Return the part, or None with the reason recorded; an unknown name is the user's error and raised."""
        if self._progress is not None:
            self._progress(name)
        try:
            # a law that the data do not determine leaves the range of numbers; its results are then unknown
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
    """Fit, resample, fit each budget, judge: compute all results about a metric.

    Args:
        table: The runs; rows of split "test" are predicted, not fitted.
        metric: Name of the metric.
        settings: Options.
        progress: Called with the name of each part before it is computed.

    Raises:
        UnknownNameError: No such metric, law, estimator or link.
        UsageError: Nothing at all can be computed; the message has the reason.
    """
    settings = settings or Settings()
    spec = settings.spec
    table.metric(metric)
    parts = _Parts(progress)
    fit = parts.attempt("law", lambda: fit_law(table, metric, spec)) if settings.law else None
    isoflops = parts.attempt("isoflops", lambda: _isoflops(table, metric, settings))
    if fit is None and isoflops is None:
        raise UsageError(parts.missing.get("law") or parts.missing["isoflops"])
    results: dict[str, Any] = {} if fit is None else _of_law(fit, settings, parts)
    if settings.loss is not None:
        loss = settings.loss
        through = parts.attempt(
            "downstream",
            lambda: compare_downstream(
                table, metric, loss, spec, seed=settings.resampling.seed, **dict(settings.through)
            ),
        )
        results["downstream"] = through
        if through is not None and settings.resampling.replicates:
            draws = parts.attempt("downstream_intervals", lambda: _staged_draws(through, settings.resampling))
            results["downstream_draws"] = draws or {}
    if settings.law:
        results["verdict"] = parts.attempt("verdict", lambda: _verdict(_runs(table, settings), metric, settings))
    if isoflops is not None and len(isoflops.optima) > 1:
        results["curvature"] = parts.attempt("curvature", lambda: _curvature(table, isoflops, fit, results, settings))
    done = Study(
        table=table, metric=metric, settings=settings, fit=fit, isoflops=isoflops, missing=parts.missing, **results
    )
    if done.verdict is None:
        return done
    # the verdict's own law weighs rows otherwise than the one that is shown: neither may contradict the first line;
    # another form that fits better than the one that is shown does not share its misfit
    same = fit is not None and done.verdict.fit is not None and done.verdict.fit.form == fit.form
    doubts = [flag.sentence for flag in distrusted(done.flags) if same or flag.scope != "law"]
    return replace(done, verdict=doubted(done.verdict, doubts))


def _of_law(fit: LawFit, settings: Settings, parts: _Parts) -> dict[str, Any]:
    """Return what follows from a law."""
    level = settings.resampling.level
    draws = parts.attempt("bootstrap", lambda: settings.resampling.draws(fit))
    results: dict[str, Any] = {"bootstrap": draws}
    # refits, as the bootstrap, which is left out with it
    if settings.resampling.replicates:
        results["influence"] = _influence(fit)
    if fit.law.has_optimum:
        rows = np.concatenate([fit.table.C, fit.test.C])
        grid = np.geomspace(rows.min(), max(rows.max(), *settings.budgets, 0.0), 80)
        round_ = round_budgets(rows, settings.budgets)
        grids = {"optima": round_, **({"frontier": grid} if grid[-1] > 1.01 * grid[0] else {})}
        for name, C in grids.items():
            results[name] = parts.attempt(name, lambda C=C: frontier(fit, draws, C, level))  # type: ignore[misc]
        for name, C in (("near", grid), ("near_optima", round_)):
            ranges = parts.attempt(name, lambda C=C: near_ranges(fit, draws, C, level, settings.epsilons))  # type: ignore[misc]
            results[name] = ranges or ()
    results["holdout"] = parts.attempt("holdout", lambda: hold_out(fit))
    results["rollout"] = parts.attempt("rollout", lambda: roll_out(fit)) or ()
    return results


def _influence(fit: LawFit) -> Influence | None:
    """Return the row that moves the law most; None where an exact fit has none."""
    try:
        with np.errstate(all="ignore"):
            return influence(fit)
    except UsageError:
        return None


def _isoflops(table: RunTable, metric: str, settings: Settings) -> IsoFlops:
    spec = settings.spec
    done = fit_isoflops(
        table,
        metric,
        bounds=spec.bounds,
        better=spec.better,
        link=spec.link,
        seed=settings.resampling.seed,
        **settings.isoflop,
    )
    if not done.designed:
        raise UsageError(
            f"{table.source} has no isoFLOPs: {len(done.table)} rows at {len(done.budgets)} budgets, most with too few "
            "sizes for a curve; name its budgets in a column isoflop if it has any"
        )
    return done


def _curvature(
    table: RunTable, isoflops: IsoFlops, fit: LawFit | None, results: Mapping[str, Any], settings: Settings
) -> Curvature:
    """Return the curvature; budgets fitted alone are compared with a law as well, where one can be fitted."""
    draws: Bootstrap | None = results.get("bootstrap")
    if fit is None:
        try:
            fit = fit_law(table, isoflops.metric, settings.spec)
            draws = settings.resampling.draws(fit)
        except UsageError:
            fit = None  # the budgets' own part needs no law
    return curvature(isoflops, fit, draws, settings.epsilons, settings.resampling.level)


def _staged_draws(through: Downstream, how: Resampling) -> dict[str, Bootstrap]:
    pair = (through.two_stage, through.fused)
    return {staged.name: bootstrap_staged(staged, how.by, how.replicates, how.seed) for staged in pair}


def _runs(table: RunTable, settings: Settings) -> RunTable:
    """Return the rows of the law of the loss, where they are named: others, such as checkpoints, are no runs."""
    rules = settings.through.get("loss_rows", ())
    lines = [line for rule in rules for line in table.only(rule).line.tolist()]
    return table.select(np.isin(table.line, lines)) if lines else table


def _verdict(table: RunTable, metric: str, settings: Settings) -> Verdict:
    how = settings.resampling
    return judge(
        table,
        metric,
        replace(settings.spec, link=settings.spec.linked()),
        baseline=settings.baseline,
        noise=settings.noise,
        by=how.by,
        replicates=max(200, how.replicates),
        level=how.level,
        seed=how.seed,
    )
