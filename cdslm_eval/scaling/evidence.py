"""Evidence of a verdict: a trend that assumes no law, the law behind it, and whether a baseline is within reach."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from cdslm_eval.scaling.axis import Axis
from cdslm_eval.scaling.bootstrap import Bootstrap
from cdslm_eval.scaling.fit import LawFit
from cdslm_eval.scaling.table import RunTable

__all__ = ["Case", "Reach", "Trend", "fit_trend", "open_question", "reach"]

Floats = npt.NDArray[np.float64]
_STRONG = 6.0  # less of Schwarz's criterion: strong evidence for a term (Kass & Raftery, 1995, section 3.2)


@dataclass(frozen=True, eq=False)
class Trend:
    """Gain over the sampled budgets along the middle of the sampled sizes.

    Attributes:
        gain: Fall of the oriented metric from the smallest to the largest budget: above 0, it improves.
        error: Its standard error; NaN without degrees of freedom.
        free: Degrees of freedom.
        noise: Robust standard deviation of the residuals: the noise of one run, as far as the regression fits.
        level: Mean of the oriented metric.
    """

    gain: float
    error: float
    free: int
    noise: float
    level: float

    def interval(self, level: float) -> tuple[float, float]:
        """Return the interval of the gain."""
        if self.free < 1 or not np.isfinite(self.error):
            return -np.inf, np.inf
        half = float(student.ppf((1 + level) / 2, self.free)) * self.error
        return self.gain - half, self.gain + half


def fit_trend(table: RunTable, u: Floats) -> Trend:
    """Regress the oriented metric on ln C and on a model's distance from its budget's middle size, with squares.

    Further powers of both enter where Schwarz's criterion gives strong evidence for them: the gain of a metric that
    levels off is not that of a parabola. The covariance allows for noise that differs between rows (HC3: MacKinnon &
    White, 1985).

    Args:
        table: The rows.
        u: The oriented metric, `[rows]`.
    """
    x = np.log(table.C)
    middle, half = (x.max() + x.min()) / 2, (x.max() - x.min()) / 2
    x = (x - middle) / (half or 1.0)
    size = np.log(table.N)
    line = np.polynomial.polynomial.polyfit(x, size, 1) if half else np.array([size.mean(), 0.0])
    off = size - line[0] - line[1] * x
    off = off / (np.abs(off).max() or 1.0)
    root = np.sqrt(table.weight / table.weight.mean())
    design, powers = _trend_design(x, off, u, root)
    weighted = design * root[:, None]
    inverse = np.linalg.pinv(weighted.T @ weighted)
    coefficients = inverse @ weighted.T @ (u * root)
    residual = u * root - weighted @ coefficients
    free = len(x) - design.shape[1]
    # off the middle of the sizes nothing is read, and even powers are the same at both ends
    contrast = np.array([-2.0 if power % 2 else 0.0 for power in powers])
    leverage = np.clip(np.einsum("np,pq,nq->n", weighted, inverse, weighted), 0.0, 1 - 1e-6)
    meat = weighted * (residual / (1 - leverage))[:, None]
    covariance = inverse @ (meat.T @ meat) @ inverse
    error = float(np.sqrt(contrast @ covariance @ contrast)) if free > 0 else np.nan
    spread = float(np.median(np.abs(residual)) * 1.4826 * np.sqrt(len(x) / free)) if free > 0 else np.nan
    return Trend(float(contrast @ coefficients), error, free, spread, float(np.average(u, weights=table.weight)))


def _trend_design(x: Floats, off: Floats, u: Floats, root: Floats) -> tuple[Floats, tuple[int, ...]]:
    """Return the columns of the regression, and the power of x that each is (0 for those of other variables)."""
    powers: tuple[int, ...] = ()
    design = np.empty((len(x), 0))
    for column, power in ((np.ones_like(x), 0), (x, 1), (off, 0), (x**2, 2), (off**2, 0), (x * off, 0)):
        design, powers = _with_column(design, powers, column, power)
    pool = [(x**power, power) for power in (3, 4, 5)]
    pool += [(x**i * off**j, 0) for i, j in ((1, 2), (2, 1), (0, 3), (2, 2), (1, 3), (0, 4))]
    least = _schwarz(design, u, root)
    while pool:
        wider = [_with_column(design, powers, *term) for term in pool]
        criteria = [_schwarz(columns, u, root) for columns, _ in wider]
        best = int(np.argmin(criteria))
        if criteria[best] >= least - _STRONG:
            break
        (design, powers), least = wider[best], criteria[best]
        del pool[best]
    return design, powers


def _with_column(design: Floats, powers: tuple[int, ...], column: Floats, power: int) -> tuple[Floats, tuple[int, ...]]:
    """Add a column, unless the rows cannot tell it from the others (one size per budget, two budgets) or are few."""
    wider = np.column_stack([design, column])
    if np.linalg.cond(wider) < 1e6 and wider.shape[1] <= max(2, len(column) // 3):
        return wider, (*powers, power)
    return design, powers


def _schwarz(design: Floats, u: Floats, root: Floats) -> float:
    """Return Schwarz's Bayesian criterion of a regression; infinite where it leaves no residuals."""
    count, size = design.shape
    if count <= size:
        return np.inf
    residual = u * root - design * root[:, None] @ np.linalg.lstsq(design * root[:, None], u * root, rcond=None)[0]
    # rounding of an exact fit must not call for further powers
    squares = max(float(residual @ residual) / count, 1e-20 * float(np.mean(u**2)), 1e-300)
    return float(count * np.log(squares) + size * np.log(count))


@dataclass(frozen=True, slots=True)
class Case:
    """The rows to judge, their trend, and the law behind them where one could be fitted."""

    table: RunTable
    metric: str
    axis: Axis
    u: Floats
    trend: Trend
    fit: LawFit | None
    draws: Bootstrap | None
    noise: float
    margin: float
    level: float


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether a baseline, such as real data, is within reach of compute.

    Attributes:
        label: "reachable", "unreachable" (at any compute) or "undetermined".
        baseline: Its value of the metric.
        C: Least budget whose best model is as good; infinite where there is none, NaN where it is unknown.
        interval: Of C, by the level of the verdict; an infinite end means that no budget may be enough.
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


def reach(case: Case, label: str, baseline: float) -> Reach:
    """Judge a baseline.

    Args:
        case: The metric's rows, trend and law.
        label: The verdict on the metric itself.
        baseline: The value to reach.
    """
    target = float(case.axis.orient(baseline))
    if label in {"flat", "worsens"} or case.fit is None or case.draws is None:
        return _reach_without_law(case, label, baseline, target)
    draws = np.asarray(case.draws.reach(baseline))
    share = float(np.mean(np.isfinite(draws)))
    low, high = np.quantile(draws, [(1 - case.level) / 2, (1 + case.level) / 2], method="closest_observation")
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
    sentence = (
        f"whether {baseline:g} is reachable is undetermined: the limit is {case.fit.parameters['E']:.4g} {limits}"
    )
    return Reach("undetermined", baseline, C, interval, share, C / largest, sentence)


def _reach_without_law(case: Case, label: str, baseline: float, target: float) -> Reach:
    """Judge a baseline for a metric that does not improve, or that no law describes."""
    reached = case.table.C[case.u <= target]
    error = case.trend.noise / np.sqrt(len(case.u)) if np.isfinite(case.trend.noise) else 0.0
    if label == "flat":
        if case.trend.level + 2 * error <= target:
            return _known("reachable", baseline, float(case.table.C.min()), 1.0, "is reached at every sampled budget")
        if case.trend.level - 2 * error - case.margin > target:
            how = (
                f"is not reached at any sampled budget, over which the metric moves by less than {case.margin:.3g}; "
                "whether more compute reaches it is not decided by these data"
            )
            return _known("undetermined", baseline, np.nan, np.nan, how)
    elif len(reached):
        least = float(reached.min())
        return _known("reachable", baseline, least, 1.0, f"was reached at C = {least:.3g}")
    elif label == "worsens":
        return _known(
            "unreachable", baseline, np.inf, np.inf, "is not reached, and more compute makes the metric worse"
        )
    return _known("undetermined", baseline, np.nan, np.nan, "")


def _known(label: str, baseline: float, C: float, ratio: float, how: str) -> Reach:
    sentence = f"{baseline:g} {how}" if how else f"whether {baseline:g} is reachable is undetermined"
    return Reach(label, baseline, C, (np.nan, np.nan), np.nan, ratio, sentence)


def open_question(known: Reach, why: str) -> Reach:
    """Return the same baseline as undetermined, with the reason.

    Args:
        known: The judgement that does not hold.
        why: Why it does not.
    """
    sentence = f"whether {known.baseline:g} is reachable is undetermined, since {why}"
    return replace(known, label="undetermined", sentence=sentence)
