"""Resampling: the one bootstrap, the one jackknife and the one t test of the package."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cdslm_eval.stats.clusters import Clusters

if TYPE_CHECKING:
    from cdslm_eval.stats.weighted import WeightedStatistic

__all__ = [
    "Jackknife",
    "TTest",
    "bootstrap",
    "bootstrap_error",
    "detectable_errors",
    "jackknife",
    "jackknife_se",
    "pooled_error",
    "t_half_width",
    "t_test",
]

CONFIDENCE = 0.95
POWER = 0.8
GROUPS = 200
MIN_CLUSTERS = 3
_CHUNK = 64
_CHUNK_CLIPS = 100_000
_EQUAL = 1e-10  # values within this share of their size are equal but for rounding
Floats = npt.NDArray[np.float64]


def bootstrap(
    statistic: WeightedStatistic,
    columns: Mapping[str, Floats],
    clusters: Clusters,
    *,
    seed: int | Sequence[int] = 0,
    replicates: int = 1000,
) -> Floats:
    """Return bootstrap replicates of a statistic, whole clusters drawn with replacement.

    Args:
        statistic: What to compute.
        columns: float64 `[clips]` by name.
        clusters: The clustering of the clips.
        seed: The same seed gives the same replicates.
        replicates: How many.

    Returns:
        float64 `[replicates]`.
    """
    rng = np.random.default_rng(seed)
    # in chunks: weights of all replicates at once would be replicates times clips
    parts = [
        statistic.evaluate(columns, clusters.draw(min(_CHUNK, replicates - start), rng))
        for start in range(0, replicates, _CHUNK)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def bootstrap_error(replicates: Floats, clusters: int) -> float:
    """Return the standard error that replicates show, without the bias of few clusters; NaN with under 2."""
    finite = replicates[np.isfinite(replicates)]
    if clusters < 2 or len(finite) < 2:
        return math.nan
    # k draws of k clusters spread with the variance over k, not over k - 1: too little by (k - 1) / k
    return float(np.std(finite, ddof=1)) * math.sqrt(clusters / (clusters - 1))


@dataclass(frozen=True, slots=True, eq=False)
class Jackknife:
    """A value, and its values without each group of clips.

    Attributes:
        value: The value of all clips.
        without: float64 `[groups]`; NaN where the rest has no value.
    """

    value: float
    without: Floats

    @property
    def pseudo_values(self) -> Floats:
        """What each group contributes, `[groups]`: the value is their mean, but for its bias."""
        count = len(self.without)
        return count * self.value - (count - 1) * self.without

    @property
    def se(self) -> float:
        """Standard error of the value; 0 where no group differs, NaN where it is not known."""
        # equal clips leave rounding errors, which a test would take for a small but sure variation
        error = jackknife_se(self.without)
        return 0.0 if error <= _EQUAL * float(np.abs(self.pseudo_values).max(initial=0.0)) else error

    @property
    def degrees(self) -> int:
        """Degrees of freedom of the standard error."""
        return len(self.without) - 1

    def minus(self, other: Jackknife) -> Jackknife:
        """Return the difference to the value of another sample, whose groups are paired with these."""
        difference = Jackknife(self.value - other.value, self.without - other.without)
        scale = max(float(np.abs(side.pseudo_values).max(initial=0.0)) for side in (self, other))
        # what remains of equal contributions after rounding must not count as variation
        if jackknife_se(difference.without) <= _EQUAL * scale:
            rounded = difference.value if abs(difference.value) > _EQUAL * scale else 0.0
            return Jackknife(rounded, np.full(len(self.without), rounded))
        return difference


def jackknife(
    statistic: WeightedStatistic, columns: Mapping[str, Floats], clusters: Clusters, rng: np.random.Generator
) -> Jackknife:
    """Evaluate a statistic without each cluster in turn, or without each of 200 groups of whole clusters.

    Args:
        statistic: What to compute; a smooth function of the weights.
        columns: float64 `[clips]` by name, at least one clip.
        clusters: The clustering of the clips.
        rng: Deals clusters into groups where there are more than 200.
    """
    if clusters.count <= GROUPS:
        groups, count = clusters.numbers, clusters.count
    else:
        # t of 199 degrees is all but normal: more groups would cost evaluations and gain next to nothing
        groups, count = clusters.deal(GROUPS, rng), GROUPS
    everything = np.ones(len(groups))
    value = float(statistic.evaluate(columns, everything[None])[0])
    if statistic.additive and all(column.ndim == 1 for column in columns.values()):
        # each of 200 rows of weights of ten million clips would read all of them
        sizes = np.bincount(groups, minlength=count).astype(float)
        columns = {name: np.bincount(groups, column, count) / sizes for name, column in columns.items()}
        groups, everything = np.arange(count), sizes
    # 51 MB of weights at once, or one group's: those of 64 groups of ten million clips would be 5 GB
    step = max(1, min(_CHUNK, _CHUNK * _CHUNK_CLIPS // len(groups)))
    parts = [
        statistic.evaluate(columns, (groups != np.arange(start, min(start + step, count))[:, None]) * everything)
        for start in range(0, count, step)
    ]
    return Jackknife(value, np.concatenate(parts))


def jackknife_se(without: Floats) -> float:
    """Return the standard error of a value from its values without each group; NaN with under 2 groups.

    Source: Shao and Tu (1995), "The Jackknife and Bootstrap", section 2.3 (grouped jackknife).
    """
    count = len(without)
    # one undefined value makes the error unknown: dropping it would drop the group that matters most
    if count < 2 or not np.isfinite(without).all():
        return math.nan
    return math.sqrt((count - 1) / count * float(np.square(without - without.mean()).sum()))


def pooled_error(errors: Sequence[float], degrees: Sequence[float]) -> tuple[float, float]:
    """Return the standard error of a sum or difference of independent parts, and its degrees of freedom.

    Args:
        errors: Standard errors of the parts.
        degrees: Degrees of freedom of each.

    Source: Welch (1947), Satterthwaite (1946).

    Example:
        >>> error, degrees = pooled_error([3.0, 4.0], [10, 10])
        >>> error, round(degrees, 2)
        (5.0, 18.55)
    """
    total = math.hypot(*errors)
    if not math.isfinite(total) or min(degrees) <= 0:
        return math.nan, 0
    # the degrees of freedom below would be 0 / 0
    if total == 0:
        return 0.0, min(degrees)
    shares = sum((error / total) ** 4 / count for error, count in zip(errors, degrees, strict=True))
    return total, 1 / shares


def t_half_width(se: float, degrees: float, confidence: float = CONFIDENCE) -> float:
    """Return the half-width of a t interval; NaN where there is no degree of freedom."""
    from scipy import stats  # here and below: listing metrics must not wait for scipy

    return float(stats.t.ppf((1 + confidence) / 2, degrees)) * se if degrees > 0 else math.nan


@dataclass(frozen=True, slots=True)
class TTest:
    """A difference with its interval, its p value and its power, all of one t distribution.

    Attributes:
        value, low, high: The difference and its 95 % interval.
        p_value: Two-sided, of no difference.
        detectable: The difference that such samples show at the 5 % level with 80 % power.
        reason: Why there is no interval, or "".
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    p_value: float = math.nan
    detectable: float = math.nan
    reason: str = ""

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.low)


def t_test(value: float, se: float, degrees: float) -> TTest:
    """Test a difference against zero; without an interval where its error is not known.

    Where every cluster has the same difference its error cannot be estimated. The p value is then that of the sign
    test, 2^(1 - clusters): what symmetric differences would do at most.

    Args:
        value: The difference.
        se: Its standard error.
        degrees: Degrees of freedom of `se`, clusters less one; at least 2, as an interval from 2 clusters is 9 times
            as wide as one from 3, and right for normal data only.
    """
    if degrees < MIN_CLUSTERS - 1 or not (math.isfinite(se) and math.isfinite(value)):
        return TTest(value)
    if se == 0:
        alike = "nothing differs" if value == 0 else "all differ by the same amount"
        p_value = 1.0 if value == 0 else 2.0**-degrees
        return TTest(value, p_value=p_value, reason=f"{alike}: an interval needs clips (or speakers) that vary")
    from scipy import stats

    half = t_half_width(se, degrees)
    p_value = float(2 * stats.t.sf(abs(value) / se, degrees))
    # degrees are rounded so that the cached root search serves many tests
    return TTest(value, value - half, value + half, p_value, detectable_errors(round(degrees, 1)) * se)


@functools.cache
def detectable_errors(degrees: float) -> float:
    """Return the difference, in estimated standard errors, that a two-sided 5 % t test shows with 80 % power.

    The estimate of a standard deviation is too small on average, the more so the fewer degrees of freedom it has;
    that is taken out, so that the stated difference is right on average.

    Example:
        >>> round(detectable_errors(4.0), 2), round(detectable_errors(1000.0), 2)
        (4.0, 2.8)
    """
    from scipy import optimize, special, stats

    bound = stats.t.ppf((1 + CONFIDENCE) / 2, degrees)

    def missing_power(shift: float) -> float:
        return float(stats.nct.sf(bound, degrees, shift)) - POWER  # the other tail is far below 1e-3

    shift = optimize.brentq(missing_power, 1.0, 20.0, xtol=1e-6)
    log_bias = special.gammaln((degrees + 1) / 2) - special.gammaln(degrees / 2) + math.log(2 / degrees) / 2
    return float(shift / math.exp(log_bias))
