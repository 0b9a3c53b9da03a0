"""What the forms that fit agree on: whether a metric continues to improve, and whether a baseline is reachable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling.bootstrap import bootstrap
from cdslm_eval.scaling.evidence import Case, Reach, fit_trend, open_question, reach
from cdslm_eval.scaling.forms import Candidate, what_would_decide
from cdslm_eval.scaling.table import RunTable

__all__ = ["How", "Judged", "Opinion", "extrapolated", "gains"]

Floats = npt.NDArray[np.float64]
_DECADE = 10.0
_DECIDED = frozenset({"scales", "saturates"})
_LEAST_PLATEAU = 6


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one form makes of the metric.

    Attributes:
        form: Its name.
        adequate: Whether it fits as well as noise allows.
        label: Its verdict; "" where it is not adequate.
        reach: "reachable", "unreachable", "undetermined", or "" without a baseline.
        limit: E, with `limit_interval`.
        chi2: Chi-square per degree of freedom against the declared noise; NaN where none was declared.
        aicc: Corrected Akaike criterion; smaller is better.
        reason: Why it is not adequate, or "".
    """

    form: str
    adequate: bool
    label: str
    reach: str
    limit: float
    limit_interval: tuple[float, float]
    chi2: float
    aicc: float
    reason: str


@dataclass(frozen=True, slots=True)
class How:
    """How verdicts are resampled, and the baseline to reach."""

    by: str
    replicates: int
    seed: int
    baseline: float | None


@dataclass(frozen=True, slots=True)
class Judged:
    """A case with its label, evidence, reach, and what each form makes of it."""

    case: Case
    label: str
    evidence: tuple[str, ...]
    opinions: tuple[Opinion, ...] = ()
    reach: Reach | None = None
    decide: str = ""


def extrapolated(case: Case, usable: RunTable, candidates: tuple[Candidate, ...], moved: str, how: How) -> Judged:
    """Return what the adequate forms agree on for a metric that improves."""
    adequate = [c for c in candidates if c.adequate] or [c for c in candidates if c.fit is case.fit and c.fit]
    judged = [_judged_by(replace(case, fit=c.fit), moved, how) for c in adequate]
    remarks = [] if judged else [f"no law could be fitted: {candidates[0].reasons[0]}"]
    opinions = tuple(
        _opinion(c, dict(zip((a.form for a in adequate), judged, strict=True)).get(c.form)) for c in candidates
    )
    best = next((j for j in judged if j.case.fit is case.fit), None)
    if best is None:
        sentence = f"{moved}, but there is no law to tell whether that continues"
        return Judged(case, "undetermined", (sentence, *remarks), opinions)
    # a law that misses the rows may be consulted, but not believed
    if not any(c.adequate for c in candidates):
        return _without_form(best, candidates, opinions)
    label, evidence, reached, decide = best.label, list(best.evidence), best.reach, ""
    others = list(zip(adequate, judged, strict=True))
    if clash := _clash(best.label, [(c, j.label) for c, j in others], _DECIDED):
        label, decide = "undetermined", _deciding(best, clash, case.noise)
        evidence.insert(0, _disagreement(best, clash, "it"))
    if reached is not None:
        decided = frozenset({"reachable", "unreachable"})
        if clash := _clash(reached.label, [(c, j.reach.label) for c, j in others if j.reach], decided):
            sentence = _disagreement(best, clash, f"{reached.baseline:g}", label=reached.label)
            reached = replace(open_question(reached, "forms disagree"), sentence=f"{sentence}")
            decide = decide or _deciding(best, clash, case.noise)
        elif reached.label == "reachable":
            # forms that agree on whether may differ on when
            reached = _widest(reached, [j.reach for j in judged if j.reach is not None])
    refused = [c for c in candidates if not c.adequate]
    if refused:
        evidence.append("; ".join(f"the form {c.form} is not used: {c.reasons[0]}" for c in refused))
    if label == "saturates" and (doubt := _contradiction(best.case, usable)):
        label, evidence = "undetermined", [doubt, *evidence]
    return Judged(best.case, label, tuple(evidence), opinions, reached, decide)


def _judged_by(case: Case, moved: str, how: How) -> Judged:
    """Return what one form makes of a metric that improves."""
    case, remarks = _resampled(case, how.by, how.replicates, how.seed)
    label, sentence = _continues(case, moved)
    reached = None if how.baseline is None else reach(case, label, how.baseline)
    return Judged(case, label, (sentence, *remarks), reach=reached)


def _opinion(candidate: Candidate, judged: Judged | None) -> Opinion:
    unknown = (math.nan, math.nan)
    fit, reason = candidate.fit, candidate.reasons[0] if candidate.reasons else ""
    limit = math.nan if fit is None else fit.parameters["E"]
    numbers = (candidate.chi2, candidate.aicc, reason)
    if judged is None or not candidate.adequate:
        return Opinion(candidate.form, candidate.adequate, "", "", limit, unknown, *numbers)
    draws = judged.case.draws
    interval = unknown if draws is None else draws.interval("E", judged.case.level)
    reached = "" if judged.reach is None else judged.reach.label
    return Opinion(candidate.form, True, judged.label, reached, limit, interval, *numbers)


def _clash(
    label: str, opinions: Sequence[tuple[Candidate, str]], decided: frozenset[str]
) -> tuple[Candidate, str] | None:
    """Return the form that decides otherwise than the best one, or None: one that decides nothing contradicts none."""
    if label not in decided:
        return None
    other = [(c, o) for c, o in opinions if o in decided and o != label]
    return min(other, key=lambda pair: pair[0].aicc) if other else None


def _disagreement(best: Judged, clash: tuple[Candidate, str], what: str, label: str = "") -> str:
    assert best.case.fit is not None
    first, second = label or best.label, clash[1]
    if label:
        whether = f"whether {what} is reachable is undetermined"
        return f"{whether}: by {best.case.fit.form} it is {first}, by {clash[0].form} {second}"
    return f"the forms that fit disagree: by {best.case.fit.form} {what} {first}, by {clash[0].form} it {second}"


def _deciding(best: Judged, clash: tuple[Candidate, str], noise: float) -> str:
    assert best.case.fit is not None
    assert clash[0].fit is not None
    return what_would_decide(best.case.fit, clash[0].fit, noise)


def _widest(reached: Reach, others: Sequence[Reach]) -> Reach:
    """Return a reachable baseline with the interval that holds those of all forms."""
    ends = [other.interval for other in others if other.label == "reachable"]
    low, high = min(e[0] for e in ends), max(e[1] for e in ends)
    old = "[{:.3g}, {:.3g}]".format(*reached.interval)
    sentence = reached.sentence.replace(old, f"[{low:.3g}, {high:.3g}]")
    return replace(reached, interval=(low, high), sentence=sentence)


def _without_form(best: Judged, candidates: Sequence[Candidate], opinions: tuple[Opinion, ...]) -> Judged:
    """Return what remains where no form fits: a plateau needs none."""
    case = best.case
    why = "; ".join(f"{c.form}: {c.reasons[0]}" for c in candidates if c.reasons)
    # rounding must not lose a budget at exactly a tenth
    top = case.table.C.max() / _DECADE * 0.999 <= case.table.C
    # a single budget shows no plateau
    if int(top.sum()) >= _LEAST_PLATEAU and len(np.unique(np.round(np.log(case.table.C[top]), 2))) > 1:
        last = fit_trend(case.table.select(top), case.u[top])
        low, high = last.interval(2 * case.level - 1)
        if -case.margin < low and high < case.margin and case.trend.gain > 2 * case.margin:
            sentence = (
                f"over the last factor of ten it moves by {last.gain:.3g} [{low:.3g}, {high:.3g}], less than "
                f"{case.margin:.3g}, after {case.trend.gain:.3g} over all budgets; no form fits, so its limit is "
                "unknown"
            )
            reached = best.reach and open_question(best.reach, "no form fits the rows")
            return Judged(replace(case, fit=None, draws=None), "saturates", (sentence, why), opinions, reached)
    reached = best.reach and open_question(best.reach, "no form fits the rows")
    evidence = (*best.evidence, f"no form fits the rows: {why}")
    return replace(best, evidence=evidence, opinions=opinions, reach=reached)


def _resampled(case: Case, by: str, replicates: int, seed: int) -> tuple[Case, tuple[str, ...]]:
    """Add replicates of the law: needed only for a metric that improves, since no other determines one."""
    if case.fit is None:
        return case, ()
    try:
        return replace(case, draws=bootstrap(case.fit, by, replicates, seed)), ()
    except UsageError as error:
        return case, (str(error),)


def gains(case: Case) -> tuple[float, float, Floats]:
    """Return the law's gain over the last and the next factor of ten, and replicates of both, `[replicates, 2]`."""
    assert case.fit is not None
    assert case.draws is not None
    top = case.table.C.max()
    budgets = np.array([top / _DECADE, top, top * _DECADE])
    before, now, after = case.fit.law.curve.frontier(budgets)
    drawn = case.draws.curve(1).frontier(budgets)
    return float(before - now), float(now - after), np.asarray(-np.diff(drawn, axis=1))


def _continues(case: Case, moved: str) -> tuple[str, str]:
    if case.fit is None or case.draws is None:
        return "undetermined", f"{moved}, but there is no law to tell whether that continues"
    last, ahead, draws = gains(case)
    low, high = case.draws.band(draws[:, 1], case.level)
    sentence = (
        f"{moved}, and ten times more would add {ahead:.3g} [{low:.3g}, {high:.3g}] to the {last:.3g} of the last ten"
    )
    # pair by pair: both gains share the amplitude of their replicate, so that their ratio is known far better than they
    least, most = case.draws.band(draws[:, 1] - np.minimum(case.margin, 0.5 * draws[:, 0]), 2 * case.level - 1)
    if most <= 0:
        return "saturates", sentence
    return "scales" if least >= 0 else "undetermined", sentence


def _contradiction(case: Case, usable: RunTable) -> str:
    """Return what contradicts the limit of a law: larger runs that continue to improve."""
    assert case.fit is not None
    beyond = usable.select((usable.split == "test") & (case.table.C.max() < usable.C))
    if len(beyond):
        axis = case.fit.law.axis
        better = case.fit.law.curve.value(beyond.N, beyond.D) - axis.orient(beyond.metric(case.metric))
        # the mean, since single runs scatter about a limit that holds
        if float(np.mean(better)) > case.margin:
            return f"it seems to saturate, but larger test runs are better than the law by {np.mean(better):.3g}"
    return ""
