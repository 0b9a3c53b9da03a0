"""Curves: laws in the oriented metric, with compute-optimal models, curvature and near-optimal range.

Powers of N and D have closed forms; other laws are minimised numerically. Every function is vectorised over
parameters, so that one law and a thousand bootstrap replicates share one path. u is the oriented metric (smaller is
better) that a law describes; y the metric in its own units.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cdslm_eval.plugin.law import LawForm
from cdslm_eval.scaling.axis import Axis
from cdslm_eval.scaling.cost import Cost

__all__ = ["Curve", "NearOptimal", "NumericCurve", "Optimum", "PowerCurve", "convex_root"]

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
class Curve(ABC):
    """Parameters of one or many laws in u, as arrays that broadcast against the points at which they are evaluated.

    Attributes:
        floor: E in u.
        cost: C as a function of N and D.
    """

    floor: Floats
    cost: Cost

    @property
    @abstractmethod
    def ratio_exponent(self) -> Floats:
        """How r* = D*/N* grows: in proportion to C^this; NaN where it is not a power of C."""

    @property
    @abstractmethod
    def N_exponent(self) -> Floats:  # noqa: N802
        """How N* grows: in proportion to C^this; NaN where it is not a power of C."""

    @property
    def D_exponent(self) -> Floats:  # noqa: N802
        """How D* grows: in proportion to C^this; NaN where it is not a power of C."""
        return np.asarray((1 - self.cost.p * self.N_exponent) / self.cost.q)

    @abstractmethod
    def value(self, N: npt.ArrayLike, D: npt.ArrayLike, **columns: npt.ArrayLike) -> Floats:
        """Return u(N, D), with the values of further columns that the law reads."""

    @abstractmethod
    def log_n_optimum(self, C: npt.ArrayLike) -> Floats:
        """Return ln N*(C)."""

    @abstractmethod
    def frontier(self, C: npt.ArrayLike) -> Floats:
        """Return u*(C), the least value that a budget allows."""

    @abstractmethod
    def kappa(self, C: npt.ArrayLike) -> Floats:
        """Return the curvature d^2 u / d(ln N)^2 of the isoFLOP at its optimum."""

    @abstractmethod
    def near_optimal(self, C: npt.ArrayLike, epsilon: npt.ArrayLike, *, relative: bool = False) -> NearOptimal:
        """Return the range of N and D within epsilon (absolute, or relative to u*) of the optimum."""

    @abstractmethod
    def reach(self, u: npt.ArrayLike) -> Floats:
        """Return the least budget whose optimum is at or below u; infinite where the floor is at or above it."""

    def optimum(self, C: npt.ArrayLike, axis: Axis) -> Optimum:
        """Return the compute-optimal models."""
        C = np.asarray(C, float)
        log_n = self.log_n_optimum(C)
        log_d = self.cost.log_tokens(np.log(C), log_n)
        u = self.value(np.exp(log_n), np.exp(log_d))
        kappa = self.kappa(C)
        shape = np.broadcast_shapes(C.shape, u.shape)
        return Optimum(
            np.broadcast_to(C, shape), np.exp(log_n), np.exp(log_d), np.exp(log_d - log_n), axis.restore(u), kappa
        )


@dataclass(frozen=True)
class PowerCurve(Curve):
    """(A N^-alpha + B D^-beta)^gamma above the floor, or A C^-alpha.

    Attributes:
        log_A, alpha, log_B, beta, gamma: Coefficients (natural log), exponents; `log_B` is -inf for a law in C alone.
    """

    log_A: Floats  # noqa: N815
    alpha: Floats
    log_B: Floats  # noqa: N815
    beta: Floats
    gamma: Floats

    @property
    def beta_along(self) -> Floats:
        """Exponent of N in the tokens' term along a budget: D^-beta goes as N^(beta p / q) where C is fixed."""
        return np.asarray(self.beta * (self.cost.p / self.cost.q))

    @property
    def frontier_exponent(self) -> Floats:
        """How fast the excess at the optimum falls: u* - E is proportional to C^-this."""
        if np.all(np.isneginf(self.log_B)):
            return self.alpha * self.gamma
        return np.asarray(self.gamma * self.alpha * self.N_exponent)

    @property
    def ratio_exponent(self) -> Floats:
        """How r* = D*/N* grows: in proportion to C^this; (alpha - beta) / (alpha + beta) under C = k N D."""
        total = self.alpha * self.cost.q + self.beta * self.cost.p
        return np.asarray((self.alpha - self.beta) / total)

    @property
    def N_exponent(self) -> Floats:  # noqa: N802
        """How N* grows: in proportion to C^this; beta / (alpha + beta) under C = k N D."""
        return np.asarray(self.beta / (self.alpha * self.cost.q + self.beta * self.cost.p))

    def value(self, N: npt.ArrayLike, D: npt.ArrayLike, **columns: npt.ArrayLike) -> Floats:
        """Return u(N, D)."""
        del columns
        return self._value_at(np.log(np.asarray(N, float)), np.log(np.asarray(D, float)))

    def _value_at(self, log_n: Floats, log_d: Floats) -> Floats:
        """Return u at logarithms of N and D."""
        # a law in C alone: N and D count only by their product
        if np.all(np.isneginf(self.log_B)):
            return np.asarray(self.floor + np.exp(self.log_A - self.alpha * self.cost.log_flops(log_n, log_d)))
        # in logarithms, since A and B of a replicate may leave the range of numbers
        inner = np.logaddexp(self.log_A - self.alpha * log_n, self.log_B - self.beta * log_d)
        return np.asarray(self.floor + np.exp(self.gamma * inner))

    def log_n_optimum(self, C: npt.ArrayLike) -> Floats:
        """Return ln N*(C).

        Source: Hoffmann et al., arXiv 2203.15556, equation 4. gamma moves no optimum: its power is monotone.
        """
        along = self.beta_along
        log_g = (self.log_A - self.log_B + np.log(self.alpha / along)) / (self.alpha + along)
        return np.asarray(log_g + self.N_exponent * (np.log(np.asarray(C, float)) - math.log(self.cost.k)))

    def frontier(self, C: npt.ArrayLike) -> Floats:
        """Return u*(C), the least value that a budget allows."""
        C = np.asarray(C, float)
        if np.all(np.isneginf(self.log_B)):
            return np.asarray(self.floor + np.exp(self.log_A - self.alpha * np.log(C)))
        log_n = self.log_n_optimum(C)
        # the optimum of a replicate may leave the range of numbers, its value does not
        return self._value_at(log_n, self.cost.log_tokens(np.log(C), log_n))

    def kappa(self, C: npt.ArrayLike) -> Floats:
        """Return gamma alpha beta (u* - E); beta p / q in place of beta where C is not k N D."""
        # alpha a = beta b for the two terms at the optimum, so alpha^2 a + beta^2 b = alpha beta (a + b)
        return np.asarray(self.gamma * self.alpha * self.beta_along * (self.frontier(C) - self.floor))

    def near_optimal(self, C: npt.ArrayLike, epsilon: npt.ArrayLike, *, relative: bool = False) -> NearOptimal:
        """Return the range of N and D within epsilon (absolute, or relative to u*) of the optimum, from exact roots.

        With t = ln(N / N*) the inner sum is proportional to h(t) = (b e^-at + a e^bt) / (a + b), which is convex and 1
        at 0; the range is where h(t) stays at or below ((u* - E + epsilon) / (u* - E))^(1/g).
        """
        C = np.asarray(C, float)
        log_n = self.log_n_optimum(C)
        excess = self.frontier(C) - self.floor
        epsilon = np.asarray(epsilon, float) * (excess + self.floor if relative else 1.0)
        # log1p keeps the digits of a small epsilon, which 1 + epsilon loses
        log_level = np.log1p(epsilon / excess) / self.gamma
        low = -convex_root(self.alpha, self.beta_along, log_level)
        high = convex_root(self.beta_along, self.alpha, log_level)
        log_c = np.log(C)
        shape = np.broadcast_shapes(C.shape, low.shape)
        return NearOptimal(
            np.broadcast_to(C, shape),
            np.broadcast_to(epsilon, shape),
            np.exp(log_n + low),
            np.exp(log_n + high),
            np.exp(self.cost.log_tokens(log_c, log_n + high)),
            np.exp(self.cost.log_tokens(log_c, log_n + low)),
        )

    def reach(self, u: npt.ArrayLike) -> Floats:
        """Return the least budget whose optimum is at or below u; infinite where the floor is at or above it."""
        gap = np.asarray(u, float) - self.floor
        # the excess is an exact power of C; at C = 1 it is large, so that the floor cancels without loss
        at_one = np.log(self.frontier(1.0) - self.floor)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            budget = np.exp((at_one - np.log(gap)) / self.frontier_exponent)
        return np.where(gap > 0, budget, np.inf)


@dataclass(frozen=True)
class NumericCurve(Curve):
    """A law without closed forms: its optima by a grid in ln N and golden sections.

    Attributes:
        form: The law.
        parameters: Its parameters, arrays that broadcast against points.
    """

    form: LawForm
    parameters: Mapping[str, Floats]

    @property
    def ratio_exponent(self) -> Floats:
        """NaN: r* need not be a power of C."""
        return np.full(np.shape(self.floor), np.nan)

    @property
    def N_exponent(self) -> Floats:  # noqa: N802
        """NaN: N* need not be a power of C."""
        return np.full(np.shape(self.floor), np.nan)

    def value(self, N: npt.ArrayLike, D: npt.ArrayLike, **columns: npt.ArrayLike) -> Floats:
        """Return u(N, D)."""
        n, d = np.asarray(N, float), np.asarray(D, float)
        known = {
            "N": n,
            "D": d,
            "C": self.cost.flops(n, d),
            **{name: np.asarray(v, float) for name, v in columns.items()},
        }
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(self.floor + self.form.predict(self.parameters, {x: known[x] for x in self.form.columns}))

    def _along(self, log_n: Floats, C: Floats) -> Floats:
        return self.value(np.exp(log_n), np.exp(self.cost.log_tokens(np.log(C), log_n)))

    def log_n_optimum(self, C: npt.ArrayLike) -> Floats:
        """Return ln N*(C); NaN where the least value lies at an end of what a budget allows (from N = 1 to D = 1)."""
        C = np.asarray(C, float)
        shape = np.broadcast_shapes(C.shape, np.shape(self.floor))
        budget = np.broadcast_to(C, shape)
        end = self.cost.log_largest(np.log(budget))
        # a grid first, since golden sections alone end in any local minimum
        steps = np.linspace(0.0, 1.0, _GRID)
        values = np.stack([self._along(step * end, budget) for step in steps])
        least = np.argmin(np.where(np.isfinite(values), values, np.inf), axis=0)
        low, high = (steps[np.clip(least + side, 0, _GRID - 1)] * end for side in (-1, 1))
        for _ in range(_SECTIONS):
            near, far = low + _GOLDEN * (high - low), high - _GOLDEN * (high - low)
            left = self._along(near, budget) <= self._along(far, budget)
            low, high = np.where(left, low, near), np.where(left, far, high)
        inside = (least > 0) & (least < _GRID - 1)
        return np.where(inside, (low + high) / 2, np.nan)

    def frontier(self, C: npt.ArrayLike) -> Floats:
        """Return u*(C)."""
        C = np.asarray(C, float)
        if "N" not in self.form.columns:
            balanced = np.exp(self.cost.log_balanced(np.log(C)))
            return self.value(balanced, balanced)
        return self._along(self.log_n_optimum(C), C)

    def kappa(self, C: npt.ArrayLike) -> Floats:
        """Return the second difference of u in ln N at the optimum."""
        # wide enough that rounding, divided by the square of the step, stays small
        C, step = np.asarray(C, float), 0.02
        log_n = self.log_n_optimum(C)
        sides = self._along(log_n - step, C) + self._along(log_n + step, C)
        return np.asarray((sides - 2 * self._along(log_n, C)) / step**2)

    def near_optimal(self, C: npt.ArrayLike, epsilon: npt.ArrayLike, *, relative: bool = False) -> NearOptimal:
        """Return the range around the optimum, its ends by bisection; an end beyond N = 1 or D = 1 is NaN."""
        C = np.asarray(C, float)
        log_n = self.log_n_optimum(C)
        least = self._along(log_n, C)
        epsilon = np.asarray(epsilon, float) * (least if relative else 1.0)
        end = self.cost.log_largest(np.log(C))
        sides = []
        # bisection supposes that u rises from the optimum to either end
        for outside in (np.zeros_like(log_n), np.broadcast_to(end, log_n.shape)):
            inner, outer = log_n, outside
            for _ in range(_SECTIONS):
                middle = (inner + outer) / 2
                within = self._along(middle, C) <= least + epsilon
                inner, outer = np.where(within, middle, inner), np.where(within, outer, middle)
            sides.append(np.where(self._along(outside, C) > least + epsilon, inner, np.nan))
        shape = log_n.shape
        tokens = [np.exp(self.cost.log_tokens(np.log(C), side)) for side in sides]
        ends = (np.exp(sides[0]), np.exp(sides[1]), tokens[1], tokens[0])
        return NearOptimal(np.broadcast_to(C, shape), np.broadcast_to(epsilon, shape), *ends)

    def reach(self, u: npt.ArrayLike) -> Floats:
        """Return the least budget, searched from 1 to 1e40 FLOPs."""
        u = np.asarray(u, float)
        shape = np.broadcast_shapes(u.shape, np.shape(self.floor))
        # in ln C: budgets span forty decades
        low, high = np.zeros(shape), np.full(shape, math.log(1e40))
        reached = self.frontier(np.exp(high)) <= u
        for _ in range(_SECTIONS):
            middle = (low + high) / 2
            enough = self.frontier(np.exp(middle)) <= u
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        return np.where(reached, np.exp(high), np.inf)


# 45 golden sections narrow an interval to 4e-10 of it, 45 bisections to 3e-14
_GRID, _SECTIONS, _GOLDEN = 96, 45, (3 - math.sqrt(5)) / 2


def convex_root(near: Floats, far: Floats, log_level: Floats) -> Floats:
    """Return the root t > 0 of ln h(t) = log_level, h(t) = (far e^(near t) + near e^(-far t)) / (near + far).

    ln h is convex with slope at most `near`, and h >= far e^(near t) / (near + far): so the t at which that one term
    reaches the level lies at or beyond the root, and Newton's method from there falls onto it without overshooting.
    """
    near, far, log_level = np.broadcast_arrays(near, far, log_level)
    total = near + far
    t = (log_level + np.log(total / far)) / near
    for _ in range(60):
        # in logarithms, since e^(near t) of a wide range overflows
        up = np.log(far / total) + near * t
        down = np.log(near / total) - far * t
        value = np.logaddexp(up, down)
        slope = near * np.exp(up - value) - far * np.exp(down - value)
        step = (value - log_level) / np.where(slope > 0, slope, np.inf)
        t = t - step
        # each step squares the error, and rounding leaves steps of 1e-13 that never end
        if np.all(np.abs(step) <= 1e-8 * np.maximum(np.abs(t), 1e-300)):
            break
    return np.asarray(np.where(log_level > 0, t, 0.0))
