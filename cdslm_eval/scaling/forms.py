"""Candidate forms of a metric: every built-in law, and which of them fit as well as noise allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cdslm_eval.builtin.laws import cdslm_laws
from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling.adequacy import noise_sentence
from cdslm_eval.scaling.fit import HUBER_SPREADS, LawFit, residuals, robust_fit
from cdslm_eval.scaling.flags import distrusted
from cdslm_eval.scaling.law import LawSpec
from cdslm_eval.scaling.table import RunTable

__all__ = ["Candidate", "fit_candidates", "noise_of", "what_would_decide", "with_noise"]

Floats = npt.NDArray[np.float64]
# a criterion this far above the least leaves a form without support (Burnham & Anderson, 2002, section 2.6)
_UNSUPPORTED = 10.0
_FACTORS = (3.0, 10.0, 30.0, 100.0, 1000.0)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A form fitted to the rows.

    Attributes:
        form: Its name.
        fit: The law; None where `reasons` has why it could not be fitted.
        chi2: Chi-square per degree of freedom against the declared noise; NaN where none was declared.
        aicc: Corrected Akaike criterion of the robust fit, by one noise for all forms; smaller is better.
        reasons: Why it is not adequate; empty where it is.
    """

    form: str
    fit: LawFit | None
    chi2: float = math.nan
    aicc: float = math.inf
    reasons: tuple[str, ...] = ()

    @property
    def adequate(self) -> bool:
        """Whether the form fits as well as noise allows, and not much worse than another."""
        return self.fit is not None and not self.reasons


def fit_candidates(rows: RunTable, metric: str, spec: LawSpec) -> tuple[Candidate, ...]:
    """Fit the form of a spec and every built-in form robustly; misfit is judged without knowing the noise.

    Args:
        rows: The usable rows.
        metric: The metric.
        spec: The law, link and bounds; its estimator is not used.
    """
    candidates = []
    for form in dict.fromkeys([spec.form, *(law.name for law in cdslm_laws())]):
        try:
            fit = robust_fit(rows, metric, replace(spec, form=form))
        except UsageError as error:
            candidates.append(Candidate(form, None, reasons=(f"no law could be fitted: {error}",)))
            continue
        doubts = [flag for flag in distrusted(fit.flags, within=True) if flag.scope == "law"]
        candidates.append(Candidate(form, fit, reasons=tuple(flag.sentence for flag in doubts)))
    return tuple(candidates)


def noise_of(candidate: Candidate) -> float:
    """Return the robust standard deviation of a run around a candidate, in the metric's units; NaN without a law."""
    if candidate.fit is None:
        return math.nan
    r = _misses(candidate.fit)
    return 1.4826 * float(np.median(np.abs(r))) * math.sqrt(len(r) / max(1, len(r) - len(candidate.fit.theta)))


def with_noise(candidates: Sequence[Candidate], noise: float, *, declared: bool) -> tuple[Candidate, ...]:
    """Return the candidates with their chi-square (of declared noise) and criterion, and those refused by them.

    Args:
        candidates: Of `fit_candidates`.
        noise: Standard deviation of one run, in the metric's units.
        declared: Whether it is known, or was estimated from these rows.
    """
    judged = []
    for candidate in candidates:
        if candidate.fit is None:
            judged.append(candidate)
            continue
        fit = candidate.fit
        r, size = _misses(fit), len(fit.theta)
        ratio, sentence = noise_sentence(r, fit.table.weight, noise, size) if declared and noise > 0 else (math.nan, "")
        reasons = (*candidate.reasons, *([sentence] if sentence else []))
        judged.append(
            replace(candidate, chi2=ratio, aicc=_criterion(r, fit.table.weight, noise, size), reasons=reasons)
        )
    least = min((c.aicc for c in judged if c.adequate), default=math.inf)
    return tuple(
        replace(c, reasons=(f"its criterion is {c.aicc - least:.3g} above that of the best form",))
        if c.adequate and c.aicc > least + _UNSUPPORTED
        else c
        for c in judged
    )


def _misses(fit: LawFit) -> Floats:
    """Return measured less fitted in the oriented metric, `[rows]`."""
    axis = fit.law.axis
    if axis.link.name == "identity":
        return residuals(fit) * axis.link.scale
    u = axis.orient(fit.table.metric(fit.metric))
    return np.asarray(u - axis.link.inverse(fit.problem.predict(fit.theta[None])[0]))


def _criterion(r: Floats, weight: Floats, noise: float, size: int) -> float:
    """Return AICc with Huber's rho for the deviance, so that one outlier does not choose the form."""
    count = len(r)
    if not noise > 0 or count - size - 1 < 1:
        return math.inf
    z = np.abs(r) / noise * np.sqrt(weight / weight.mean())
    inner = np.minimum(z, HUBER_SPREADS)
    deviance = float(np.sum(2 * inner * (z - inner / 2)))
    return deviance + 2 * size + 2 * size * (size + 1) / (count - size - 1)


def what_would_decide(first: LawFit, second: LawFit, noise: float) -> str:
    """Return which run would separate two laws: the least budget beyond the data where they differ by three noises."""
    largest = float(first.table.C.max())
    for factor in _FACTORS:
        C = factor * largest
        values = [float(fit.law.axis.restore(fit.law.curve.frontier(C))) for fit in (first, second)]
        if abs(values[0] - values[1]) > 3 * noise:
            return (
                f"one run at C = {C:.3g} would decide: {first.form} expects {values[0]:.4g}, {second.form} "
                f"{values[1]:.4g}"
            )
    return f"no run up to {_FACTORS[-1]:g} times the largest budget would decide; more runs at these budgets would"
