"""Built-in laws: sums of powers of N, D or C above a floor, with exact first and second derivatives.

Inside, coordinates are logarithms centred at the data ("at the centroid"), and coefficients are logarithms there: the
parameters are then of one size and nearly uncorrelated, which is what lets Newton's method converge from far away.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.citation import Citation
from cdslm_eval.plugin.hookspecs import hookimpl
from cdslm_eval.plugin.law import Excess, LawForm

__all__ = ["Chinchilla", "Gamma", "Power", "PowerSum", "Shared"]

Floats = npt.NDArray[np.float64]
Values = Mapping[str, Floats]
# near 0 a power is a constant, which the floor already is
EXPONENT_RANGE = (1e-3, 4.0)
# towards 0 the soft maximum of the terms turns hard, far above 1 it is a product of powers
GAMMA_RANGE = (0.05, 20.0)

_HOFFMANN = Citation(
    key="hoffmann2022chinchilla",
    title="Training Compute-Optimal Large Language Models",
    authors=("Hoffmann, Jordan", "Borgeaud, Sebastian", "Mensch, Arthur", "others"),
    year=2022,
    kind="inproceedings",
    venue="NeurIPS 2022",
    arxiv="2203.15556",
)
_KAPLAN = Citation(
    key="kaplan2020scaling",
    title="Scaling Laws for Neural Language Models",
    authors=("Kaplan, Jared", "McCandlish, Sam", "Henighan, Tom", "others"),
    year=2020,
    arxiv="2001.08361",
)


class PowerSum(LawForm):
    """A sum of power laws, one per term; exponents may be shared.

    Attributes:
        terms: Per power: (column, coefficient, exponent).
    """

    terms: tuple[tuple[str, str, str], ...]

    @property
    def inner(self) -> tuple[str, ...]:
        """The floor, then coefficients (log, at the centroid) and exponents."""
        return ("floor", *(f"log_{name}" if name in self._coefficient_names else name for name in self.parameters))

    @property
    def _coefficient_names(self) -> tuple[str, ...]:
        return tuple(coefficient for _, coefficient, _ in self.terms)

    @property
    def indices(self) -> tuple[tuple[int, int, int], ...]:
        """Per power: (index of its column, of its coefficient and of its exponent in `inner`)."""
        names = self.parameters
        return tuple((self.columns.index(x), names.index(c) + 1, names.index(e) + 1) for x, c, e in self.terms)

    @property
    def exponents(self) -> tuple[int, ...]:
        """Indices of the exponents, each once."""
        return tuple(dict.fromkeys(exponent for _, _, exponent in self.indices))

    @property
    def coefficients(self) -> tuple[int, ...]:
        """Indices of the coefficients."""
        return tuple(coefficient for _, coefficient, _ in self.indices)

    @property
    def profiled(self) -> Mapping[str, int]:
        """The exponents."""
        return {self.parameters[e - 1]: e for e in self.exponents}

    def predict(self, p: Values, x: Values) -> Floats:
        """Return the sum of the powers."""
        out: Floats = np.asarray(sum(p[c] * x[column] ** -p[e] for column, c, e in self.terms), float)
        return out

    def gradient(self, p: Values, x: Values) -> Values:
        """Return the derivatives by coefficients and exponents."""
        slopes: dict[str, Floats] = {}
        for column, c, e in self.terms:
            power = x[column] ** -p[e]
            slopes[c] = power
            slopes[e] = slopes.get(e, np.zeros(1)) - p[c] * power * np.log(x[column])
        return slopes

    def bounds(self) -> Mapping[str, tuple[float, float]]:
        """Return the box of coefficients, over a typical value at the centroid, and exponents."""
        coefficients = dict.fromkeys(self._coefficient_names, (float(np.exp(-25.0)), float(np.exp(7.0))))
        return {**coefficients, **{e: EXPONENT_RANGE for _, _, e in self.terms}}

    def box(self, typical: float, centre: Floats) -> tuple[Floats, Floats]:
        """Return the box of coefficients and exponents."""
        del centre
        size = len(self.parameters)
        # from a term that no row can feel to one a thousand times the data
        low, high = np.full(size, -25.0), np.full(size, 7.0)
        for index in self.exponents:
            low[index - 1], high[index - 1] = EXPONENT_RANGE
        for index in self.coefficients:
            low[index - 1] += np.log(typical)
            high[index - 1] += np.log(typical)
        return low, high

    def natural(self, theta: Floats, centre: Floats) -> dict[str, Floats]:
        """Return A, log_A, alpha, ...: values `[S]`."""
        return self._natural(theta, centre, np.ones(len(theta)))

    def _natural(self, theta: Floats, centre: Floats, gamma: Floats) -> dict[str, Floats]:
        out: dict[str, Floats] = {}
        for k, c, e in self.indices:
            coefficient = self.parameters[c - 1]
            # from the value at the centroid to that at N = 1
            logarithm = (theta[:, c - 1] + theta[:, e - 1] * centre[k]) / gamma
            # a wild replicate may leave the range of numbers: its log_A stays exact
            out[coefficient] = np.exp(np.minimum(logarithm, 700.0))
            out[f"log_{coefficient}"] = logarithm
            out[self.parameters[e - 1]] = theta[:, e - 1] / gamma
        return out

    def search_coordinates(self, parameters: Mapping[str, float], centre: Floats) -> Floats:
        """Return the coordinates after the floor, `[P - 1]`."""
        theta, gamma = np.zeros(len(self.parameters)), parameters.get("gamma", 1.0)
        for k, c, e in self.indices:
            coefficient = self.parameters[c - 1]
            logarithm = parameters.get(f"log_{coefficient}")
            logarithm = float(np.log(parameters[coefficient])) if logarithm is None else logarithm
            exponent = parameters[self.parameters[e - 1]] * gamma
            theta[e - 1], theta[c - 1] = exponent, logarithm * gamma - exponent * centre[k]
        return theta

    def excess(self, theta: Floats, x: Floats, centre: Floats, *, derivatives: bool = True) -> Excess:
        """Return the sum of the terms."""
        del centre
        indices = self.indices
        powers = [np.exp(theta[:, [c - 1]] - theta[:, [e - 1]] * x[k]) for k, c, e in indices]
        value = powers[0].copy()
        for power in powers[1:]:
            value = value + power
        size = theta.shape[1]
        jacobian = np.zeros((*value.shape, size if derivatives else 0))
        if derivatives:
            for power, (k, c, e) in zip(powers, indices, strict=True):
                jacobian[..., c - 1] = power
                # accumulated, since terms may share an exponent
                jacobian[..., e - 1] -= power * x[k]

        def hessian(weights: Floats) -> Floats:
            """Return the weighted sum of the rows' second derivatives, `[S, P, P]`."""
            out = np.zeros((len(theta), size, size))
            for power, (k, c, e) in zip(powers, indices, strict=True):
                # a term is exp of a linear function: its Hessian is made of moments, without a matrix per row
                moments = (weights * power) @ np.stack([np.ones_like(x[k]), x[k], x[k] ** 2], axis=1)
                out[:, c - 1, c - 1] += moments[:, 0]
                out[:, c - 1, e - 1] -= moments[:, 1]
                out[:, e - 1, c - 1] -= moments[:, 1]
                out[:, e - 1, e - 1] += moments[:, 2]
            return out

        return Excess(value, jacobian, hessian)

    def candidates(self, low: Floats, high: Floats) -> Floats:
        """Return a grid of exponents, `[G, P - 1]`."""
        del high
        # even in the logarithm, since exponents of laws span two orders of magnitude
        values = np.geomspace(0.03, 2.0, 40 if len(self.exponents) == 1 else 16)
        grid = np.array(list(itertools.product(values, repeat=len(self.exponents))))
        theta = np.zeros((len(grid), len(low)))
        theta[:, [e - 1 for e in self.exponents]] = grid
        return theta

    def design(self, theta: Floats, x: Floats, centre: Floats) -> Floats:
        """Return each power without its coefficient, `[G, n, terms]`."""
        del centre
        return np.stack([np.exp(-theta[:, [e - 1]] * x[k]) for k, _, e in self.indices], axis=2)


class Chinchilla(PowerSum):
    """Powers of N and of D.

    Source: Hoffmann et al., arXiv 2203.15556, equation 2.
    """

    name = "chinchilla"
    citation = (_HOFFMANN,)
    formula = "E + A N^-alpha + B D^-beta"
    latex = r"E + A N^{-\alpha} + B D^{-\beta}"
    template = "{A:.4g} N^-{alpha:.4f} + {B:.4g} D^-{beta:.4f}"
    parameters = ("A", "alpha", "B", "beta")
    terms = (("N", "A", "alpha"), ("D", "B", "beta"))
    closed_form: ClassVar[bool] = True


class Shared(PowerSum):
    """Powers of N and of D with one exponent."""

    name = "shared"
    citation = (_HOFFMANN,)
    formula = "E + A N^-alpha + B D^-alpha"
    latex = r"E + A N^{-\alpha} + B D^{-\alpha}"
    template = "{A:.4g} N^-{alpha:.4f} + {B:.4g} D^-{alpha:.4f}"
    parameters = ("A", "alpha", "B")
    terms = (("N", "A", "alpha"), ("D", "B", "alpha"))
    closed_form: ClassVar[bool] = True


class Power(PowerSum):
    """A power of C."""

    name = "power"
    citation = (_KAPLAN,)
    formula = "E + A C^-alpha"
    latex = r"E + A C^{-\alpha}"
    template = "{A:.4g} C^-{alpha:.4f}"
    columns = ("C",)
    parameters = ("A", "alpha")
    terms = (("C", "A", "alpha"),)
    closed_form: ClassVar[bool] = True


class Gamma(PowerSum):
    """(A N^-a + B D^-b)^g.

    Inside, its logarithm is g logaddexp(U / g, V / g) with U = p - (a g) n and V = q - (b g) d: a maximum that g makes
    soft. In these effective coefficients and exponents g is nearly uncorrelated with the rest.
    """

    name = "gamma"
    citation = (_KAPLAN, _HOFFMANN)
    formula = "E + (A N^-alpha + B D^-beta)^gamma"
    latex = r"E + (A N^{-\alpha} + B D^{-\beta})^{\gamma}"
    template = "({A:.4g} N^-{alpha:.4f} + {B:.4g} D^-{beta:.4f})^{gamma:.4f}"
    parameters = ("A", "alpha", "B", "beta", "gamma")
    terms = (("N", "A", "alpha"), ("D", "B", "beta"))
    closed_form: ClassVar[bool] = True

    @property
    def profiled(self) -> Mapping[str, int]:
        """The exponents and gamma."""
        return {**super().profiled, "gamma": 5}

    def predict(self, p: Values, x: Values) -> Floats:
        """Return the softened sum."""
        return np.asarray(super().predict(p, x) ** p["gamma"])

    def gradient(self, p: Values, x: Values) -> Values:
        """Return the derivatives by coefficients, exponents and gamma."""
        total = super().predict(p, x)
        outer = p["gamma"] * total ** (p["gamma"] - 1)
        slopes = {name: outer * slope for name, slope in super().gradient(p, x).items()}
        return {**slopes, "gamma": total ** p["gamma"] * np.log(total)}

    def bounds(self) -> Mapping[str, tuple[float, float]]:
        """Return the box of coefficients, exponents and gamma."""
        return {**super().bounds(), "gamma": GAMMA_RANGE}

    def box(self, typical: float, centre: Floats) -> tuple[Floats, Floats]:
        """Return the box of coefficients, exponents and gamma."""
        low, high = super().box(typical, centre)
        low[4], high[4] = GAMMA_RANGE
        return low, high

    def natural(self, theta: Floats, centre: Floats) -> dict[str, Floats]:
        """Return A, log_A, alpha, ... and gamma: values `[S]`."""
        return {**self._natural(theta, centre, theta[:, 4]), "gamma": theta[:, 4]}

    def search_coordinates(self, parameters: Mapping[str, float], centre: Floats) -> Floats:
        """Return the coordinates after the floor, `[P - 1]`."""
        theta = super().search_coordinates(parameters, centre)
        theta[4] = parameters["gamma"]
        return theta

    def excess(self, theta: Floats, x: Floats, centre: Floats, *, derivatives: bool = True) -> Excess:
        """Return the softened sum."""
        del centre
        (kn, cn, en), (kd, cd, ed) = self.indices
        g = theta[:, [4]]
        first = (theta[:, [cn - 1]] - theta[:, [en - 1]] * x[kn]) / g
        second = (theta[:, [cd - 1]] - theta[:, [ed - 1]] * x[kd]) / g
        total = np.logaddexp(first, second)
        value = np.exp(g * total)
        share = np.exp(first - total)
        gap = first - second
        # derivative by g at fixed U and V: the entropy of the two shares
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

    def disperse(self, theta: Floats) -> Floats:
        """Return starting points of several softnesses."""
        # the projection is done without gamma, so each start tries one
        theta[:, -1] = np.resize([1.0, 0.5, 2.0], len(theta))
        return theta


def _gram(columns: Floats, weights: Floats) -> Floats:
    out: Floats = np.matmul((columns * weights[..., None]).transpose(0, 2, 1), columns)
    return out


@hookimpl
def cdslm_laws() -> list[type[LawForm]]:
    """Return the built-in laws."""
    return [Chinchilla, Gamma, Shared, Power]
