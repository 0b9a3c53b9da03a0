"""Forms: what stands above the floor E of a law, with exact first and second derivatives, for many laws at once.

Inside, coordinates are logarithms centred at the data ("at the centroid"), and coefficients are logarithms there: the
parameters are then of one size and nearly uncorrelated, which is what lets Newton's method converge from far away.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UnknownNameError

__all__ = ["FORMS", "Excess", "Form", "Gamma", "SumOfPowers", "get_form"]

Floats = npt.NDArray[np.float64]
EXPONENT_RANGE = (1e-3, 4.0)
GAMMA_RANGE = (0.05, 20.0)


@dataclass(frozen=True, slots=True)
class Excess:
    """What stands above the floor, for S laws at n points, with derivatives over the P - 1 parameters after the floor.

    Attributes:
        value: `[S, n]`.
        jacobian: `[S, n, P - 1]`.
        hessian: Weights `[S, n]` -> the weighted sum of the points' Hessians, `[S, P - 1, P - 1]`.
    """

    value: Floats
    jacobian: Floats
    hessian: Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True)
class Form(ABC):
    """A law's form.

    Attributes:
        name: "chinchilla", "gamma", "shared" or "power".
        formula: The law as text.
        columns: The columns that it reads, each as a centred logarithm.
        inner: Names of the parameters inside: the floor, then coefficients (log, at the centroid) and exponents.
        terms: Per power: (index of its column, of its coefficient, of its exponent).
    """

    name: str
    formula: str
    columns: tuple[str, ...]
    inner: tuple[str, ...]
    terms: tuple[tuple[int, int, int], ...]
    has_optimum: ClassVar[bool] = True

    @property
    def exponents(self) -> tuple[int, ...]:
        """Indices of the exponents, each once."""
        return tuple(dict.fromkeys(exponent for _, _, exponent in self.terms))

    @property
    def coefficients(self) -> tuple[int, ...]:
        """Indices of the coefficients."""
        return tuple(coefficient for _, coefficient, _ in self.terms)

    @abstractmethod
    def excess(self, theta: Floats, x: Floats, *, derivatives: bool = True) -> Excess:
        """Return what stands above the floor.

        Args:
            theta: Parameters, `[S, P]`.
            x: Centred logarithms of the columns, `[columns, n]`.
            derivatives: Whether the jacobian is wanted; else it is empty.
        """

    @abstractmethod
    def bounds(self) -> tuple[Floats, Floats]:
        """Return the lowest and highest values of the parameters after the floor, coefficients over u's median."""


@dataclass(frozen=True, slots=True)
class SumOfPowers(Form):
    """A sum of power laws, one per term; exponents may be shared."""

    def excess(self, theta: Floats, x: Floats, *, derivatives: bool = True) -> Excess:
        """Return the sum of the terms."""
        powers = [np.exp(theta[:, [c]] - theta[:, [e]] * x[k]) for k, c, e in self.terms]
        value = powers[0] if len(powers) == 1 else powers[0] + powers[1]
        size = theta.shape[1] - 1
        jacobian = np.zeros((*value.shape, size if derivatives else 0))
        if derivatives:
            for power, (k, c, e) in zip(powers, self.terms, strict=True):
                jacobian[..., c - 1] = power
                jacobian[..., e - 1] -= power * x[k]

        def hessian(weights: Floats) -> Floats:
            """Return the weighted sum of the rows' second derivatives, `[S, P, P]`."""
            out = np.zeros((len(theta), size, size))
            for power, (k, c, e) in zip(powers, self.terms, strict=True):
                moments = (weights * power) @ np.stack([np.ones_like(x[k]), x[k], x[k] ** 2], axis=1)
                out[:, c - 1, c - 1] += moments[:, 0]
                out[:, c - 1, e - 1] -= moments[:, 1]
                out[:, e - 1, c - 1] -= moments[:, 1]
                out[:, e - 1, e - 1] += moments[:, 2]
            return out

        return Excess(value, jacobian, hessian)

    def bounds(self) -> tuple[Floats, Floats]:
        """Return the box of coefficients and exponents."""
        size = len(self.inner) - 1
        low, high = np.full(size, -25.0), np.full(size, 7.0)
        for exponent in self.exponents:
            low[exponent - 1], high[exponent - 1] = EXPONENT_RANGE
        return low, high


@dataclass(frozen=True, slots=True)
class Gamma(Form):
    """(A N^-a + B D^-b)^g.

    Inside, its logarithm is g logaddexp(U / g, V / g) with U = p - (a g) n and V = q - (b g) d: a maximum that g makes
    soft. In these effective coefficients and exponents g is nearly uncorrelated with the rest.
    """

    def excess(self, theta: Floats, x: Floats, *, derivatives: bool = True) -> Excess:
        """Return the softened sum."""
        (kn, cn, en), (kd, cd, ed) = self.terms
        g = theta[:, [5]]
        first = (theta[:, [cn]] - theta[:, [en]] * x[kn]) / g
        second = (theta[:, [cd]] - theta[:, [ed]] * x[kd]) / g
        total = np.logaddexp(first, second)
        value = np.exp(g * total)
        share = np.exp(first - total)
        gap = first - second
        entropy = total - share * first - (1 - share) * second
        slopes = np.zeros((*value.shape, 5))
        slopes[..., 0], slopes[..., 1] = share, -share * x[kn]
        slopes[..., 2], slopes[..., 3] = 1 - share, -(1 - share) * x[kd]
        slopes[..., 4] = entropy
        jacobian = value[..., None] * slopes if derivatives else np.zeros((*value.shape, 0))

        def hessian(weights: Floats) -> Floats:
            """Return the weighted sum of the rows' second derivatives, `[S, P, P]`."""
            # l = ln value: d2l = share (1 - share) / g v v', where v is the slope of U - V, and of its g by -gap
            direction = np.zeros((*value.shape, 5))
            direction[..., 0], direction[..., 1], direction[..., 2], direction[..., 3] = 1.0, -x[kn], -1.0, x[kd]
            direction[..., 4] = -gap
            outer = weights * value
            bend = outer * share * (1 - share) / g
            return _gram(direction, bend) + _gram(slopes, outer)

        return Excess(value, jacobian, hessian)

    def bounds(self) -> tuple[Floats, Floats]:
        """Return the box of coefficients, exponents and g."""
        exponent_low, exponent_high = EXPONENT_RANGE
        low = np.array([-25.0, exponent_low, -25.0, exponent_low, GAMMA_RANGE[0]])
        high = np.array([7.0, exponent_high, 7.0, exponent_high, GAMMA_RANGE[1]])
        return low, high


def _gram(columns: Floats, weights: Floats) -> Floats:
    out: Floats = np.matmul((columns * weights[..., None]).transpose(0, 2, 1), columns)
    return out


FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        SumOfPowers(
            "chinchilla",
            "E + A N^-alpha + B D^-beta",
            ("N", "D"),
            ("floor", "log_A", "alpha", "log_B", "beta"),
            ((0, 1, 2), (1, 3, 4)),
        ),
        Gamma(
            "gamma",
            "E + (A N^-alpha + B D^-beta)^gamma",
            ("N", "D"),
            ("floor", "log_A", "alpha", "log_B", "beta", "gamma"),
            ((0, 1, 2), (1, 3, 4)),
        ),
        SumOfPowers(
            "shared",
            "E + A N^-alpha + B D^-alpha",
            ("N", "D"),
            ("floor", "log_A", "alpha", "log_B"),
            ((0, 1, 2), (1, 3, 2)),
        ),
        SumOfPowers("power", "E + A C^-alpha", ("C",), ("floor", "log_A", "alpha"), ((0, 1, 2),)),
    )
}


def get_form(name: str) -> Form:
    """Return the form called `name`.

    Raises:
        UnknownNameError: There is none.
    """
    if name not in FORMS:
        raise UnknownNameError("law", name, FORMS)
    return FORMS[name]
