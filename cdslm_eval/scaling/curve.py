"""Curves: laws in the oriented metric, with compute-optimal models, curvature and near-optimal range in closed form.

Every function is vectorised over parameters, so that one law and a thousand bootstrap replicates take the same road.
u is the oriented metric (smaller is better) that a law describes; y the metric in its own units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cdslm_eval.scaling.links import Axis

__all__ = ["Curve", "NearOptimal", "Optimum", "curve_of"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Optimum:
    """Compute-optimal models, one per budget; every field has the shape of C.

    Attributes:
        C: Budgets in FLOPs.
        N, D: Parameters and tokens of the model that minimises the law under C = k N D.
        ratio: r* = D / N, tokens per parameter.
        loss: Value of the metric there, in its own units.
        kappa: Curvature of the isoFLOP in ln N there: how much worse a model of another size is, d^2 u / d(ln N)^2.
    """

    C: Floats
    N: Floats
    D: Floats
    ratio: Floats
    loss: Floats
    kappa: Floats


@dataclass(frozen=True, slots=True)
class NearOptimal:
    """Range of models within epsilon of the optimum at each budget; every field has the shape of C."""

    C: Floats
    epsilon: Floats
    N_low: Floats
    N_high: Floats
    D_low: Floats
    D_high: Floats

    @property
    def width(self) -> Floats:
        """ln(N_high / N_low)."""
        return np.asarray(np.log(self.N_high / self.N_low))


@dataclass(frozen=True)
class Curve:
    """Parameters of one or many laws in u, as arrays that broadcast against the points they are asked about.

    Attributes:
        floor: E in u.
        log_A, alpha, log_B, beta, gamma: Coefficients (natural log), exponents; `log_B` is -inf for a law in C alone.
        k: The k of C = k N D.
    """

    floor: Floats
    log_A: Floats  # noqa: N815
    alpha: Floats
    log_B: Floats  # noqa: N815
    beta: Floats
    gamma: Floats
    k: float

    @property
    def frontier_exponent(self) -> Floats:
        """How fast the excess at the optimum falls: u* - E is proportional to C^-this."""
        if np.all(np.isneginf(self.log_B)):
            return self.alpha * self.gamma
        return np.asarray(self.gamma * self.alpha * self.beta / (self.alpha + self.beta))

    @property
    def ratio_exponent(self) -> Floats:
        """How r* = D*/N* grows: in proportion to C^this, (alpha - beta) / (alpha + beta)."""
        return np.asarray((self.alpha - self.beta) / (self.alpha + self.beta))

    @property
    def N_exponent(self) -> Floats:  # noqa: N802
        """How N* grows: in proportion to C^this, beta / (alpha + beta)."""
        return np.asarray(self.beta / (self.alpha + self.beta))

    def value(self, N: npt.ArrayLike, D: npt.ArrayLike) -> Floats:
        """Return u(N, D)."""
        log_n, log_d = np.log(np.asarray(N, float)), np.log(np.asarray(D, float))
        if np.all(np.isneginf(self.log_B)):
            return np.asarray(self.floor + np.exp(self.log_A - self.alpha * (math.log(self.k) + log_n + log_d)))
        inner = np.logaddexp(self.log_A - self.alpha * log_n, self.log_B - self.beta * log_d)
        return np.asarray(self.floor + np.exp(self.gamma * inner))

    def log_n_optimum(self, C: npt.ArrayLike) -> Floats:
        """Return ln N*(C).

        Source: Hoffmann et al., arXiv 2203.15556, equation 4. gamma moves no optimum: its power is monotone.
        """
        log_g = (self.log_A - self.log_B + np.log(self.alpha / self.beta)) / (self.alpha + self.beta)
        return np.asarray(log_g + self.N_exponent * (np.log(np.asarray(C, float)) - math.log(self.k)))

    def frontier(self, C: npt.ArrayLike) -> Floats:
        """Return u*(C), the least value that a budget allows."""
        C = np.asarray(C, float)
        if np.all(np.isneginf(self.log_B)):
            return np.asarray(self.floor + np.exp(self.log_A - self.alpha * np.log(C)))
        log_n = self.log_n_optimum(C)
        return self.value(np.exp(log_n), np.exp(np.log(C) - math.log(self.k) - log_n))

    def optimum(self, C: npt.ArrayLike, axis: Axis) -> Optimum:
        """Return the compute-optimal models."""
        C = np.asarray(C, float)
        log_n = self.log_n_optimum(C)
        log_d = np.log(C) - math.log(self.k) - log_n
        u = self.value(np.exp(log_n), np.exp(log_d))
        kappa = self.gamma * self.alpha * self.beta * (u - self.floor)
        shape = np.broadcast_shapes(C.shape, u.shape)
        return Optimum(
            np.broadcast_to(C, shape), np.exp(log_n), np.exp(log_d), np.exp(log_d - log_n), axis.restore(u), kappa
        )

    def near_optimal(self, C: npt.ArrayLike, epsilon: npt.ArrayLike, *, relative: bool = False) -> NearOptimal:
        """Return the range of N and D within epsilon (absolute, or relative to u*) of the optimum, from exact roots.

        With t = ln(N / N*) the inner sum is proportional to h(t) = (b e^-at + a e^bt) / (a + b), which is convex and 1
        at 0; the range is where h(t) stays at or below ((u* - E + epsilon) / (u* - E))^(1/g).
        """
        C = np.asarray(C, float)
        log_n = self.log_n_optimum(C)
        excess = self.frontier(C) - self.floor
        epsilon = np.asarray(epsilon, float) * (excess + self.floor if relative else 1.0)
        log_level = np.log1p(epsilon / excess) / self.gamma
        low = -_root(self.alpha, self.beta, log_level)
        high = _root(self.beta, self.alpha, log_level)
        log_d = np.log(C) - math.log(self.k) - log_n
        shape = np.broadcast_shapes(C.shape, low.shape)
        return NearOptimal(
            np.broadcast_to(C, shape),
            np.broadcast_to(epsilon, shape),
            np.exp(log_n + low),
            np.exp(log_n + high),
            np.exp(log_d - high),
            np.exp(log_d - low),
        )

    def reach(self, u: npt.ArrayLike) -> Floats:
        """Return the least budget whose optimum is at or below u; infinite where the floor stands at or above it."""
        gap = np.asarray(u, float) - self.floor
        at_one = np.log(self.frontier(1.0) - self.floor)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            budget = np.exp((at_one - np.log(gap)) / self.frontier_exponent)
        return np.where(gap > 0, budget, np.inf)


def _root(near: Floats, far: Floats, log_level: Floats) -> Floats:
    """Return the root t > 0 of ln h(t) = log_level, h(t) = (far e^(near t) + near e^(-far t)) / (near + far).

    ln h is convex with slope at most `near`, and h >= far e^(near t) / (near + far): so the t at which that one term
    reaches the level lies at or beyond the root, and Newton's method from there falls onto it without overshooting.
    """
    near, far, log_level = np.broadcast_arrays(near, far, log_level)
    total = near + far
    t = (log_level + np.log(total / far)) / near
    for _ in range(60):
        up = np.log(far / total) + near * t
        down = np.log(near / total) - far * t
        value = np.logaddexp(up, down)
        slope = near * np.exp(up - value) - far * np.exp(down - value)
        step = (value - log_level) / np.where(slope > 0, slope, np.inf)
        t = t - step
        if np.all(np.abs(step) <= 1e-14 * np.maximum(np.abs(t), 1e-300)):
            break
    return np.asarray(np.where(log_level > 0, t, 0.0))


def curve_of(parameters: Mapping[str, Any], axis: Axis, k: float) -> Curve:
    """Return the curve of natural parameters (arrays that broadcast); what a form lacks takes its neutral value."""
    alpha = np.asarray(parameters["alpha"], float)
    return Curve(
        axis.orient(parameters["E"]),
        np.asarray(parameters["log_A"], float),
        alpha,
        np.asarray(parameters.get("log_B", -np.inf), float),
        np.asarray(parameters.get("beta", alpha), float),
        np.asarray(parameters.get("gamma", 1.0), float),
        k,
    )
