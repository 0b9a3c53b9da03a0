"""95 % intervals of one sample: of a mean or what behaves like one, of a share, of a quantile."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cdslm_eval.stats.clusters import Clusters
from cdslm_eval.stats.resampling import MIN_CLUSTERS, Jackknife, t_half_width

__all__ = ["Interval", "mean_interval", "quantile_interval", "share_interval"]

TAIL = 0.025
# a sample shows too little of its source's tail: the fewer its clusters, the further the leaning side reaches
FEW = 10
FEW_TAIL, LEANING_TAIL = 0.0025, 0.005
POSITIVE = 6  # clusters up to which positive values are also taken for log-normal
TOO_FEW = f"an interval needs at least {MIN_CLUSTERS} clips (or speakers)"
ALIKE = "all clips have the same value: an interval needs clips that vary"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % interval.

    Attributes:
        low, high: Its ends; NaN where the sample cannot bound the value on that side.
        method: How it was made.
        reason: Why an end is not known, or "".
        se, degrees: Standard error of the value and its degrees of freedom, for tests; NaN where that is not known.
    """

    low: float = math.nan
    high: float = math.nan
    method: str = ""
    reason: str = ""
    se: float = math.nan
    degrees: float = math.nan

    @property
    def error(self) -> tuple[float, float]:
        """Standard error and degrees of freedom."""
        return self.se, self.degrees

    def within(self, low: float, high: float) -> Interval:
        """Return the interval cut to the values that there can be."""
        return dataclasses.replace(self, low=max(self.low, low), high=min(self.high, high))


def mean_interval(sample: Jackknife) -> Interval:
    """Return the t interval of a jackknifed value, made longer on the side to which its clusters are skewed.

    A t interval of few skewed clusters is too short on the side of their tail. The interval is the hull of the t
    interval, of Hall's transformed one, of both at a higher level on the side to which the clusters lean, and, up to
    6 clusters that are all positive, of Cox's for a log-normal mean. Up to 10 clusters any skewness counts as leaning,
    above them one of half a standard deviation of normal samples' skewness.

    Source: Hall (1992), "On the removal of skewness by transformation", J. R. Statist. Soc. B 54; Cox's method as in
        Zhou and Gao (1997), "Confidence intervals for the log-normal mean", with t for z (Olsson 2005). The levels
        were chosen by simulation, see docs/statistics.md.
    """
    method = "95% t"
    count, se = len(sample.without), sample.se
    if count < MIN_CLUSTERS or not math.isfinite(se):
        return Interval(method=method, reason=TOO_FEW)
    if se == 0:
        return Interval(method=method, reason=ALIKE, se=0.0, degrees=sample.degrees)
    x = sample.pseudo_values
    spread = x - x.mean()
    skewness = float(np.mean(spread**3) / np.mean(spread**2) ** 1.5)
    leans = abs(skewness) > (0.0 if count <= FEW else 0.5 * math.sqrt(6 / count))
    leaning = FEW_TAIL if count <= FEW else LEANING_TAIL
    low = sample.value - se * _reach(leaning if leans and skewness < 0 else TAIL, skewness, count)
    high = sample.value + se * _reach(leaning if leans and skewness > 0 else TAIL, -skewness, count)
    if count <= POSITIVE and x.min() > 0:
        logs = np.log(x)
        variance = float(logs.var(ddof=1))
        centre = float(logs.mean()) + variance / 2
        reach = t_half_width(math.sqrt(variance / count + variance**2 / (2 * (count + 1))), count - 1)
        low, high = min(low, math.exp(min(700.0, centre - reach))), max(high, math.exp(min(700.0, centre + reach)))
    return Interval(low, high, method, se=se, degrees=sample.degrees)


def _reach(tail: float, skewness: float, count: int) -> float:
    """Return how many standard errors the lower end is below the value: by t, or by Hall's transformation if further.

    The upper end is the lower one of mirrored clusters, whose skewness has the other sign.
    """
    t = t_half_width(1.0, count - 1, 1 - 2 * tail)
    # the transformation divides by the skewness, and tends to plain t where that vanishes
    return max(t, _hall(t, skewness, count)) if abs(skewness) > 1e-6 else t


def _hall(t: float, skewness: float, count: int) -> float:
    """Return the inverse of Hall's cubic transformation of a t statistic that removes its skewness."""
    root = math.sqrt(count)
    inner = 1 + skewness * (t / root - skewness / (6 * count))
    # the real cube root: a negative number to the power of 1 / 3 is complex in Python
    return 3 * root / skewness * (math.copysign(abs(inner) ** (1 / 3), inner) - 1)


def share_interval(share: float, sample: Jackknife, clusters: Clusters) -> Interval:
    """Return the interval of a share of clips: Clopper and Pearson's at the effective number of clips.

    Clips of one speaker are alike, so they count as fewer: as many as independent clips that would give the share the
    same standard error, less what that error is itself uncertain. Where all clips agree, each cluster counts once.

    Args:
        share: The share, 0..1.
        sample: Its jackknife.
        clusters: The clustering of the clips.

    Source: Korn and Graubard (1998), "Confidence intervals for proportions with small expected number of positive
        counts estimated from survey data", Survey Methodology 24.
    """
    from scipy import special  # here and below: listing metrics must not wait for scipy

    method = "95% Korn-Graubard"
    if clusters.count < MIN_CLUSTERS:
        return Interval(method=method, reason=TOO_FEW)
    count = _effective(share, sample.se, clusters)
    hits = share * count
    low = float(special.betaincinv(hits, count - hits + 1, TAIL)) if share > 0 else 0.0
    high = float(special.betaincinv(hits + 1, count - hits, 1 - TAIL)) if share < 1 else 1.0
    return Interval(low, high, method, se=sample.se, degrees=sample.degrees)


def quantile_interval(values: Floats, q: float, clusters: Clusters) -> Interval:
    """Return the interval between two order statistics; an end is open where no clip can bound the quantile.

    Args:
        values: float64 `[clips]`.
        q: The quantile, 0..1.
        clusters: The clustering of the clips; alike clips count as fewer, as in `share_interval`.

    Source: David and Nagaraja (2003), "Order Statistics", section 7.1; for clusters Woodruff (1952), "Confidence
        intervals for medians and other position measures".
    """
    from scipy import special

    method, count = "95% order statistics", len(values)
    if clusters.count < MIN_CLUSTERS:
        return Interval(method=method, reason=TOO_FEW)
    ordered = np.sort(values)
    # q * count may come out just above a whole number, and must not be rounded up for that
    below = (values <= ordered[min(count - 1, max(0, math.ceil(q * count - 1e-9) - 1))]).astype(np.float64)
    size = np.bincount(clusters.numbers).astype(np.float64)
    hits = np.bincount(clusters.numbers, below)
    without = Jackknife(below.mean(), (hits.sum() - hits) / (count - size))
    effective = _effective(q, without.se, clusters)
    steps = np.arange(1, count + 1) * (effective / count)
    # P(the j-th value lies above the quantile), and P(it lies below): binomial tails at the effective number of clips
    above = special.betainc(effective - steps + effective / count, steps - effective / count + 1, 1 - q)
    beneath = special.betainc(steps, effective - steps + 1, q)
    lows, highs = np.flatnonzero(above <= TAIL), np.flatnonzero(beneath <= TAIL)
    low = float(ordered[lows[-1]]) if len(lows) else math.nan
    high = float(ordered[highs[0]]) if len(highs) else math.nan
    return Interval(low, high, method, _open_ends(q, bool(len(lows)), bool(len(highs))))


def _open_ends(q: float, has_low: bool, has_high: bool) -> str:
    """Return why an end of a quantile's interval is open, or ""."""
    if has_low and has_high:
        return ""
    ends = " and ".join(end for end, known in (("lower", has_low), ("upper", has_high)) if not known)
    extreme = max(q if not has_high else 0.0, 1 - q if not has_low else 0.0)
    if extreme >= 1:
        return f"its {ends} end is open: no sample bounds an extreme"
    needed = math.ceil(math.log(TAIL) / math.log(extreme)) if extreme > 0 else 1
    return f"its {ends} end is open: to bound it takes {needed} independent clips"


def _effective(share: float, se: float, clusters: Clusters) -> float:
    """Return the number of independent clips that a clustered share is worth."""
    from scipy import stats

    clips, count = len(clusters), clusters.count
    if clusters.each_alone:
        return float(clips)
    if not se > 0:
        return float(count)
    # an error from few clusters is itself uncertain: the share is worth fewer clips by the ratio of t quantiles
    certain = (stats.t.ppf(TAIL, clips - 1) / stats.t.ppf(TAIL, count - 1)) ** 2
    return float(min(clips, max(1.0, share * (1 - share) / se**2 * certain)))
