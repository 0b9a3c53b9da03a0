"""A power law of optima: y = coefficient C^exponent by weighted least squares on logarithms."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from cdslm_eval.core.errors import UsageError

__all__ = ["PowerLaw", "fit_power_law"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PowerLaw:
    """ln y = log_coefficient + exponent ln C.

    Attributes:
        exponent: Its exponent.
        log_coefficient: Natural log of its value at C = 1.
        interval: Of the exponent; NaN where two points leave nothing to judge by.
        level: Of the interval.
        n: How many points were fitted.
        replicates: (log_coefficient, exponent) `[replicates, 2]`, from which bands are drawn; empty if none.
    """

    exponent: float
    log_coefficient: float
    interval: tuple[float, float]
    level: float
    n: int
    replicates: Floats = field(default_factory=lambda: np.empty((0, 2)), repr=False)

    def value(self, C: npt.ArrayLike) -> Floats:
        """Return y at budgets C."""
        return np.asarray(np.exp(self.log_coefficient + self.exponent * np.log(np.asarray(C, float))))

    def band(self, C: npt.ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
        """Return the interval of y at budgets C; NaN without replicates."""
        log_c = np.log(np.asarray(C, float))
        if not len(self.replicates):
            nothing = np.full(log_c.shape, np.nan)
            return nothing, nothing.copy()
        draws = self.replicates[:, 0].reshape(-1, *(1,) * log_c.ndim)
        slopes = self.replicates[:, 1].reshape(draws.shape)
        low, high = np.quantile(np.exp(draws + slopes * log_c), [(1 - level) / 2, (1 + level) / 2], axis=0)
        return low, high


def fit_power_law(
    C: npt.ArrayLike, y: npt.ArrayLike, log_std: npt.ArrayLike | None = None, level: float = 0.95, seed: int = 0
) -> PowerLaw:
    """Fit y = coefficient C^exponent.

    Args:
        C: Budgets, above 0, `[n]`.
        y: Optima, above 0, `[n]`.
        log_std: Standard deviation of each ln y, above 0; None weights all alike. Only their ratios matter: the scatter
            about the line sets the interval.
        level: Of the interval.
        seed: Of the replicates that draw the band.

    Raises:
        UsageError: There are fewer than two different budgets, or a value is not above 0.
    """
    budgets, values = np.asarray(C, float), np.asarray(y, float)
    std = np.ones(len(values)) if log_std is None else np.asarray(log_std, float)
    for name, some in (("C", budgets), ("y", values), ("log_std", std)):
        if not (np.isfinite(some).all() and np.all(some > 0)):
            raise UsageError(f"a power law needs {name} above 0")
    if len(np.unique(budgets)) < 2:
        raise UsageError(f"a power law needs at least two budgets with an optimum, not {len(np.unique(budgets))}")
    x, z, weight = np.log(budgets), np.log(values), std**-2
    centre = float(np.average(x, weights=weight))
    slope, level_z = _line(x - centre, z[None], weight)
    residual = z - level_z[0] - slope[0] * (x - centre)
    free = len(x) - 2
    total, moment = float(weight.sum()), float(weight @ (x - centre) ** 2)
    if free < 1:
        return PowerLaw(float(slope[0]), float(level_z[0] - slope[0] * centre), (np.nan, np.nan), level, len(x))
    scale = np.sqrt(float(weight @ residual**2) / free)
    half = float(student.ppf((1 + level) / 2, free)) * scale / np.sqrt(moment)
    draws = np.random.default_rng(seed).standard_t(free, (2, 2000)) * scale
    slopes = slope[0] + draws[0] / np.sqrt(moment)
    levels = level_z[0] + draws[1] / np.sqrt(total)
    replicates = np.column_stack([levels - slopes * centre, slopes])
    interval = (float(slope[0] - half), float(slope[0] + half))
    return PowerLaw(float(slope[0]), float(level_z[0] - slope[0] * centre), interval, level, len(x), replicates)


def _line(x: Floats, z: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Return slopes and values at x = 0 of weighted lines through rows of z, where the weighted mean of x is 0."""
    return z @ (weight * x) / (weight @ x**2), z @ weight / weight.sum()
