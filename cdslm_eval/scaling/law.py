"""A law with known parameters, as a reader writes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling.curve import Curve, NearOptimal, Optimum, curve_of
from cdslm_eval.scaling.forms import Form, get_form
from cdslm_eval.scaling.links import Axis, Log

__all__ = ["Law"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Law:
    """A law with known parameters; immutable.

    Attributes:
        form: "chinchilla", "gamma", "shared" or "power".
        parameters: E (in the metric's units), A, B, log_A, log_B (natural), alpha, beta, gamma, as the form has them.
        k: The k of C = k N D.
        axis: How the metric is oriented and on what scale its residuals are measured.

    Example:
        >>> law = Law.of("chinchilla", E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
        >>> round(float(law.predict(70e9, 1.4e12)), 4)
        1.9366
    """

    form: str
    parameters: Mapping[str, float]
    k: float = 6.0
    axis: Axis = field(default_factory=lambda: Axis(Log()))

    @classmethod
    def of(cls, form: str, *, k: float = 6.0, axis: Axis | None = None, **parameters: float) -> Law:
        """Make a law of E, A, B, alpha, beta, gamma.

        Raises:
            UsageError: A parameter is missing, unknown, or not above 0 (E may have any sign).
        """
        needed = {"E", *_natural(get_form(form))}
        if set(parameters) != needed:
            raise UsageError(
                f"the law {form!r} has the parameters {', '.join(sorted(needed))}, not {sorted(parameters)}"
            )
        for name, value in parameters.items():
            if not math.isfinite(value) or (name != "E" and value <= 0):
                raise UsageError(f"{name} of a law must be finite and above 0, not {value}")
        logs = {f"log_{name}": math.log(parameters[name]) for name in ("A", "B") if name in parameters}
        return cls(form, {**parameters, **logs}, k, axis or Axis(Log()))

    @property
    def curve(self) -> Curve:
        """The law in u."""
        return curve_of({name: np.asarray(value) for name, value in self.parameters.items()}, self.axis, self.k)

    def predict(self, N: npt.ArrayLike, D: npt.ArrayLike) -> Floats:
        """Return the metric for N parameters and D tokens."""
        return self.axis.restore(self.curve.value(N, D))

    def optimum(self, C: npt.ArrayLike) -> Optimum:
        """Return the compute-optimal models for budgets C.

        Raises:
            UsageError: The law knows C alone and so no best N.
        """
        self._needs_optimum()
        return self.curve.optimum(C, self.axis)

    def kappa(self, C: npt.ArrayLike) -> Floats:
        """Return the curvature of the isoFLOP at its optimum in ln N: alpha beta (L* - E), times any gamma."""
        return self.optimum(C).kappa

    def near_optimal(self, C: npt.ArrayLike, epsilon: npt.ArrayLike, *, relative: bool = False) -> NearOptimal:
        """Return the range of N and D whose value is within epsilon of the optimum's.

        Args:
            C: Budgets in FLOPs.
            epsilon: Above 0: in the metric's units, or with `relative` as a fraction of the optimum's value (of its
                distance from the bound, where bounds are declared).
            relative: Which of the two.

        Raises:
            UsageError: `epsilon` is not above 0, or the law knows C alone.
        """
        self._needs_optimum()
        if not np.all(np.asarray(epsilon) > 0):
            raise UsageError("epsilon must be above 0")
        return self.curve.near_optimal(C, epsilon, relative=relative)

    def reach(self, value: float) -> float:
        """Return the least budget C whose optimum is at least as good as `value`; infinite where none is."""
        return float(self.curve.reach(self.axis.orient(value)))

    def _needs_optimum(self) -> None:
        if self.form == "power":
            raise UsageError("a power law in C knows no best N; fit the chinchilla, shared or gamma form")

    def __str__(self) -> str:
        p = self.parameters
        body = {
            "chinchilla": "{A:.4g} N^-{alpha:.4f} + {B:.4g} D^-{beta:.4f}",
            "gamma": "({A:.4g} N^-{alpha:.4f} + {B:.4g} D^-{beta:.4f})^{gamma:.4f}",
            "shared": "{A:.4g} N^-{alpha:.4f} + {B:.4g} D^-{alpha:.4f}",
            "power": "{A:.4g} C^-{alpha:.4f}",
        }[self.form].format(**p)
        return f"{p['E']:.5g} + {body}" if self.axis.sign > 0 else f"{p['E']:.5g} - ({body})"


def _natural(form: Form) -> list[str]:
    return [name.removeprefix("log_") for name in form.inner[1:]]
