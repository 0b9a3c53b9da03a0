"""Resampling: the one bootstrap, the one jackknife and the one t interval of the package."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cdslm_eval.stats.clusters import Clusters

if TYPE_CHECKING:
    from cdslm_eval.stats.weighted import WeightedStatistic

__all__ = ["TTest", "bootstrap", "bootstrap_interval", "jackknife_se", "t_half_width", "t_test"]

REPLICATES = 1000
CONFIDENCE = 0.95
_CHUNK = 64
Floats = npt.NDArray[np.float64]


def bootstrap(
    statistic: WeightedStatistic,
    columns: Mapping[str, Floats],
    clusters: Clusters,
    *,
    seed: int | Sequence[int] = 0,
    replicates: int = REPLICATES,
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
    parts = [
        statistic.evaluate(columns, clusters.draw(min(_CHUNK, replicates - start), rng))
        for start in range(0, replicates, _CHUNK)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def bootstrap_interval(replicates: Floats, clusters: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the expanded percentile interval of bootstrap replicates; NaN with under 2 clusters.

    The plain percentile interval is too narrow for few clusters; the quantiles are moved out as far as a
    t interval is wider than a normal one with the n - 1 / n variance.

    Source: Hesterberg (2015), "What Teachers Should Know About the Bootstrap", section 4.3 (expanded percentile).
    """
    from scipy import stats  # here and below: listing metrics must not wait for scipy

    replicates = replicates[np.isfinite(replicates)]
    if clusters < 2 or len(replicates) == 0:
        return math.nan, math.nan
    tail = stats.norm.cdf(math.sqrt(clusters / (clusters - 1)) * stats.t.ppf((1 - confidence) / 2, clusters - 1))
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


def jackknife_se(without: Floats) -> float:
    """Return the standard error of a value from its values without each group; NaN with under 2 groups.

    Source: Shao and Tu (1995), "The Jackknife and Bootstrap", section 2.3 (grouped jackknife).
    """
    count = len(without)
    if count < 2 or not np.isfinite(without).all():
        return math.nan
    return math.sqrt((count - 1) / count * float(np.square(without - without.mean()).sum()))


def t_half_width(se: float, degrees: int, confidence: float = CONFIDENCE) -> float:
    """Return the half-width of a t interval; NaN where there is no degree of freedom."""
    from scipy import stats

    return float(stats.t.ppf((1 + confidence) / 2, degrees)) * se if degrees > 0 else math.nan


@dataclass(frozen=True, slots=True)
class TTest:
    """A difference with its interval, its p value and its power, all of one t distribution.

    Attributes:
        value, low, high: The difference and its 95 % interval.
        p_value: Two-sided, of no difference.
        detectable: The smallest difference that this sample would have shown with 80 % power at the 5 % level.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    p_value: float = math.nan
    detectable: float = math.nan

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.low)


def t_test(value: float, se: float, degrees: int) -> TTest:
    """Test a difference against zero; without an interval where its error is not known."""
    from scipy import stats

    if degrees < 1 or not (math.isfinite(se) and math.isfinite(value)):
        return TTest(value)
    t = stats.t(degrees)
    half = float(t.ppf(0.975) * se)
    p_value = float(2 * t.sf(abs(value) / se)) if se > 0 else float(value == 0)
    return TTest(value, value - half, value + half, p_value, half + float(t.ppf(0.8)) * se)
