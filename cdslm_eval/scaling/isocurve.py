"""The curve of one isoFLOP (a polynomial in ln N, its minimum and their precision), and power laws of such optima."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from numpy.polynomial import polynomial
from scipy.stats import t as student

from cdslm_eval.core.errors import UsageError

__all__ = ["OWN_FREEDOM", "CurveDraws", "IsoCurve", "PowerLaw", "criterion_of", "fit_curve", "fit_power_law"]

Floats = npt.NDArray[np.float64]
OWN_FREEDOM = 6  # with fewer degrees of freedom of its own, a budget takes the noise of all of them


@dataclass(frozen=True, eq=False)
class CurveDraws:
    """Draws of a curve's coefficients that have a minimum: ln N, u and curvature there, each `[draws with one]`."""

    minimum: Floats
    value: Floats
    kappa: Floats


@dataclass(frozen=True, eq=False)
class IsoCurve:
    """A polynomial u(x), x = ln N - centre; u is the oriented metric (smaller is better).

    Attributes:
        centre: Mean ln N of the rows.
        coefficients: Of 1, x, x^2 and for a cubic x^3.
        covariance: Of the coefficients, per unit of residual variance.
        variance: Residual variance; NaN without degrees of freedom.
        free: Degrees of freedom.
        criterion: Corrected Akaike criterion; smaller is better.
        low, high: Least and largest ln N of the rows.
        minimum: ln N of the minimum; NaN where there is none.
        least: u there.
        kappa: Curvature d^2 u / d(ln N)^2 there; at the centre where there is no minimum.
    """

    centre: float
    coefficients: Floats
    covariance: Floats
    variance: float
    free: int
    criterion: float
    low: float
    high: float
    minimum: float
    least: float
    kappa: float

    @property
    def name(self) -> str:
        """What the curve is called."""
        return {3: "parabola", 4: "cubic"}[len(self.coefficients)]

    @property
    def inside(self) -> bool:
        """Whether the minimum lies within the sampled sizes."""
        return bool(np.isfinite(self.minimum) and self.low <= self.minimum <= self.high)

    def value(self, N: npt.ArrayLike) -> Floats:
        """Return u for models of N parameters."""
        return np.asarray(polynomial.polyval(np.log(np.asarray(N, float)) - self.centre, self.coefficients))

    def width(self, epsilon: float) -> tuple[float, float]:
        """Return ln N on either side of the minimum where u is `epsilon` above it; NaN where the curve ends first.

        Sizes up to half the sampled range beyond it count: further out a polynomial knows nothing.
        """
        level = self.coefficients.copy()
        level[0] -= self.least + epsilon
        roots = polynomial.polyroots(level)
        x = np.sort(roots[np.abs(roots.imag) < 1e-9].real) + self.centre
        reach = (self.high - self.low) / 2
        below = x[(x < self.minimum) & (x >= self.low - reach)]
        above = x[(x > self.minimum) & (x <= self.high + reach)]
        return (float(below[-1]) if len(below) else np.nan, float(above[0]) if len(above) else np.nan)

    def refit(self, log_n: Floats, u: Floats, weight: Floats) -> IsoCurve | None:
        """Fit the same kind of curve to other values; arguments as in `fit_curve`."""
        return fit_curve(log_n, u, weight, len(self.coefficients) - 1)

    def minima(self, coefficients: Floats) -> tuple[Floats, Floats, Floats]:
        """Return x of the minimum, u there and the curvature, for coefficients `[S, P]`; NaN without a minimum."""
        x, kappa = _minima(coefficients)
        value = sum(coefficients[:, power] * x**power for power in range(coefficients.shape[1]))
        return x, np.asarray(value, float), kappa

    def draws(self, pooled: tuple[float, int], count: int, rng: np.random.Generator) -> CurveDraws:
        """Draw coefficients from their t distribution, and return the minima of those that have one.

        Args:
            pooled: Residual variance over all budgets and its degrees of freedom, for curves with few of their own.
            count: How many.
            rng: Source of randomness.
        """
        variance, free = (self.variance, self.free) if self.free >= OWN_FREEDOM else pooled
        if not (free and np.isfinite(variance)):
            return CurveDraws(np.empty(0), np.empty(0), np.empty(0))
        root = np.linalg.cholesky(self.covariance * max(variance, 1e-300))
        wide = np.sqrt(free / rng.chisquare(free, (count, 1)))
        drawn = self.coefficients + rng.standard_normal((count, len(self.coefficients))) @ root.T * wide
        x, value, kappa = self.minima(drawn)
        # a draw that is all but straight has its minimum beyond all sizes: as good as nowhere
        good = np.isfinite(x) & (np.abs(x) < 50.0)
        return CurveDraws(x[good] + self.centre, value[good], kappa[good])


def fit_curve(log_n: Floats, u: Floats, weight: Floats, degree: int) -> IsoCurve | None:
    """Fit a polynomial by weighted least squares; None where there are no more sizes than coefficients, less one.

    Args:
        log_n: ln N, `[rows]`.
        u: The oriented metric, `[rows]`.
        weight: `[rows]`.
        degree: 2 or 3.
    """
    if len(np.unique(log_n)) < degree + 1:
        return None
    centre = float(np.average(log_n, weights=weight))
    x = log_n - centre
    root = np.sqrt(weight / weight.mean())
    design = polynomial.polyvander(x, degree) * root[:, None]
    coefficients = np.linalg.lstsq(design, u * root, rcond=None)[0]
    squares = float(np.sum((u * root - design @ coefficients) ** 2))
    n, size = len(x), degree + 1
    free = n - size
    minimum, kappa = (float(values[0]) for values in _minima(coefficients[None]))
    least = float(polynomial.polyval(minimum, coefficients)) if np.isfinite(minimum) else np.nan
    return IsoCurve(
        centre,
        coefficients,
        np.linalg.inv(design.T @ design),
        squares / free if free else np.nan,
        free,
        criterion_of(squares, n, size),
        float(log_n.min()),
        float(log_n.max()),
        minimum + centre,
        least,
        kappa if np.isfinite(kappa) else float(2 * coefficients[2]),
    )


def criterion_of(squares: float, n: int, size: int) -> float:
    """Return the corrected Akaike criterion of a least-squares fit; infinite with too few rows."""
    spread = n - size - 2  # the residual variance is a parameter as well
    return float(n * np.log(max(squares, 1e-300) / n) + 2 * (size + 1) * n / spread) if spread > 0 else float(np.inf)


def _minima(coefficients: Floats) -> tuple[Floats, Floats]:
    """Return where polynomials of degree 2 or 3, `[S, degree + 1]`, have their minimum, and its curvature, or NaN."""
    b, c = coefficients[:, 1], coefficients[:, 2]
    d = coefficients[:, 3] if coefficients.shape[1] == 4 else np.zeros_like(b)
    discriminant = c * c - 3 * b * d
    root = np.sqrt(np.where(discriminant > 0, discriminant, np.nan))
    # of 3 d x^2 + 2 c x + b = 0 the minimum, in the form that stays exact as d goes to 0: the curvature there is 2 root
    with np.errstate(divide="ignore", invalid="ignore"):
        x = np.where(c + root != 0, -b / (c + root), np.nan)
    # for a parabola that opens downwards the formula divides by 0 or gives the maximum
    x = np.where((d == 0) & (c <= 0), np.nan, x)
    return x, np.where(np.isfinite(x), 2 * root, np.nan)


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
    for name, column in (("C", budgets), ("y", values), ("log_std", std)):
        if not (np.isfinite(column).all() and np.all(column > 0)):
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
