"""Verdict: does a metric scale, saturate, stay flat or worsen, and is a baseline within reach; with the evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling.fit import LawFit, fit_law
from cdslm_eval.scaling.flags import Flag
from cdslm_eval.scaling.links import make_axis
from cdslm_eval.scaling.reach import Case, Reach, open_question, reach
from cdslm_eval.scaling.rows import usable_rows
from cdslm_eval.scaling.table import RunTable
from cdslm_eval.scaling.trend import Trend, fit_trend
from cdslm_eval.scaling.validation import one_sided

__all__ = ["Verdict", "doubted", "judge"]

Floats = npt.NDArray[np.float64]
_DECADE = 10.0


@dataclass(frozen=True, eq=False)
class Verdict:
    """What follows from a table for one metric.

    Attributes:
        label: "scales", "saturates", "flat", "worsens" or "undetermined".
        metric, better: The metric, and which way is better.
        gain: Improvement from the smallest to the largest budget, in the metric's units, with `gain_interval`.
        next_gain: What ten times the largest budget would add at the law's optimum; NaN without a law.
        noise: Standard deviation of one run, given or estimated.
        margin: Changes up to this count as none.
        limit: E, the metric at unlimited compute, with `limit_interval`; NaN without a law.
        ratio: How tokens per parameter at the optimum go with C: "falls", "rises" or "undetermined".
        ratio_exponent: Its exponent, with `ratio_interval`; NaN without a law.
        reach: Whether the baseline is within reach; None where none was named.
        level: Of every interval.
        fit: The law that was fitted; None where there were too few rows.
        evidence: Sentences.
        doubts: Why the law behind the verdict is not to be trusted.
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
    doubts: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        parts = [f"{self.metric}: {_SAID[self.label]}", self.evidence[0]]
        if self.doubts and self.label == "scales":
            parts.append(f"how far that goes on is not known, since {self.doubts[0]}")
        return "; ".join([*parts, *([self.reach.sentence] if self.reach else [])])


_SAID = {
    "scales": "it scales",
    "saturates": "it saturates",
    "flat": "it is flat",
    "worsens": "it worsens with compute",
    "undetermined": "these data do not decide whether it scales",
}


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

    Flat is an equivalence test: the interval of the gain over the sampled budgets (at 1 - 2 (1 - level)) lies within
    the margin on both sides. Else the gain's sign must be sure. A metric that improves saturates when ten times the
    largest budget would surely add no more than the margin, and no more than half of what the last factor of ten added;
    it scales when it would surely add more than the smaller of these two.

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
    _above_zero(noise=noise, margin=margin)
    values = table.metric(metric)
    axis = make_axis(link, values[np.isfinite(values)], better, bounds)
    usable = usable_rows(table, metric, axis)
    rows = usable.select(usable.split == "train")
    if len(rows) < 3:
        raise UsageError(f"{table.source}: {len(rows)} usable train rows of {metric!r} are too few for a verdict")
    fit, told = _law(usable, metric, form, link, better, bounds)
    u = axis.orient(rows.metric(metric))
    trend = fit_trend(rows, u)
    noise = _noise(rows, u, trend, fit) if noise is None else noise
    case = Case(rows, metric, axis, u, trend, fit, None, 2 * noise if margin is None else margin, level)
    case, label, evidence = _decided(case, usable, by, replicates, seed)
    gain, interval = trend.gain, trend.interval(level)
    verdict = Verdict(label, metric, better, gain, interval, noise, case.margin, level, (*evidence, *told), fit=fit)
    verdict = _with_law(verdict, case)
    if baseline is not None:
        verdict = replace(verdict, reach=reach(case, label, baseline))
    return verdict if fit is None else doubted(verdict, [flag.sentence for flag in _flags(fit) if flag.doubt])


def doubted(verdict: Verdict, doubts: Sequence[str]) -> Verdict:
    """Return the verdict as far as it stands without trust in the law behind it.

    That a metric improves over the sampled budgets needs no law. That it saturates, and that a baseline beyond the
    sampled budgets is or is not reachable, is said by the law alone, and becomes undetermined.

    Args:
        verdict: As the law has it.
        doubts: Why the law is not to be trusted; none leave the verdict as it is.
    """
    if not doubts or verdict.label in {"flat", "worsens"}:
        return verdict
    verdict = replace(verdict, doubts=tuple(dict.fromkeys([*verdict.doubts, *doubts])))
    if verdict.label == "saturates":
        why = f"it seems to saturate, but {doubts[0]}"
        verdict = replace(verdict, label="undetermined", evidence=(why, *verdict.evidence))
    if verdict.reach is None or verdict.reach.extrapolation_ratio <= 1:
        return verdict
    return replace(verdict, reach=open_question(verdict.reach, "the law is not to be trusted"))


def _flags(fit: LawFit) -> tuple[Flag, ...]:
    """Return a law's flags, with that of the test rows where there are any."""
    return (*fit.flags, *(one_sided(fit.holdout()) if len(fit.test) else ()))


def _above_zero(**given: float | None) -> None:
    for name, value in given.items():
        if value is not None and not (np.isfinite(value) and value > 0):
            raise UsageError(f"{name} must be above 0, not {value}")


def _noise(rows: RunTable, u: Floats, trend: Trend, fit: LawFit | None) -> float:
    """Return the noise of one run: the law may fit where the trend does not, and the smaller spread is the nearer."""
    if fit is None:
        return trend.noise
    residual = u - fit.law.curve.value(rows.N, rows.D)
    spread = 1.4826 * float(np.median(np.abs(residual))) * math.sqrt(len(u) / max(1, len(u) - len(fit.theta)))
    return float(np.nanmin([trend.noise, spread]))


def _decided(case: Case, usable: RunTable, by: str, replicates: int, seed: int) -> tuple[Case, str, tuple[str, ...]]:
    """Return the case with what was resampled for it, the label, and the evidence."""
    label, sentence = _moves(case)
    told: tuple[str, ...] = ()
    if label == "improves":
        case, told = _resampled(case, by, replicates, seed)
        label, sentence = _going_on(case, sentence)
    if label == "saturates" and (doubt := _contradiction(case, usable)):
        return case, "undetermined", (doubt, sentence, *told)
    return case, label, (sentence, *told)


def _law(
    rows: RunTable,
    metric: str,
    form: str,
    link: str,
    better: str,
    bounds: tuple[float, float] | None,
) -> tuple[LawFit | None, tuple[str, ...]]:
    """Fit by Huber with a delta of 1.345 residual spreads: nearly as precise as least squares, safe from outliers."""
    try:
        first = fit_law(rows, metric, form, "least_squares", link=link, better=better, bounds=bounds, seeds=8)
        spread = 1.4826 * float(np.median(np.abs(first.residuals)))
        if spread < 1e-9:
            return first, ("the law fits the rows exactly",)
        return fit_law(rows, metric, form, "huber", 1.345 * spread, link, bounds, better, seeds=8), ()
    except UsageError as error:
        return None, (f"no law could be fitted: {error}",)


def _resampled(case: Case, by: str, replicates: int, seed: int) -> tuple[Case, tuple[str, ...]]:
    """Add replicates of the law: needed only for a metric that improves, since no other determines one."""
    if case.fit is None:
        return case, ()
    try:
        return replace(case, draws=case.fit.bootstrap(by, replicates, seed)), ()
    except UsageError as error:
        return case, (str(error),)


def _moves(case: Case) -> tuple[str, str]:
    """Return what the trend alone says, with "improves" where the law must say whether that goes on."""
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
    return "improves", moved


def _gains(case: Case) -> tuple[float, float, Floats]:
    """Return what the law adds over the last and the next factor of ten, and replicates of the latter."""
    assert case.fit is not None
    assert case.draws is not None
    top = case.table.C.max()
    budgets = np.array([top / _DECADE, top, top * _DECADE])
    before, now, after = case.fit.law.curve.frontier(budgets)
    draws = case.draws.curve(1).frontier(budgets[1:])
    return float(before - now), float(now - after), draws[:, 0] - draws[:, 1]


def _going_on(case: Case, moved: str) -> tuple[str, str]:
    if case.fit is None or case.draws is None:
        return "undetermined", f"{moved}, but there is no law to say whether that goes on"
    last, ahead, draws = _gains(case)
    low, high = np.quantile(draws, [1 - case.level, case.level])
    said = (
        f"{moved}, and ten times more would add {ahead:.3g} [{low:.3g}, {high:.3g}] to the {last:.3g} of the last ten"
    )
    if high <= min(case.margin, 0.5 * last):
        return "saturates", said
    if low >= min(case.margin, 0.5 * last):
        return "scales", said
    return "undetermined", said


def _contradiction(case: Case, usable: RunTable) -> str:
    """Say what speaks against the limit of a law: larger runs that go on improving."""
    assert case.fit is not None
    beyond = usable.select((usable.split == "test") & (case.table.C.max() < usable.C))
    if len(beyond):
        axis = case.fit.law.axis
        better = case.fit.law.curve.value(beyond.N, beyond.D) - axis.orient(beyond.metric(case.metric))
        if float(np.mean(better)) > case.margin:
            return f"it seems to saturate, but larger test runs are better than the law says by {np.mean(better):.3g}"
    return ""


def _with_law(verdict: Verdict, case: Case) -> Verdict:
    """Add what the law says where it means something: a metric that does not improve determines no exponents."""
    if case.fit is None or case.draws is None:
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
