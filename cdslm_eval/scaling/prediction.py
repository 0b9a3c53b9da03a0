"""Prediction: what a fit says of further models, how sure it is, and how far runs scatter around it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

if TYPE_CHECKING:
    from cdslm_eval.scaling.bootstrap import Bootstrap
    from cdslm_eval.scaling.fit import LawFit

__all__ = ["Prediction", "predict_fit", "sandwich"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predicted values with intervals; every field has the shape that N and D broadcast to.

    Attributes:
        value: The metric.
        confidence: (low, high) of the law itself.
        prediction: (low, high) of one further run: the law's uncertainty and the spread of runs around it.
        level: Of both intervals.
    """

    value: Floats
    confidence: tuple[Floats, Floats]
    prediction: tuple[Floats, Floats]
    level: float


def sandwich(fit: LawFit) -> Floats:
    """Return the sandwich covariance of a fit's inner parameters, `[P, P]`; NaN where the data do not determine them.

    The density of residuals at 0, on which it rests under Huber and LAD, is taken over a window at least as wide as the
    data can resolve.

    Source: Huber, "Robust Statistics" (1981), section 7.6; Powell, "Least absolute deviations" (1984).
    """
    points, estimator = fit.problem.points(fit.theta[None]), fit.estimator_
    jacobian, weights, r = points.jacobian[0], fit.table.weight, -fit.residuals
    slope, _ = estimator.slopes(r)
    count, size = jacobian.shape
    bread = (jacobian * (weights * estimator.density(r))[:, None]).T @ jacobian
    meat = (jacobian * (weights * slope)[:, None] ** 2).T @ jacobian
    scale = np.sqrt(np.maximum(np.diag(bread), 1e-300))
    scaled = bread / np.outer(scale, scale)
    if not np.isfinite(scaled).all() or np.linalg.cond(scaled) > 1e13 or count <= size:
        return np.full((size, size), np.nan)
    inverse = np.linalg.inv(scaled) / np.outer(scale, scale)
    return np.asarray(inverse @ meat @ inverse * count / (count - size))


def predict_fit(
    fit: LawFit, N: npt.ArrayLike, D: npt.ArrayLike, level: float, bootstrap: Bootstrap | None
) -> Prediction:
    """Predict the metric of models; see `LawFit.predict`."""
    n, d = np.broadcast_arrays(np.asarray(N, float), np.asarray(D, float))
    axis = fit.law.axis
    u = fit.law.curve.value(n, d)
    z, slope, _ = axis.link.forward(u)
    if bootstrap is None:
        half = ndtri((1 + level) / 2) * _standard_error(fit, n, d) * slope
        low, high = z - half, z + half
    else:
        draws = axis.link.forward(bootstrap.curve(n.ndim).value(n, d))[0]
        low, high = bootstrap.band(draws, level)
    lost = fit.n_rows / max(1, fit.n_rows - len(fit.theta))
    noise = float(np.quantile(np.abs(fit.residuals), level) * np.sqrt(lost))
    near, far = z - np.hypot(z - low, noise), z + np.hypot(high - z, noise)
    sides = [np.sort([axis.value(a), axis.value(b)], axis=0) for a, b in ((low, high), (near, far))]
    return Prediction(axis.restore(u), (sides[0][0], sides[0][1]), (sides[1][0], sides[1][1]), level)


def _standard_error(fit: LawFit, n: Floats, d: Floats) -> Floats:
    """Return the standard error of u at points, by the delta method."""
    there = replace(fit.table, N=n.ravel(), D=d.ravel(), C=fit.law.k * n.ravel() * d.ravel())
    jacobian = fit.problem.at(there).values(fit.theta[None])[1][0]
    variance = np.einsum("np,pq,nq->n", jacobian, fit.covariance, jacobian)
    return np.asarray(np.sqrt(np.maximum(variance, 0.0)).reshape(n.shape))
