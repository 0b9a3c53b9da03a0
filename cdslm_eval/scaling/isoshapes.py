"""Which curve is fitted to one isoFLOP: a polynomial, the law's own shape, or Akima's interpolation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.interpolate import Akima1DInterpolator

from cdslm_eval.core.errors import UnknownNameError, UsageError
from cdslm_eval.scaling.curves import convex_root
from cdslm_eval.scaling.isocurve import CurveDraws, IsoCurve, criterion_of, fit_curve

__all__ = [
    "AkimaCurve",
    "BudgetCurves",
    "LawShape",
    "check_curve",
    "fit_akima",
    "fit_curves",
    "fit_shape",
    "minima_of",
    "pooled_noise",
    "shape_design",
]

Floats = npt.NDArray[np.float64]
_GRID = 512
_CURVES = ("skewed", "polynomial", "akima", "law")


@dataclass(frozen=True, eq=False)
class LawShape(IsoCurve):
    """u = c0 + c1 e^(-alpha x) + c2 e^(beta x): an isoFLOP with the law's exponents, and level and place of its own.

    As many coefficients as a parabola, without its symmetry.

    Attributes:
        alpha, beta: Exponents of N and of the tokens along the budget, above 0.
    """

    alpha: float = 1.0
    beta: float = 1.0

    @property
    def name(self) -> str:
        """What the curve is called."""
        return "law"

    def value(self, N: npt.ArrayLike) -> Floats:
        """Return u for models of N parameters."""
        x = np.log(np.asarray(N, float)) - self.centre
        return np.asarray(shape_design(x, self.alpha, self.beta) @ self.coefficients)

    def width(self, epsilon: float) -> tuple[float, float]:
        """Return ln N on either side of the minimum where u is `epsilon` above it, by the shape wherever that is.

        An end beyond the sampled sizes counts: leaving out the budgets whose range is widest makes it grow too little.
        """
        excess = self.least - float(self.coefficients[0])
        level = np.asarray(math.log1p(epsilon / excess))
        a, b = np.asarray(self.alpha), np.asarray(self.beta)
        return self.minimum - float(convex_root(a, b, level)), self.minimum + float(convex_root(b, a, level))

    def refit(self, log_n: Floats, u: Floats, weight: Floats) -> IsoCurve | None:
        """Fit the same kind of curve to other values."""
        return fit_shape(log_n, u, weight, self.alpha, self.beta)

    def minima(self, coefficients: Floats) -> tuple[Floats, Floats, Floats]:
        """Return x of the minimum, u there and the curvature, for coefficients `[S, 3]`; NaN without a minimum."""
        return minima_of(coefficients, np.asarray(self.alpha), np.asarray(self.beta))


def minima_of(coefficients: Floats, alpha: Floats, beta: Floats) -> tuple[Floats, Floats, Floats]:
    """Return x of the minimum of a law's shape, u there and the curvature, for coefficients `[S, 3]`, or NaN."""
    _, down, up = coefficients.T
    convex = (down > 0) & (up > 0)
    with np.errstate(all="ignore"):
        x = np.log(alpha * down / (beta * up)) / (alpha + beta)
        terms = down * np.exp(-alpha * x), up * np.exp(beta * x)
    values = (x, coefficients[:, 0] + terms[0] + terms[1], alpha**2 * terms[0] + beta**2 * terms[1])
    return tuple(np.where(convex, column, np.nan) for column in values)  # type: ignore[return-value]


def shape_design(x: Floats, alpha: npt.ArrayLike, beta: npt.ArrayLike) -> Floats:
    """Return the columns 1, e^(-alpha x), e^(beta x) of a law's shape, in a last axis."""
    down, up = np.exp(-np.asarray(alpha) * x), np.exp(np.asarray(beta) * x)
    return np.stack([np.ones_like(down), down, up], axis=-1)


def fit_shape(log_n: Floats, u: Floats, weight: Floats, alpha: float, beta: float) -> LawShape | None:
    """Fit a law's shape by weighted least squares; None with under three sizes.

    Args:
        log_n: ln N, `[rows]`.
        u: The oriented metric, `[rows]`.
        weight: `[rows]`.
        alpha, beta: The law's exponents of N and of the tokens along a budget.
    """
    if len(np.unique(log_n)) < 3:
        return None
    centre = float(np.average(log_n, weights=weight))
    root = np.sqrt(weight / weight.mean())
    design = shape_design(log_n - centre, alpha, beta) * root[:, None]
    coefficients = np.linalg.lstsq(design, u * root, rcond=None)[0]
    squares = float(np.sum((u * root - design @ coefficients) ** 2))
    free = len(u) - 3
    blank = LawShape(
        centre,
        coefficients,
        np.linalg.inv(design.T @ design),
        squares / free if free else math.nan,
        free,
        criterion_of(squares, len(u), 3),
        float(log_n.min()),
        float(log_n.max()),
        math.nan,
        math.nan,
        math.nan,
        alpha,
        beta,
    )
    x, least, kappa = (float(column[0]) for column in blank.minima(coefficients[None]))
    object.__setattr__(blank, "minimum", x + centre)
    object.__setattr__(blank, "least", least)
    object.__setattr__(blank, "kappa", kappa)
    return blank


@dataclass(frozen=True, eq=False)
class AkimaCurve(IsoCurve):
    """Akima's interpolation through the mean at each size: no form at all, and no curvature that could be trusted.

    Attributes:
        x, u: Sizes (ln N - centre, ascending) and values, `[sizes]`.
        count: Rows of each size, `[sizes]`.
    """

    x: Floats = field(default_factory=lambda: np.empty(0))
    u: Floats = field(default_factory=lambda: np.empty(0))
    count: Floats = field(default_factory=lambda: np.empty(0))

    @property
    def name(self) -> str:
        """What the curve is called."""
        return "akima"

    def value(self, N: npt.ArrayLike) -> Floats:
        """Return u for models of N parameters; NaN beyond the sampled sizes."""
        return np.asarray(Akima1DInterpolator(self.x, self.u)(np.log(np.asarray(N, float)) - self.centre))

    def width(self, epsilon: float) -> tuple[float, float]:
        """Return ln N on either side of the minimum where u is `epsilon` above it; NaN where the curve ends first."""
        grid = np.linspace(self.x[0], self.x[-1], 4 * _GRID)
        above = Akima1DInterpolator(self.x, self.u)(grid) > self.least + epsilon
        here = self.minimum - self.centre
        below, beyond = grid[above & (grid < here)], grid[above & (grid > here)]
        return (
            float(below[-1]) + self.centre if len(below) else math.nan,
            float(beyond[0]) + self.centre if len(beyond) else math.nan,
        )

    def refit(self, log_n: Floats, u: Floats, weight: Floats) -> IsoCurve | None:
        """Interpolate other values."""
        return fit_akima(log_n, u, weight)

    def draws(self, pooled: tuple[float, int], count: int, rng: np.random.Generator) -> CurveDraws:
        """Draw values at each size by the noise of all budgets' parabolas, and return the minima of their curves."""
        variance, free = pooled
        if not (free and np.isfinite(variance)):
            return CurveDraws(np.empty(0), np.empty(0), np.empty(0))
        wide = np.sqrt(free / rng.chisquare(free, (count, 1)))
        noise = rng.standard_normal((count, len(self.x))) * wide * np.sqrt(variance / self.count)
        x, value = _least(self.x, self.u + noise)
        return CurveDraws(x + self.centre, value, np.full(count, np.nan))


def _least(x: Floats, u: Floats) -> tuple[Floats, Floats]:
    """Return where curves through values `[S, sizes]` are least on a fine grid, and the values there."""
    grid = np.linspace(x[0], x[-1], _GRID)
    curves = np.asarray(Akima1DInterpolator(x, u.T)(grid))
    best = np.argmin(curves, axis=0)
    return grid[best], curves[best, np.arange(curves.shape[1])]


def fit_akima(log_n: Floats, u: Floats, weight: Floats) -> AkimaCurve | None:
    """Interpolate the mean at each size; None with under three sizes. An optimum at an end is none.

    Source: Akima, "A new method of interpolation and smooth curve fitting" (1970), as Porian et al., arXiv 2406.19146.
    """
    sizes, label = np.unique(log_n, return_inverse=True)
    if len(sizes) < 3:
        return None
    centre = float(np.average(log_n, weights=weight))
    means = np.bincount(label, weight * u) / np.bincount(label, weight)
    x = sizes - centre
    best, least = _least(x, means[None])
    # the least value of a grid lies at its end where the metric still falls there
    inside = x[0] < best[0] < x[-1]
    minimum = float(best[0]) + centre if inside else float(best[0] + math.copysign(1e-9, best[0])) + centre
    return AkimaCurve(
        centre, np.empty(0), np.empty((0, 0)), math.nan, 0, math.inf, float(sizes[0]), float(sizes[-1]),
        minimum, float(least[0]), math.nan, x, means, np.bincount(label).astype(float),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class BudgetCurves:
    """The curves of one budget: both polynomials, and the one from which its numbers come; None with too few sizes."""

    parabola: IsoCurve | None
    cubic: IsoCurve | None
    chosen: IsoCurve | None


def check_curve(curve: str | None, degree: int | None, window: float | None) -> str:
    """Refuse what no budget can be fitted by, and return the curve: by default a polynomial where its degree is named.

    Raises:
        UnknownNameError: No such curve.
        UsageError: The degree is neither 2, 3 nor None, is named with another curve, or the window is not above 0.
    """
    curve = curve or ("skewed" if degree is None else "polynomial")
    if curve not in _CURVES:
        raise UnknownNameError("isoFLOP curve", curve, _CURVES)
    if degree not in {None, 2, 3}:
        raise UsageError(f"an isoFLOP is a parabola (2) or a cubic (3), not of degree {degree}")
    if degree is not None and curve != "polynomial":
        raise UsageError(f"a degree belongs to a polynomial, not to {curve!r}")
    if window is not None and not (math.isfinite(window) and window > 0):
        raise UsageError(f"a window is a share above 0 of the least metric, such as 0.05, not {window}")
    return curve


def fit_curves(
    log_n: Floats,
    u: Floats,
    weight: Floats,
    degree: int | None,
    kind: str | tuple[float, float] | IsoCurve | None,
) -> BudgetCurves:
    """Fit the curves of one budget.

    Args:
        log_n: ln N, `[rows]`.
        u: The oriented metric, `[rows]`.
        weight: `[rows]`.
        degree: Of the chosen polynomial; None takes the better by its criterion.
        kind: "polynomial", "akima", the two exponents of the law's shape, or a curve fitted to all budgets (None
            where this budget has too few sizes for one).
    """
    parabola, cubic = fit_curve(log_n, u, weight, 2), fit_curve(log_n, u, weight, 3)
    chosen: IsoCurve | None
    if kind == "polynomial":
        chosen = _better(parabola, cubic, degree)
    elif kind == "akima":
        chosen = fit_akima(log_n, u, weight)
    elif isinstance(kind, tuple):
        chosen = fit_shape(log_n, u, weight, *kind)
    else:
        assert kind is None or isinstance(kind, IsoCurve)
        chosen = kind
    return BudgetCurves(parabola, cubic, chosen)


def _better(parabola: IsoCurve | None, cubic: IsoCurve | None, degree: int | None) -> IsoCurve | None:
    if degree is not None:
        return parabola if degree == 2 else cubic
    if parabola is None or cubic is None:
        return parabola
    # a cubic must not lose a minimum that the parabola has among the sampled sizes
    better = cubic.criterion < parabola.criterion and (cubic.inside or not parabola.inside)
    return cubic if better else parabola


def pooled_noise(curves: Sequence[BudgetCurves], scales: Sequence[float]) -> tuple[float, int]:
    """Return the residual variance over all budgets and its degrees of freedom, for those with few of their own.

    It is that of polynomials, whatever curve was chosen: an interpolation leaves no residuals.

    Args:
        curves: Of each budget.
        scales: Size of each budget's noise relative to the others'; the variance is in units of their squares.
    """
    pairs = [(_better(pair.parabola, pair.cubic, None), scale) for pair, scale in zip(curves, scales, strict=True)]
    best = [(curve, scale) for curve, scale in pairs if curve]
    free = sum(curve.free for curve, _ in best)
    squares = sum(curve.free * curve.variance / scale**2 for curve, scale in best if curve.free)
    return (squares / free if free else math.nan), free
