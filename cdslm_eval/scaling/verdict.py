"""Verdict: does a metric scale, saturate, stay flat or worsen, and is a baseline within reach; each with its evidence."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cdslm_eval.errors import UsageError
from cdslm_eval.scaling.bootstrap import Bootstrap
from cdslm_eval.scaling.fit import LawFit, fit_law, usable_rows
from cdslm_eval.scaling.links import make_axis
from cdslm_eval.scaling.trend import Trend, fit_trend
from cdslm_eval.table import RunTable

__all__ = ["Reach", "Verdict", "judge"]

Floats = npt.NDArray[np.float64]
_DECADE = 10.0


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether a baseline, such as real data, is within reach of compute.

    Attributes:
        label: "reachable", "unreachable" (at any compute) or "undetermined".
        baseline: Its value of the metric.
        C: Least budget whose best model is as good; infinite where there is none, NaN where it is not known.
        interval: Of C, by the level of the verdict; an infinite end says that no budget may be enough.
        share: Share of replicates in which some budget is enough; NaN without a law.
        extrapolation_ratio: C over the largest sampled budget.
        sentence: All this in words.
    """

    label: str
    baseline: float
    C: float
    interval: tuple[float, float]
    share: float
    extrapolation_ratio: float
    sentence: str


@dataclass(frozen=True, eq=False)
class Verdict:
    """What follows from a table for one metric.

    Attributes:
        label: "scales", "saturates", "flat", "worsens" or "undetermined".
        metric, better: The metric, and which way is better.
        gain: Improvement from the smallest to the largest budget, in the metric's units, with its interval `gain_interval`.
        next_gain: What ten times the largest budget would add at the law's optimum, with `next_interval`; NaN without a law.
        noise: Standard deviation of one run, given or estimated.
        margin: Changes up to this count as none.
        limit: E, the metric at unlimited compute, with `limit_interval`; NaN without a law.
        ratio: How tokens per parameter at the optimum go with C: "falls", "rises" or "undetermined".
        ratio_exponent: Its exponent, with `ratio_interval`; NaN without a law.
        reach: Whether the baseline is within reach; None where none was named.
        level: Of every interval.
        fit: The law that was fitted; None where there were too few rows.
        evidence: Sentences.
    """

    label: str
    metric: str
    better: str
    gain: float
    gain_interval: tuple[float, float]
    noise: float
    margin: float
    level: float
    evidence: tuple[str, ...]
    next_gain: float = np.nan
    next_interval: tuple[float, float] = (np.nan, np.nan)
    limit: float = np.nan
    limit_interval: tuple[float, float] = (np.nan, np.nan)
    ratio: str = "undetermined"
    ratio_exponent: float = np.nan
    ratio_interval: tuple[float, float] = (np.nan, np.nan)
    reach: Reach | None = None
    fit: LawFit | None = None

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        return f"{self.metric}: {_SAID[self.label]}; {self.evidence[0]}" + (f"; {self.reach.sentence}" if self.reach else "")


_SAID = {
    "scales": "it scales",
    "saturates": "it saturates",
    "flat": "it is flat",
    "worsens": "it worsens with compute",
    "undetermined": "these data do not decide whether it scales",
}


@dataclass(frozen=True, slots=True)
class _Case:
    """What is judged."""

    table: RunTable
    metric: str
    u: Floats
    trend: Trend
    fit: LawFit | None
    draws: Bootstrap | None
    margin: float
    level: float


def judge(
    table: RunTable,
    metric: str,
    *,
    better: str = "lower",
    baseline: float | None = None,
    noise: float | None = None,
    margin: float | None = None,
    form: str = "chinchilla",
    link: str = "identity",
    bounds: tuple[float, float] | None = None,
    by: str = "row",
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Verdict:
    """Judge one metric of a table.

    Flat is an equivalence test: the interval of the gain over the sampled budgets (at 1 - 2 (1 - level)) lies within the
    margin on both sides. Else the gain's sign must be sure. A metric that improves saturates when ten times the largest
    budget would surely add no more than the margin, and no more than half of what the last factor of ten added; it scales
    when it would surely add more than the smaller of these two.

    Args:
        table: The runs; train rows are used.
        metric: Name of the metric.
        better: "lower" or "higher".
        baseline: A value to reach, such as that of real speech.
        noise: Standard deviation of the metric between runs alike; None estimates it from the residuals.
        margin: Smallest change that counts; None takes twice the noise.
        form: Law behind what is extrapolated.
        link: Its link.
        bounds: (low, high) that the metric cannot leave.
        by: What is resampled: "row", "run" or "isoflop".
        replicates: Of the bootstrap.
        level: Of every interval.
        seed: Of the bootstrap.

    Raises:
        UsageError: No row can be used, or `noise` or `margin` is not above 0.

    Source: Schuirmann, "A comparison of the two one-sided tests procedure" (1987) (equivalence).
    """
    for name, value in (("noise", noise), ("margin", margin)):
        if value is not None and not (np.isfinite(value) and value > 0):
            raise UsageError(f"{name} must be above 0, not {value}")
    values = table.metric(metric)
    axis = make_axis(link, values[np.isfinite(values)], better, bounds)
    rows = usable_rows(table, metric, axis)
    rows = rows.select(rows.split == "train")
    if len(rows) < 3:
        raise UsageError(f"{table.source}: {len(rows)} usable train rows of {metric!r} are too few for a verdict")
    u = axis.orient(rows.metric(metric))
    trend = fit_trend(rows, u)
    fit, draws, told = _law(rows, metric, form, link, better, bounds, by, replicates, seed)
    estimated = trend.noise if noise is None else noise
    if noise is None and fit is not None:
        # the law may fit where the quadratic of the trend does not: the smaller spread is nearer to the noise
        residual = u - fit.law.curve.value(rows.N, rows.D)
        spread = 1.4826 * float(np.median(np.abs(residual))) * np.sqrt(len(u) / max(1, len(u) - len(fit.theta)))
        estimated = float(np.nanmin([trend.noise, spread]))
    case = _Case(rows, metric, u, trend, fit, draws, 2 * estimated if margin is None else margin, level)
    label, sentence = _label(case)
    verdict = Verdict(
        label,
        metric,
        better,
        trend.gain,
        trend.interval(level),
        estimated,
        case.margin,
        level,
        (sentence, *told),
        fit=fit,
    )
    verdict = _with_law(verdict, case, label)
    return verdict if baseline is None else replace(verdict, reach=_reach(case, label, baseline))


def _law(
    rows: RunTable,
    metric: str,
    form: str,
    link: str,
    better: str,
    bounds: tuple[float, float] | None,
    by: str,
    replicates: int,
    seed: int,
) -> tuple[LawFit | None, Bootstrap | None, tuple[str, ...]]:
    """Fit by Huber with a delta of 1.345 residual spreads: nearly as precise as least squares, and safe from outliers."""
    try:
        first = fit_law(rows, metric, form, "least_squares", link=link, better=better, bounds=bounds, seeds=8)
        spread = 1.4826 * float(np.median(np.abs(first.residuals)))
        if not spread > 0:
            return first, None, ("the law fits exactly, so that there is no noise to judge by",)
        fit = fit_law(rows, metric, form, "huber", 1.345 * spread, link, bounds, better, seeds=8)
        return fit, fit.bootstrap(by, replicates, seed), ()
    except UsageError as error:
        return None, None, (f"no law could be fitted: {error}",)


def _label(case: _Case) -> tuple[str, str]:
    trend, margin = case.trend, case.margin
    low, high = trend.interval(case.level)
    narrow = trend.interval(2 * case.level - 1)
    budgets = f"from C = {case.table.C.min():.3g} to {case.table.C.max():.3g}"
    moved = f"{budgets} it improves by {trend.gain:.3g} [{low:.3g}, {high:.3g}]"
    if np.ptp(case.table.C) == 0:
        return "undetermined", "all rows have one budget"
    if -margin < narrow[0] and narrow[1] < margin:
        return "flat", f"{moved}, equivalent to no change within {margin:.3g}"
    if high < 0:
        return "worsens", f"{budgets} it worsens by {-trend.gain:.3g} [{-high:.3g}, {-low:.3g}]"
    if low <= 0:
        return "undetermined", f"{moved}, neither surely a change nor surely none (margin {margin:.3g})"
    if case.fit is None or case.draws is None:
        return "undetermined", f"{moved}, but there is no law to say whether that goes on"
    return _going_on(case, moved)


def _gains(case: _Case) -> tuple[float, float, Floats]:
    """Return what the law adds over the last and the next factor of ten, and replicates of the latter."""
    assert case.fit is not None
    assert case.draws is not None
    top = case.table.C.max()
    budgets = np.array([top / _DECADE, top, top * _DECADE])
    before, now, after = case.fit.law.curve.frontier(budgets)
    draws = case.draws.curve(1).frontier(budgets[1:])
    return float(before - now), float(now - after), draws[:, 0] - draws[:, 1]


def _going_on(case: _Case, moved: str) -> tuple[str, str]:
    last, ahead, draws = _gains(case)
    low, high = np.quantile(draws, [1 - case.level, case.level])
    said = f"{moved}, and ten times more would add {ahead:.3g} [{low:.3g}, {high:.3g}] to the {last:.3g} of the last ten"
    if high <= min(case.margin, 0.5 * last):
        return "saturates", said
    if low >= min(case.margin, 0.5 * last):
        return "scales", said
    return "undetermined", said


def _with_law(verdict: Verdict, case: _Case, label: str) -> Verdict:
    """Add what the law says where it means something: a flat metric determines no exponents."""
    if case.fit is None or case.draws is None or label not in {"scales", "saturates", "undetermined"}:
        return verdict
    draws, tails = case.draws, [(1 - case.level) / 2, (1 + case.level) / 2]
    _, ahead, gains = _gains(case)
    low, high = np.quantile(gains, tails)
    verdict = replace(
        verdict,
        next_gain=ahead,
        next_interval=(float(low), float(high)),
        limit=case.fit.parameters["E"],
        limit_interval=draws.interval("E", case.level),
    )
    if case.fit.form == "power":
        return verdict
    below, above = draws.ratio_exponent(case.level)
    ratio = "falls" if above < 0 else "rises" if below > 0 else "undetermined"
    exponent = float(case.fit.law.curve.ratio_exponent)
    how = {"falls": "falls with C", "rises": "rises with C", "undetermined": "has no established sign of growth"}[ratio]
    sentence = f"tokens per parameter at the optimum go as C^{exponent:.3f} [{below:.3f}, {above:.3f}]: the ratio {how}"
    return replace(
        verdict,
        ratio=ratio,
        ratio_exponent=exponent,
        ratio_interval=(below, above),
        evidence=(*verdict.evidence, sentence),
    )


def _reach(case: _Case, label: str, baseline: float) -> Reach:
    axis = make_axis("identity", case.u, "lower") if case.fit is None else case.fit.law.axis
    target = float(axis.orient(baseline))
    if label in {"flat", "worsens"} or case.fit is None or case.draws is None:
        return _reach_without_law(case, label, baseline, target)
    draws = np.asarray(case.draws.reach(baseline))
    share = float(np.mean(np.isfinite(draws)))
    low, high = np.quantile(
        draws, [(1 - case.level) / 2, (1 + case.level) / 2], method="closest_observation"
    )
    C, largest = case.fit.law.reach(baseline), float(case.table.C.max())
    interval = (float(low), float(high))
    tail = (1 - case.level) / 2
    if share >= 1 - tail:
        far = C / largest
        beyond = f", {far:.3g} times the largest sampled budget" if far > 1 else ""
        doubt = "; so far beyond the data that it is a guess" if far > 1000 else ""
        sentence = f"{baseline:g} is reachable at C = {C:.3g} [{low:.3g}, {high:.3g}]{beyond}{doubt}"
        return Reach("reachable", baseline, C, interval, share, far, sentence)
    limits = "[{:.4g}, {:.4g}]".format(*case.draws.interval("E", case.level))
    if share <= tail:
        sentence = f"{baseline:g} is unreachable at any compute: the limit is {case.fit.parameters['E']:.4g} {limits}"
        return Reach("unreachable", baseline, np.inf, interval, share, np.inf, sentence)
    sentence = f"whether {baseline:g} is reachable is undetermined: the limit is {case.fit.parameters['E']:.4g} {limits}"
    return Reach("undetermined", baseline, C, interval, share, C / largest, sentence)


def _reach_without_law(case: _Case, label: str, baseline: float, target: float) -> Reach:
    """Say what can be said of a metric that does not improve, or that no law describes."""
    reached = case.table.C[case.u <= target]
    error = case.trend.noise / np.sqrt(len(case.u)) if np.isfinite(case.trend.noise) else 0.0
    if label == "flat":
        if case.trend.level + 2 * error + case.margin < target or case.trend.level + 2 * error <= target:
            return Reach("reachable", baseline, float(case.table.C.min()), (np.nan, np.nan), np.nan, 1.0,
                         f"{baseline:g} is reached at every sampled budget")
        if case.trend.level - 2 * error - case.margin > target:
            return Reach("unreachable", baseline, np.inf, (np.nan, np.nan), np.nan, np.inf,
                         f"{baseline:g} is not reached, and compute does not move the metric")
    elif len(reached):
        return Reach("reachable", baseline, float(reached.min()), (np.nan, np.nan), np.nan, 1.0,
                     f"{baseline:g} was reached at C = {reached.min():.3g}")
    elif label == "worsens":
        return Reach("unreachable", baseline, np.inf, (np.nan, np.nan), np.nan, np.inf,
                     f"{baseline:g} is not reached, and more compute makes the metric worse")
    return Reach("undetermined", baseline, np.nan, (np.nan, np.nan), np.nan, np.nan,
                 f"whether {baseline:g} is reachable is undetermined")
