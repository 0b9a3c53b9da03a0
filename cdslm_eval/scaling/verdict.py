"""Verdict: does a metric scale, saturate, stay flat or worsen, and is a baseline within reach; with the evidence.

Every built-in form is fitted. What is extrapolated is stated only where the forms that fit agree on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling.agreement import How, Judged, Opinion, extrapolated, gains
from cdslm_eval.scaling.axis import make_axis
from cdslm_eval.scaling.evidence import Case, Reach, fit_trend, open_question, reach
from cdslm_eval.scaling.fit import LawFit
from cdslm_eval.scaling.flags import Flag, distrusted
from cdslm_eval.scaling.forms import Candidate, fit_candidates, noise_of, with_noise
from cdslm_eval.scaling.law import LawSpec
from cdslm_eval.scaling.rows import usable_rows
from cdslm_eval.scaling.table import RunTable
from cdslm_eval.scaling.validation import hold_out, one_sided

__all__ = ["Verdict", "doubted", "judge"]

Floats = npt.NDArray[np.float64]


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
        fit: The law behind the numbers: of the adequate forms the best; None where there were too few rows.
        forms: What each form makes of the metric.
        decide: Which run would decide between forms that disagree, or "".
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
    forms: tuple[Opinion, ...] = ()
    decide: str = ""

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        parts = [f"{self.metric}: {_SENTENCES[self.label]}", self.evidence[0]]
        if self.doubts and self.label == "scales":
            parts.append(f"how far that continues is unknown, since {self.doubts[0]}")
        return "; ".join(
            [*parts, *([self.reach.sentence] if self.reach else []), *([self.decide] if self.decide else [])]
        )


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
    added; it scales when it would surely add more than the smaller of these two. Both rest on a law: every built-in
    form that fits as well as noise allows is consulted, and where two of them disagree nothing is decided. Where no
    form fits, a metric saturates when it surely moved by less than the margin over the last factor of ten.

    Args:
        table: The runs; train rows are used.
        metric: Name of the metric.
        spec: The law that is consulted besides the built-in ones, and the link (default "identity"); its estimator is
            not used (see `robust_fit`).
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
    case, usable, candidates = _case(table, metric, spec, noise, margin, level)
    label, sentence = _moves(case)
    how = How(by, replicates, seed, baseline)
    judged = Judged(case, label, (sentence,))
    if label == "improves":
        judged = extrapolated(case, usable, candidates, sentence, how)
    case, label = judged.case, judged.label
    known = (case.trend.gain, case.trend.interval(level), case.noise, case.margin, level, judged.evidence)
    verdict = Verdict(label, metric, spec.better, *known, fit=case.fit, forms=judged.opinions, decide=judged.decide)
    verdict = _with_law(verdict, case)
    if baseline is not None:
        verdict = replace(verdict, reach=judged.reach or reach(case, label, baseline))
    return verdict if case.fit is None else doubted(verdict, [f.sentence for f in distrusted(_flags(case.fit))])


def _case(
    table: RunTable, metric: str, spec: LawSpec, noise: float | None, margin: float | None, level: float
) -> tuple[Case, RunTable, tuple[Candidate, ...]]:
    """Return the trend of a metric with the best law, the usable rows, and all forms."""
    values = table.metric(metric)
    axis = make_axis(spec.link, values[np.isfinite(values)], spec.better, spec.bounds)
    usable = usable_rows(table, metric, axis)
    rows = usable.select(usable.split == "train")
    if len(rows) < 3:
        raise UsageError(f"{table.source}: {len(rows)} usable train rows of {metric!r} are too few for a verdict")
    u = axis.orient(rows.metric(metric))
    trend, candidates = fit_trend(rows, u), fit_candidates(usable, metric, spec)
    # a law may fit where the trend does not: the smallest spread is the nearest to the noise of a run
    spreads = [trend.noise, *(noise_of(c) for c in candidates if c.adequate or c.form == spec.form)]
    declared = noise is not None
    if noise is None:
        noise = float(np.nanmin(spreads)) if np.isfinite(spreads).any() else math.nan
    margin = 2 * noise if margin is None else margin
    candidates = with_noise(candidates, noise, declared=declared)
    best = _best(candidates, spec.form)
    return Case(rows, metric, axis, u, trend, best.fit, None, noise, margin, level), usable, candidates


def _best(candidates: Sequence[Candidate], form: str) -> Candidate:
    """Return the adequate form of least criterion (the requested one within 2 of it); the requested one if none is."""
    requested = next(c for c in candidates if c.form == form)
    adequate = [c for c in candidates if c.adequate]
    if not adequate:
        return requested
    best = min(adequate, key=lambda c: c.aicc)
    # a criterion within 2 is no evidence against the law that was asked for
    return requested if requested.adequate and requested.aicc <= best.aicc + 2 else best


def doubted(verdict: Verdict, doubts: Sequence[str]) -> Verdict:
    """Return the part of a verdict that needs no trust in the law behind it.

    That a metric improves over the sampled budgets needs no law. That it saturates, and that a baseline beyond the
    sampled budgets is or is not reachable, rests on the law alone, and becomes undetermined.

    Args:
        verdict: As the law has it.
        doubts: Why the law is not to be trusted; none leave the verdict as it is.
    """
    # flat and worsens rest on the trend alone
    if not doubts or verdict.label in {"flat", "worsens"}:
        return verdict
    verdict = replace(verdict, doubts=tuple(dict.fromkeys([*verdict.doubts, *doubts])))
    if verdict.label == "saturates":
        why = f"it seems to saturate, but {doubts[0]}"
        verdict = replace(verdict, label="undetermined", evidence=(why, *verdict.evidence))
    # within the sampled budgets no extrapolation is at stake
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


def _moves(case: Case) -> tuple[str, str]:
    """Return the trend's label, with "improves" where the law must decide whether that continues."""
    trend, margin = case.trend, case.margin
    low, high = trend.interval(case.level)
    # two one-sided tests at 1 - level are one interval at 2 level - 1
    narrow = trend.interval(2 * case.level - 1)
    budgets = f"from C = {case.table.C.min():.3g} to {case.table.C.max():.3g}"
    moved = f"{budgets} it improves by {trend.gain:.3g} [{low:.3g}, {high:.3g}]"
    if np.ptp(case.table.C) == 0:
        return "undetermined", "all rows have one budget"
    # before the sign: a change may be certain and still too small to count
    if -margin < narrow[0] and narrow[1] < margin:
        return "flat", f"{moved}: by less than {margin:.3g} over these budgets, which counts as no change"
    if high < 0:
        return "worsens", f"{budgets} it worsens by {-trend.gain:.3g} [{-high:.3g}, {-low:.3g}]"
    if low <= 0:
        return "undetermined", f"{moved}, inconclusive: the interval includes 0 and exceeds the margin of {margin:.3g}"
    return "improves", moved


def _with_law(verdict: Verdict, case: Case) -> Verdict:
    """Add the law's limit and exponents, where the metric improves: no other determines them."""
    if case.fit is None or case.draws is None:
        return verdict
    draws = case.draws
    _, ahead, further = gains(case)
    low, high = draws.band(further[:, 1], case.level)
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
