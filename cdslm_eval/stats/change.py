"""Change of a statistic from the first window of clips to the last, by a straight line through all windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cdslm_eval.stats.weighted import Floats, WeightedStatistic

__all__ = ["POSITION", "Change", "RoughChange"]

POSITION = "window"
"""Name of the column that holds each window's number."""


@dataclass(frozen=True)
class Change(WeightedStatistic):
    """Change of a statistic from the first to the last window, by least squares through its values in all windows.

    Attributes:
        statistic: What is evaluated in each window.
        windows: How many windows each clip has, at least 2.
    """

    statistic: WeightedStatistic
    windows: int

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of the statistic, and the number of the window."""
        return (*self.statistic.columns, POSITION)

    def evaluate(self, columns: Mapping[str, Floats], weights: Floats) -> Floats:
        """Return the change under each row of weights, `[replicates]`; NaN where a window has no value."""
        values = np.full((self.windows, len(weights)), np.nan)
        for window in range(self.windows):
            rows = columns[POSITION] == window
            if rows.any():
                own = {name: columns[name][rows] for name in self.statistic.columns}
                values[window] = self.statistic.evaluate(own, weights[:, rows])
        times = np.arange(self.windows) - (self.windows - 1) / 2
        change: Floats = times @ values / np.square(times).sum() * (self.windows - 1)
        return change


class RoughChange(Change):
    """Change of a statistic that jumps from clip to clip, such as a quantile."""

    smooth: ClassVar[bool] = False
