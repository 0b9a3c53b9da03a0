"""The skew that all isoFLOPs share: the law's shape, with exponents from the budgets' curves alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cdslm_eval.scaling.isocurve import OWN_FREEDOM, CurveDraws
from cdslm_eval.scaling.isoshapes import LawShape, fit_shape, minima_of, shape_design

__all__ = ["BudgetRows", "SkewedCurve", "fit_skewed"]

Floats = npt.NDArray[np.float64]
# From published laws (Hoffmann's alpha, beta = .34, .28; Besiroglu's .35, .37; Muennighoff's .35, .35; N* as C^.73 of
# Kaplan, C^.52 of DeepSeek, C^.46 of Llama 3): beta - alpha, and half the sum of both.
_MEAN = np.array([0.0, 0.36])
_SPREAD = np.array([0.15, 0.10])
_POINTS = (25, 13)  # of the grid, of the difference and of half the sum
_ROUNDS = 8
_LEAST_EXPONENT = 0.01


@dataclass(frozen=True, eq=False)
class BudgetRows:
    """The rows of one budget.

    Attributes:
        log_n, u, weight: ln N, the oriented metric and the weights, `[rows]`.
        scale: Size of this budget's noise, relative to that of the others.
    """

    log_n: Floats
    u: Floats
    weight: Floats
    scale: float


@dataclass(frozen=True, eq=False)
class _Grid:
    """Pairs of exponents, and how well all budgets' curves bear them.

    Attributes:
        alpha, beta: `[G]`.
        probability: Posterior, `[G]`.
        squares: Residual sum of squares in units of the budgets' noise, `[G]`.
        free: Degrees of freedom that all rows leave to the noise.
    """

    alpha: Floats
    beta: Floats
    probability: Floats
    squares: Floats
    free: int


@dataclass(frozen=True, eq=False)
class SkewedCurve(LawShape):
    """u = c0 + c1 e^(-alpha x) + c2 e^(beta x), alpha and beta shared by all budgets and known with an uncertainty.

    The ratio of third to second derivative at the minimum is beta - alpha. A parabola sets it to 0, which moves its
    minimum; few sizes leave each budget by itself no way to tell, and all of them together some.

    Attributes:
        grid: Exponents that are drawn from.
        at: Coefficients for each pair of them, `[G, 3]`.
        root: Cholesky factor of their covariance per unit of variance, `[G, 3, 3]`.
        squares: This budget's residual sum of squares, `[G]`.
        scale: Size of its noise relative to the other budgets'.
    """

    grid: _Grid | None = None
    at: Floats | None = None
    root: Floats | None = None
    squares: Floats | None = None
    scale: float = 1.0

    @property
    def name(self) -> str:
        """What the curve is called."""
        return "skewed"

    def draws(self, pooled: tuple[float, int], count: int, rng: np.random.Generator) -> CurveDraws:  # noqa: ARG002
        """Draw exponents, noise and coefficients, and return the minima of the curves that have one.

        The noise is that of all budgets under the drawn exponents, unless this one has degrees of freedom enough.
        """
        assert self.grid is not None
        assert self.at is not None
        assert self.root is not None
        assert self.squares is not None
        own = self.free >= OWN_FREEDOM
        free = self.free if own else self.grid.free
        if free < 1:
            return CurveDraws(np.empty(0), np.empty(0), np.empty(0))
        pick = rng.choice(len(self.grid.alpha), count, p=self.grid.probability)
        squares = self.squares[pick] if own else self.grid.squares[pick] * self.scale**2
        spread = np.sqrt(np.maximum(squares, 1e-300) / rng.chisquare(free, count))
        noise = np.einsum("sij,sj->si", self.root[pick], rng.standard_normal((count, 3)))
        drawn = self.at[pick] + noise * spread[:, None]
        x, value, kappa = minima_of(drawn, self.grid.alpha[pick], self.grid.beta[pick])
        # a draw that is all but straight has its minimum beyond all sizes: as good as nowhere
        good = np.isfinite(x) & (np.abs(x) < 50.0)
        return CurveDraws(x[good] + self.centre, value[good], kappa[good])


def fit_skewed(budgets: Sequence[BudgetRows]) -> list[SkewedCurve | None]:
    """Fit the law's shape to all budgets, with level, depth and place of each its own, and exponents that all share.

    The posterior of the exponents is computed on a grid that closes in on it: normal priors from published laws (beta -
    alpha 0 +- .15, their mean .36 +- .1), flat ones of coefficients and ln noise, which are integrated exactly.

    Args:
        budgets: Rows of each budget.

    Returns:
        A curve per budget; None with under three sizes.

    Source: Golub & Pereyra (2003) for the projection; the skew of a chinchilla isoFLOP at its minimum, u''' / u'' =
    beta - alpha, is the same at every budget (Hoffmann et al., arXiv 2203.15556, eq. 4).
    """
    usable = [rows for rows in budgets if len(np.unique(rows.log_n)) >= 3]
    if not usable:
        return [None] * len(budgets)
    middle, half = _MEAN, 4 * _SPREAD
    for _ in range(_ROUNDS):
        grid, points = _evaluate(usable, middle, half)
        middle = grid.probability @ points
        spread = np.sqrt(grid.probability @ (points - middle) ** 2)
        step = 2 * half / (np.array(_POINTS) - 1)
        # until the grid resolves the posterior: exact values leave almost no spread
        if np.all(spread > 0.8 * step):
            break
        half = np.minimum(half, np.maximum(4 * spread, step))
    alpha, beta = middle[1] - middle[0] / 2, middle[1] + middle[0] / 2
    return [_curve(rows, grid, float(alpha), float(beta)) for rows in budgets]


def _evaluate(budgets: Sequence[BudgetRows], middle: Floats, half: Floats) -> tuple[_Grid, Floats]:
    """Return the posterior on a grid around a pair (beta - alpha, half the sum), and its points `[G, 2]`."""
    axes = [np.linspace(m - h, m + h, count) for m, h, count in zip(middle, half, _POINTS, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    alpha, beta = points[:, 1] - points[:, 0] / 2, points[:, 1] + points[:, 0] / 2
    allowed = (alpha > _LEAST_EXPONENT) & (beta > _LEAST_EXPONENT)
    points, alpha, beta = points[allowed], alpha[allowed], beta[allowed]
    squares = np.zeros(len(points))
    free, rounding = 0, 0.0
    for rows in budgets:
        squares += _solve(rows, alpha, beta)[2] / rows.scale**2
        free += len(rows.u) - 3
        rounding += len(rows.u) * (1e-14 * float(np.abs(rows.u).max()) / rows.scale) ** 2
    log_prior = -0.5 * np.sum(((points - _MEAN) / _SPREAD) ** 2, axis=1)
    log_posterior = log_prior - 0.5 * max(free, 0) * np.log(squares + rounding + 1e-300)
    probability = np.exp(log_posterior - log_posterior.max())
    return _Grid(alpha, beta, probability / probability.sum(), squares, free), points


def _solve(rows: BudgetRows, alpha: Floats, beta: Floats) -> tuple[Floats, Floats, Floats]:
    """Return coefficients `[G, 3]`, the root of their covariance `[G, 3, 3]` and the squares left over `[G]`."""
    weight = np.sqrt(rows.weight / rows.weight.mean())
    x = rows.log_n - float(np.average(rows.log_n, weights=rows.weight))
    design = shape_design(x[None, :], alpha[:, None], beta[:, None]) * weight[:, None]
    # through an orthogonal basis: the normal equations of two small exponents would lose all digits
    q, r = np.linalg.qr(design)
    projected = np.einsum("gnk,n->gk", q, rows.u * weight)
    inverse = np.linalg.inv(r)
    coefficients = np.einsum("gij,gj->gi", inverse, projected)
    left = rows.u * weight - np.einsum("gnk,gk->gn", q, projected)
    # (R'R)^-1 = R^-1 R^-T, so that R^-1 is a root of the covariance
    return coefficients, inverse, np.einsum("gn,gn->g", left, left)


def _curve(rows: BudgetRows, grid: _Grid, alpha: float, beta: float) -> SkewedCurve | None:
    shape = fit_shape(rows.log_n, rows.u, rows.weight, alpha, beta)
    if shape is None:
        return None
    fields = {name: getattr(shape, name) for name in LawShape.__dataclass_fields__}
    at, root, squares = _solve(rows, grid.alpha, grid.beta)
    return SkewedCurve(**fields, grid=grid, at=at, root=root, squares=squares, scale=rows.scale)
