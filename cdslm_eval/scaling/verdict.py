"""Verdict: does a metric scale, saturate, stay flat or worsen, and is a baseline within reach; with the evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling.axis import make_axis
from cdslm_eval.scaling.bootstrap import bootstrap
from cdslm_eval.scaling.evidence import Case, Reach, Trend, fit_trend, open_question, reach
from cdslm_eval.scaling.fit import LawFit, robust_fit
from cdslm_eval.scaling.flags import Flag
from cdslm_eval.scaling.law import LawSpec
from cdslm_eval.scaling.rows import usable_rows
from cdslm_eval.scaling.table import RunTable
from cdslm_eval.scaling.validation import hold_out, one_sided

__all__ = ["Verdict", "doubted", "judge"]

Floats = npt.NDArray[np.float64]
_DECADE = 10.0


@dataclass(frozen=True, eq=False)
class Verdict:
    """The judgement of one metric of a table.

    Attributes:
        label: "scales", "saturates", "flat", "worsens" or "undetermined".
        metric, better: The metric, and which way is better.
        gain: Improvement from the smallest to the largest budget, in the metric's units, with `gain_interval`.
        next_gain: What ten times the largest budget would add at the law's optimum; NaN without a law.
        noise: Standard deviation of one run, declared or estimated.
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
        parts = [f"{self.metric}: {_SENTENCES[self.label]}", self.evidence[0]]
        if self.doubts and self.label == "scales":
            parts.append(f"how far that continues is unknown, since {self.doubts[0]}")
        return "; ".join([*parts, *([self.reach.sentence] if self.reach else [])])


_SENTENCES = {
    "scales": "it scales",
    "saturates": "it saturates",
    "flat": "it is flat",
    "worsens": "it worsens with compute",
    "undetermined": "these data do not decide whether it scales",
}


def judge(
    table: RunTable,
    metric: str,
    spec: LawSpec | None = None,
    *,
    baseline: float | None = None,
    noise: float | None = None,
    margin: float | None = None,
    by: str = "row",
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Verdict:
    """Judge one metric of a table.

    Flat is an equivalence test: the interval of the gain over the sampled budgets (at 1 - 2 (1 - level)) lies within
    the margin on both sides. Else the gain's sign must be established. A metric that improves saturates when ten times
    the largest budget would surely add no more than the margin, and no more than half of what the last factor of ten
    added; it scales when it would surely add more than the smaller of these two.

    Args:
        table: The runs; train rows are used.
        metric: Name of the metric.
        spec: The law behind what is extrapolated, whose default link is "identity"; its estimator is not used (see
            `robust_fit`).
        baseline: A value to reach, such as that of real speech.
        noise: Standard deviation of the metric between runs alike; None estimates it from the residuals.
        margin: Smallest change that counts; None takes twice the noise.
        by: What is resampled: "row", "run" or "isoflop".
        replicates: Of the bootstrap.
        level: Of every interval.
        seed: Of the bootstrap.

    Raises:
        UsageError: No row can be used, or `noise` or `margin` is not above 0.

    Source: Schuirmann, "A comparison of the two one-sided tests procedure" (1987) (equivalence).
    """
    _above_zero(noise=noise, margin=margin)
    spec = spec or LawSpec()
    spec = replace(spec, link=spec.linked("identity"))
    case, usable, remarks = _case(table, metric, spec, noise, margin, level)
    case, label, evidence = _decided(case, usable, by, replicates, seed)
    trend, margin = case.trend, case.margin
    known = (trend.gain, trend.interval(level), case.noise, margin, level, (*evidence, *remarks))
    verdict = _with_law(Verdict(label, metric, spec.better, *known, fit=case.fit), case)
    if baseline is not None:
        verdict = replace(verdict, reach=reach(case, label, baseline))
    return verdict if case.fit is None else doubted(verdict, [f.sentence for f in _flags(case.fit) if f.doubt])


def _case(
    table: RunTable, metric: str, spec: LawSpec, noise: float | None, margin: float | None, level: float
) -> tuple[Case, RunTable, tuple[str, ...]]:
    """Return the trend and the law of a metric, the usable rows, and remarks about the law."""
    values = table.metric(metric)
    axis = make_axis(spec.link, values[np.isfinite(values)], spec.better, spec.bounds)
    usable = usable_rows(table, metric, axis)
    rows = usable.select(usable.split == "train")
    if len(rows) < 3:
        raise UsageError(f"{table.source}: {len(rows)} usable train rows of {metric!r} are too few for a verdict")
    fit, remarks = _law(usable, metric, spec)
    u = axis.orient(rows.metric(metric))
    trend = fit_trend(rows, u)
    noise = _noise(rows, u, trend, fit) if noise is None else noise
    margin = 2 * noise if margin is None else margin
    return Case(rows, metric, axis, u, trend, fit, None, noise, margin, level), usable, remarks


def doubted(verdict: Verdict, doubts: Sequence[str]) -> Verdict:
    """Return the part of a verdict that needs no trust in the law behind it.

    That a metric improves over the sampled budgets needs no law. That it saturates, and that a baseline beyond the
    sampled budgets is or is not reachable, rests on the law alone, and becomes undetermined.

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
    return (*fit.flags, *(one_sided(hold_out(fit)) if len(fit.test) else ()))


def _above_zero(**options: float | None) -> None:
    for name, value in options.items():
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
    """Return the case with its replicates, the label, and the evidence."""
    label, sentence = _moves(case)
    remarks: tuple[str, ...] = ()
    if label == "improves":
        case, remarks = _resampled(case, by, replicates, seed)
        label, sentence = _continues(case, sentence)
    if label == "saturates" and (doubt := _contradiction(case, usable)):
        return case, "undetermined", (doubt, sentence, *remarks)
    return case, label, (sentence, *remarks)


def _law(rows: RunTable, metric: str, spec: LawSpec) -> tuple[LawFit | None, tuple[str, ...]]:
    """Return the law, or None, with a remark where it is exact or cannot be fitted."""
    try:
        fit = robust_fit(rows, metric, spec)
    except UsageError as error:
        return None, (f"no law could be fitted: {error}",)
    exact = fit.spec.estimator == "least_squares"
    return fit, ("the law fits the rows exactly",) if exact else ()


def _resampled(case: Case, by: str, replicates: int, seed: int) -> tuple[Case, tuple[str, ...]]:
    """Add replicates of the law: needed only for a metric that improves, since no other determines one."""
    if case.fit is None:
        return case, ()
    try:
        return replace(case, draws=bootstrap(case.fit, by, replicates, seed)), ()
    except UsageError as error:
        return case, (str(error),)


def _moves(case: Case) -> tuple[str, str]:
    """Return the trend's label, with "improves" where the law must decide whether that continues."""
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
        return "undetermined", f"{moved}, inconclusive: the interval includes 0 and exceeds the margin of {margin:.3g}"
    return "improves", moved


def _gains(case: Case) -> tuple[float, float, Floats]:
    """Return the law's gain over the last and the next factor of ten, and replicates of the latter."""
    assert case.fit is not None
    assert case.draws is not None
    top = case.table.C.max()
    budgets = np.array([top / _DECADE, top, top * _DECADE])
    before, now, after = case.fit.law.curve.frontier(budgets)
    draws = case.draws.curve(1).frontier(budgets[1:])
    return float(before - now), float(now - after), draws[:, 0] - draws[:, 1]


def _continues(case: Case, moved: str) -> tuple[str, str]:
    if case.fit is None or case.draws is None:
        return "undetermined", f"{moved}, but there is no law to tell whether that continues"
    last, ahead, draws = _gains(case)
    low, high = np.quantile(draws, [1 - case.level, case.level])
    sentence = (
        f"{moved}, and ten times more would add {ahead:.3g} [{low:.3g}, {high:.3g}] to the {last:.3g} of the last ten"
    )
    if high <= min(case.margin, 0.5 * last):
        return "saturates", sentence
    if low >= min(case.margin, 0.5 * last):
        return "scales", sentence
    return "undetermined", sentence


def _contradiction(case: Case, usable: RunTable) -> str:
    """Return what contradicts the limit of a law: larger runs that continue to improve."""
    assert case.fit is not None
    beyond = usable.select((usable.split == "test") & (case.table.C.max() < usable.C))
    if len(beyond):
        axis = case.fit.law.axis
        better = case.fit.law.curve.value(beyond.N, beyond.D) - axis.orient(beyond.metric(case.metric))
        if float(np.mean(better)) > case.margin:
            return f"it seems to saturate, but larger test runs are better than the law by {np.mean(better):.3g}"
    return ""


def _with_law(verdict: Verdict, case: Case) -> Verdict:
    """Add the law's limit and exponents, where the metric improves: no other determines them."""
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
    if not case.fit.law.has_optimum:
        return verdict
    below, above = draws.ratio_exponent(case.level)
    if math.isnan(below):  # a law whose r* is no power of C
        return verdict
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
