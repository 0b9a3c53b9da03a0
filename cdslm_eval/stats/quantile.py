"""Quantiles of a column over clips."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cdslm_eval.stats.clusters import Clusters
from cdslm_eval.stats.intervals import Interval, quantile_interval
from cdslm_eval.stats.resampling import bootstrap_error
from cdslm_eval.stats.sample import Sample
from cdslm_eval.stats.statistic import Context
from cdslm_eval.stats.weighted import Floats, WeightedStatistic

__all__ = ["Quantile"]


@dataclass(frozen=True)
class Quantile(WeightedStatistic):
    """Quantile of a column over clips: the least value that at least a share `q` of the weight does not exceed.

    Example:
        >>> Quantile("x", 0.5).evaluate({"x": np.array([9.0, 1.0, 4.0])}, np.ones((1, 3)))
        array([4.])
    """

    smooth: ClassVar[bool] = False

    column: str
    q: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.q <= 1.0:
            raise ValueError(f"a quantile lies in 0..1, not at {self.q}")

    @property
    def columns(self) -> tuple[str, ...]:
        """The one column."""
        return (self.column,)

    def _interval(self, columns: Mapping[str, Floats], clusters: Clusters, context: Context) -> Interval:
        """Return the interval between two order statistics, with a bootstrap's error where both bound the quantile."""
        interval = quantile_interval(columns[self.column], self.q, clusters)
        if interval.reason:
            return interval
        se = bootstrap_error(self._bootstrap(columns, clusters, context), clusters.count)
        return dataclasses.replace(interval, se=se, degrees=clusters.count - 1)

    def _why_untested(self, sides: Sequence[Sample], context: Context) -> str:
        """Return why a side's quantile is not bounded: its bootstrap error is then far too small."""
        del context
        intervals = [quantile_interval(self._read(side)[0][self.column], self.q, side.clusters) for side in sides]
        return next((interval.reason for interval in intervals if interval.reason), "")

    def evaluate(self, columns: Mapping[str, Floats], weights: Floats) -> Floats:
        """Return the weighted quantiles, `[replicates]`."""
        values = columns[self.column]
        if len(values) == 0:
            return np.full(len(weights), np.nan)
        order = np.argsort(values, kind="stable")
        cumulative = np.cumsum(weights[:, order], axis=1)
        # q times the weight may round up past the clip that reaches it exactly, hence 1 - 1e-12 below
        target = self.q * cumulative[:, -1:]
        # a weight of zero never holds the quantile, hence the first index where the running weight is above 0 too
        index = np.argmax((cumulative >= target * (1 - 1e-12)) & (cumulative > 0), axis=1)
        return np.where(cumulative[:, -1] > 0, values[order][index], np.nan)
