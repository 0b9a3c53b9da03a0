"""Trend: how a metric moves over the sampled budgets, by a regression that assumes no law."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from cdslm_eval.scaling.table import RunTable

__all__ = ["Trend", "fit_trend"]

Floats = npt.NDArray[np.float64]


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

    The covariance allows for noise that differs between rows (HC3: MacKinnon & White, 1985).

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
    columns = [np.ones_like(x), x, off, x**2, off**2, x * off]
    points = {1: lambda s: s, 3: lambda s: s**2}
    kept, design = [], np.empty((len(x), 0))
    for number, column in enumerate(columns):
        wider = np.column_stack([design, column])
        # columns that the rows cannot tell apart (one size per budget, two budgets) are left out
        if np.linalg.cond(wider) < 1e6 and wider.shape[1] <= max(2, len(x) // 3):
            kept.append(number)
            design = wider
    root = np.sqrt(table.weight / table.weight.mean())
    weighted = design * root[:, None]
    inverse = np.linalg.pinv(weighted.T @ weighted)
    coefficients = inverse @ weighted.T @ (u * root)
    residual = u * root - weighted @ coefficients
    free = len(x) - design.shape[1]
    contrast = np.array([points[i](-1.0) - points[i](1.0) if i in points else 0.0 for i in kept])
    leverage = np.clip(np.einsum("np,pq,nq->n", weighted, inverse, weighted), 0.0, 1 - 1e-6)
    meat = weighted * (residual / (1 - leverage))[:, None]
    covariance = inverse @ (meat.T @ meat) @ inverse
    error = float(np.sqrt(contrast @ covariance @ contrast)) if free > 0 else np.nan
    spread = float(np.median(np.abs(residual)) * 1.4826 * np.sqrt(len(x) / free)) if free > 0 else np.nan
    return Trend(float(contrast @ coefficients), error, free, spread, float(np.average(u, weights=table.weight)))
