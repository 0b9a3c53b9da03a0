"""The contract of a scaling law: a form with parameters, values, derivatives and bounds.

A law is E plus an excess that this class describes. Forms written in natural units need `predict`, `gradient` and
`bounds` only; a form whose exact second derivatives are cheap overrides `excess` and the coordinates it is searched in.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cdslm_eval.plugin.contract import Component

__all__ = ["Excess", "LawForm"]

Floats = npt.NDArray[np.float64]
Values = Mapping[str, Floats]
_CANDIDATES = 512
_LOG_LARGEST = 700.0


@dataclass(frozen=True, slots=True)
class Excess:
    """Values above the floor E for S laws at n points, with derivatives over the P - 1 parameters after the floor.

    Attributes:
        value: `[S, n]`.
        jacobian: `[S, n, P - 1]`.
        hessian: Weights `[S, n]` -> the weighted sum of the points' Hessians, `[S, P - 1, P - 1]`.
    """

    value: Floats
    jacobian: Floats
    hessian: Callable[[Floats], Floats]


class LawForm(Component):
    """A scaling law u = E + excess(parameters, columns); u falls as models improve.

    The host fits E itself. A parameter whose lower bound is above 0 is searched by its logarithm, an exponent of
    `scales` as it is.

    Attributes:
        formula: The law as plain text: "E + A N^-alpha".
        latex: The same as LaTeX; "" where there is none.
        template: The excess with its numbers, as a format string over the parameters; "" lists them instead.
        columns: What it reads of each run: "N", "D", "C" (all above 0), or any other column of numbers above 0.
        parameters: Names of its parameters, E left out.
        scales: Coefficient -> (column, exponent), where the coefficient multiplies that power of the column. It is then
            searched by its value at the centre of the data, which makes a narrow valley round.
        linear: Coefficients in which the law is linear; starting points take them from a linear fit.
        closed_form: Whether it is (A N^-alpha [+ B D^-beta])^gamma, or a power of C, whose optima have closed forms.
    """

    formula: str = ""
    latex: str = ""
    template: str = ""
    columns: tuple[str, ...] = ("N", "D")
    parameters: tuple[str, ...]
    scales: Mapping[str, tuple[str, str]] = {}
    linear: tuple[str, ...] = ()
    closed_form: ClassVar[bool] = False

    @abstractmethod
    def predict(self, p: Values, x: Values) -> Floats:
        """Return the excess above E.

        Args:
            p: Parameter -> values, in natural units.
            x: Column -> values, above 0; both broadcast against each other.
        """

    @abstractmethod
    def gradient(self, p: Values, x: Values) -> Values:
        """Return parameter -> derivative of `predict` by it; arguments as there."""

    @abstractmethod
    def bounds(self) -> Mapping[str, tuple[float, float]]:
        """Return parameter -> (lowest, highest) value that the search may take, in natural units, finite."""

    def hessian(self, p: Values, x: Values) -> Mapping[tuple[str, str], Floats] | None:
        """Return (parameter, parameter) -> second derivative of `predict`, each pair once; absent pairs are 0.

        None, the default, has the solver take central differences of `gradient`: correct to about six digits, and
        twice as many gradients as there are parameters for each step.
        """
        del p, x
        return None

    # ---- coordinates of the search: the floor, then these; override all of them together ----

    @property
    def inner(self) -> tuple[str, ...]:
        """Names of the coordinates that are searched: the floor, then the parameters, by logarithm where positive."""
        logs = self._logs
        return ("floor", *(f"log_{name}" if log else name for name, log in zip(self.parameters, logs, strict=True)))

    @property
    def profiled(self) -> Mapping[str, int]:
        """Parameter -> its index in `inner`, of those that can be profiled or stand at a bound."""
        return {name: index for index, name in enumerate(self.parameters, 1) if name not in self.scales}

    @property
    def coefficients(self) -> tuple[int, ...]:
        """Indices in `inner` of the linear coefficients."""
        return tuple(self.parameters.index(name) + 1 for name in self.linear)

    @property
    def _logs(self) -> list[bool]:
        bounds, exponents = self.bounds(), {exponent for _, exponent in self.scales.values()}
        return [bounds[name][0] > 0 and name not in exponents for name in self.parameters]

    def box(self, typical: float, centre: Floats) -> tuple[Floats, Floats]:
        """Return the lowest and highest coordinates after the floor, `[P - 1]` each.

        Args:
            typical: A typical value of the metric, which sizes the linear coefficients of `PowerSum`.
            centre: Mean logarithm of each column, `[columns]`.
        """
        del typical
        low, high = np.array([self.bounds()[name] for name in self.parameters], float).T
        logs = np.array(self._logs)
        with np.errstate(divide="ignore", invalid="ignore"):
            low, high = np.where(logs, np.log(low), low), np.where(logs, np.log(high), high)
        for name, (column, exponent) in self.scales.items():
            index, power = self.parameters.index(name), self.bounds()[exponent]
            ends = sorted(-c * centre[self.columns.index(column)] for c in power)
            low[index], high[index] = low[index] + ends[0], high[index] + ends[1]
        return low, high

    def natural(self, theta: Floats, centre: Floats) -> dict[str, Floats]:
        """Return parameter -> values `[S]` for coordinates after the floor, `[S, P - 1]`."""
        named = self._named(theta, centre)
        return {name: values[:, 0] for name, values in named.items()}

    def search_coordinates(self, parameters: Mapping[str, float], centre: Floats) -> Floats:
        """Return the coordinates after the floor for natural parameters, `[P - 1]`: the inverse of `natural`."""
        values = [float(parameters[name]) for name in self.parameters]
        theta = np.array([np.log(v) if log else v for v, log in zip(values, self._logs, strict=True)])
        return np.asarray(self._shear(centre) @ theta)

    def excess(self, theta: Floats, x: Floats, centre: Floats, *, derivatives: bool = True) -> Excess:
        """Return the values above the floor with their derivatives.

        Args:
            theta: Coordinates after the floor, `[S, P - 1]`.
            x: Logarithms of the columns less their centre, `[columns, n]`.
            centre: What was taken off, `[columns]`.
            derivatives: Whether the jacobian is wanted; else it is empty.
        """
        columns = {name: np.exp(row + c) for name, row, c in zip(self.columns, x, centre, strict=True)}
        shape = (len(theta), x.shape[1])
        with np.errstate(over="ignore", invalid="ignore"):
            value = np.broadcast_to(np.asarray(self.predict(self._named(theta, centre), columns), float), shape)
            jacobian = self._jacobian(theta, columns, centre, shape) if derivatives else np.zeros((*shape, 0))

        def hessian(weights: Floats) -> Floats:
            """Return the weighted sum of the rows' second derivatives, `[S, P - 1, P - 1]`."""
            with np.errstate(over="ignore", invalid="ignore"):
                exact = self.hessian(self._named(theta, centre), columns)
                if exact is None:
                    return self._differences(theta, columns, centre, weights)
                return self._transformed(theta, columns, centre, weights, exact)

        return Excess(value, jacobian, hessian)

    def candidates(self, low: Floats, high: Floats) -> Floats:
        """Return coordinates after the floor to start from, `[G, P - 1]`, linear coefficients at 0.

        They fill the box evenly (Roberts's additive sequence, the generalised golden ratio).
        """
        size = len(self.parameters)
        ratio = 2.0
        for _ in range(40):
            ratio = (1 + ratio) ** (1 / (size + 1))
        steps = ratio ** -np.arange(1.0, size + 1)
        unit = (0.5 + np.arange(_CANDIDATES)[:, None] * steps) % 1
        theta = np.asarray(low + unit * (high - low))
        theta[:, [index - 1 for index in self.coefficients]] = 0.0
        return theta

    def design(self, theta: Floats, x: Floats, centre: Floats) -> Floats:
        """Return what each linear coefficient multiplies, `[G, n, coefficients]`, at coordinates `[G, P - 1]`."""
        jacobian = self.excess(theta, x, centre).jacobian
        return np.asarray(jacobian[..., [index - 1 for index in self.coefficients]])

    def disperse(self, theta: Floats) -> Floats:
        """Return starting points `[S, P]` after the linear fit; a form may vary what that fit cannot see."""
        return theta

    def describe(self, parameters: Mapping[str, float]) -> str:
        """Return the excess with its numbers."""
        if self.template:
            return self.template.format(**parameters)
        values = ", ".join(f"{name} = {parameters[name]:.4g}" for name in self.parameters)
        return f"{self.name}({', '.join(self.columns)}; {values})"

    # ---- the default coordinates: a shear that centres coefficients, and logarithms ----

    def _shear(self, centre: Floats) -> Floats:
        """Return S with search coordinates = S log-or-plain parameters."""
        matrix = np.eye(len(self.parameters))
        for name, (column, exponent) in self.scales.items():
            matrix[self.parameters.index(name), self.parameters.index(exponent)] = -centre[self.columns.index(column)]
        return matrix

    def _named(self, theta: Floats, centre: Floats) -> dict[str, Floats]:
        plain = theta @ np.linalg.inv(self._shear(centre)).T
        return {
            name: np.exp(np.minimum(plain[:, [k]], _LOG_LARGEST)) if log else plain[:, [k]]
            for k, (name, log) in enumerate(zip(self.parameters, self._logs, strict=True))
        }

    def _by_search(self, theta: Floats, centre: Floats) -> Floats:
        """Return d natural / d search, `[S, natural, search]`."""
        named = self._named(theta, centre)
        factors = np.stack(
            [
                named[name][:, 0] if log else np.ones(len(theta))
                for name, log in zip(self.parameters, self._logs, strict=True)
            ],
            axis=1,
        )
        return np.asarray(factors[:, :, None] * np.linalg.inv(self._shear(centre))[None])

    def _jacobian(self, theta: Floats, columns: Values, centre: Floats, shape: tuple[int, int]) -> Floats:
        slopes = self.gradient(self._named(theta, centre), columns)
        stacked = np.stack([np.broadcast_to(np.asarray(slopes[name]), shape) for name in self.parameters], axis=2)
        return np.asarray(stacked @ self._by_search(theta, centre))

    def _differences(self, theta: Floats, columns: Values, centre: Floats, weights: Floats) -> Floats:
        size, shape, step = theta.shape[1], weights.shape, 1e-5
        out = np.zeros((len(theta), size, size))
        for k in range(size):
            move = np.zeros(size)
            move[k] = step
            up, down = (self._jacobian(theta + side * move, columns, centre, shape) for side in (1, -1))
            out[:, k] = np.einsum("sn,snp->sp", weights, up - down) / (2 * step)
        return np.asarray((out + out.transpose(0, 2, 1)) / 2)

    def _transformed(
        self, theta: Floats, columns: Values, centre: Floats, weights: Floats, exact: Mapping[tuple[str, str], Floats]
    ) -> Floats:
        size, named = theta.shape[1], self._named(theta, centre)
        slopes = self.gradient(named, columns)
        natural = np.zeros((len(theta), size, size))
        for (first, second), values in exact.items():
            i, j = self.parameters.index(first), self.parameters.index(second)
            natural[:, i, j] = natural[:, j, i] = np.sum(weights * values, axis=1)
        by_search = self._by_search(theta, centre)
        out = by_search.transpose(0, 2, 1) @ natural @ by_search
        # a logarithmic coordinate bends: d2 p / d q2 = p
        inverse = np.linalg.inv(self._shear(centre))
        for k, (name, log) in enumerate(zip(self.parameters, self._logs, strict=True)):
            if log:
                pull = np.sum(weights * slopes[name], axis=1) * named[name][:, 0]
                out += pull[:, None, None] * np.outer(inverse[k], inverse[k])
        return np.asarray(out)
