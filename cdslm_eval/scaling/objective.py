"""Objectives: what a residual costs (estimators), and what a problem must provide to be minimised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UnknownNameError, UsageError

__all__ = ["ESTIMATORS", "Estimator", "Points", "Problem", "make_estimator"]

Floats = npt.NDArray[np.float64]
ESTIMATORS = ("huber", "lad", "least_squares")


@dataclass(frozen=True, slots=True)
class Estimator:
    """Sum of Huber's rho over residuals; its two limits are least squares and least absolute deviations.

    Attributes:
        name: "huber", "lad" or "least_squares".
        delta: Where rho turns from r^2 / 2 into delta (|r| - delta / 2); infinite for least squares, 0 for LAD (|r|).

    Source: Huber, "Robust Estimation of a Location Parameter" (1964); Hoffmann et al., arXiv 2203.15556, section D.2.
    """

    name: str
    delta: float

    def cost(self, r: Floats) -> Floats:
        """Return rho(r)."""
        size = np.abs(r)
        if self.name == "lad":
            return size
        # r^2 / 2 within delta, linear beyond; one expression without branches: m (|r| - m / 2), m = min(|r|, delta)
        inner = np.minimum(size, self.delta)
        cost: Floats = inner * (size - inner / 2)
        return cost

    def smooth(self, delta: float) -> Estimator:
        """Return the Huber estimator of another `delta`, on the way to this one."""
        return Estimator("huber", delta)

    def slopes(self, r: Floats) -> tuple[Floats, Floats]:
        """Return rho'(r) and rho''(r) (0 at the kinks)."""
        if self.name == "lad":
            return np.sign(r), np.zeros_like(r)
        return np.clip(r, -self.delta, self.delta), (np.abs(r) <= self.delta).astype(float)

    def density(self, r: Floats) -> Floats:
        """Return rho'' at each residual, smoothed where residuals are few: over a window that they can resolve, `[n]`.

        Its mean estimates E[rho''], by which the precision of the estimator is judged. Least squares needs no window.

        Source: Powell, "Least absolute deviations estimation for the censored regression model" (1984).
        """
        if self.name == "least_squares":
            return np.ones_like(r)
        # n^(-1/5) balances bias and variance of a density's estimate
        spread = 1.5 * float(np.median(np.abs(r))) / 0.6745 * len(r) ** -0.2
        window = max(self.delta, spread, 1e-300)
        # the share within a wide window, brought back to that within delta (for LAD to twice the density at 0)
        unit = 1.0 if self.name == "lad" else self.delta
        return np.where(np.abs(r) <= window, unit / window, 0.0)


@dataclass(frozen=True, slots=True)
class Points:
    """Predictions of a problem at S parameter vectors.

    Attributes:
        z: Predictions on the residual scale, `[S, n]`; NaN where a prediction leaves the link's domain.
        jacobian: `[S, n, P]`.
        hessian: Weights `[S, n]` -> weighted sum of the Hessians of z, `[S, P, P]`.
    """

    z: Floats
    jacobian: Floats
    hessian: Callable[[Floats], Floats]


class Problem(Protocol):
    """Predictions with derivatives, in a box: what the solver minimises over."""

    @property
    def low(self) -> Floats:
        """Least values of the parameters, `[P]`."""
        ...

    @property
    def high(self) -> Floats:
        """Largest values of the parameters, `[P]`."""
        ...

    def predict(self, theta: Floats) -> Floats:
        """Return z, `[S, n]`."""
        ...

    def points(self, theta: Floats) -> Points:
        """Return z with its derivatives."""
        ...


def make_estimator(name: str, delta: float = 1e-3) -> Estimator:
    """Return an estimator by name.

    Args:
        name: "huber", "lad" (least absolute deviations) or "least_squares".
        delta: Huber's delta on the residual scale of the link, above 0; not used by the other two.

    Raises:
        UnknownNameError: No such estimator.
        UsageError: `delta` is not above 0.
    """
    limits = {"lad": 0.0, "least_squares": np.inf, "huber": delta}
    if name not in limits:
        raise UnknownNameError("estimator", name, ESTIMATORS)
    if not delta > 0:
        raise UsageError(f"Huber's delta must be above 0, not {delta}")
    return Estimator(name, limits[name])
