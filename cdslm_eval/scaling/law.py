"""A law with known parameters, and how one is chosen and fitted (`LawSpec`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from cdslm_eval.builtin import laws as builtin
from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.law import LawForm
from cdslm_eval.scaling.axis import Axis, Log
from cdslm_eval.scaling.cost import Cost
from cdslm_eval.scaling.curves import Curve, NearOptimal, NumericCurve, Optimum, PowerCurve

__all__ = ["Law", "LawSpec", "curve_of", "get_form"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LawSpec:
    """Which law is fitted, and how: what every fit, the API and the command line share.

    Attributes:
        form: Name of a law, built in or of a plugin ("chinchilla", "gamma", "shared", "power"), with any options
            ("broken:breaks=2").
        estimator: "huber" (sum of Huber's rho), "lad" (least absolute deviations) or "least_squares".
        delta: Huber's delta, above 0, on the scale of the link (identity: in units of the median |metric|).
        delta_absolute: Huber's delta in the metric's own units, in place of `delta`; for the identity link alone.
        link: Scale of the residuals: "log" (relative errors), "identity" (absolute, in units of the median |metric|),
            "logit" (needs bounds), or "" for the default of the job (see `linked`).
        better: "lower", or "higher": then the law describes the distance from above, and E is what is approached.
        bounds: (low, high) that the metric cannot leave.
    """

    form: str = "chinchilla"
    estimator: str = "huber"
    delta: float = 1e-3
    link: str = ""
    better: str = "lower"
    bounds: tuple[float, float] | None = None
    delta_absolute: float | None = None

    def linked(self, default: str = "log") -> str:
        """Return the link: as chosen, else logit within bounds, identity for a metric that rises, else `default`."""
        return self.link or ("logit" if self.bounds else "identity" if self.better == "higher" else default)

    def huber_delta(self, axis: Axis) -> float:
        """Return Huber's delta on the residual scale of an axis.

        Raises:
            UsageError: An absolute delta is not above 0, or the link is not identity.
        """
        if self.delta_absolute is None:
            return self.delta
        if axis.link.name != "identity":
            raise UsageError(
                f"an absolute delta needs residuals in the metric's units, not on the {axis.link.name} scale; "
                "use --link identity"
            )
        if not self.delta_absolute > 0:
            raise UsageError(f"an absolute delta must be above 0, not {self.delta_absolute}")
        return self.delta_absolute / axis.link.scale


@lru_cache
def get_form(name: str) -> LawForm:
    """Return a law's form by name, with options as in "broken:breaks=2".

    Raises:
        UnknownNameError: No plugin provides it.
        UsageError: An option does not fit.
    """
    for form in builtin.cdslm_laws():
        if form.name == name:
            return form()
    from cdslm_eval.plugin.host import Host

    made: LawForm = Host().make("law", name)
    return made


@dataclass(frozen=True)
class Law:
    """A law with known parameters; immutable.

    Attributes:
        form: Name of the form; see `get_form`.
        parameters: E (in the metric's units), A, B, log_A, log_B (natural), alpha, beta, gamma, as the form has them.
        cost: C as a function of N and D, which sets the optima under a budget.
        axis: How the metric is oriented and on what scale its residuals are measured.

    Example:
        >>> law = Law.of("chinchilla", E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
        >>> round(float(law.predict(70e9, 1.4e12)), 4)
        1.9366
    """

    form: str
    parameters: Mapping[str, float]
    cost: Cost = field(default_factory=Cost)
    axis: Axis = field(default_factory=lambda: Axis(Log()))

    @classmethod
    def of(cls, form: str, *, k: float = 6.0, axis: Axis | None = None, **parameters: float) -> Law:
        """Make a law of E and the form's parameters.

        Raises:
            UsageError: A parameter is missing, unknown, not finite, or not above 0 where the form needs that.
        """
        shape = get_form(form)
        needed = {"E", *shape.parameters}
        if set(parameters) != needed:
            raise UsageError(
                f"the law {form!r} has the parameters {', '.join(sorted(needed))}, not {sorted(parameters)}"
            )
        positive = {name for name, (low, _) in shape.bounds().items() if low > 0}
        for name, value in parameters.items():
            if not math.isfinite(value) or (name in positive and value <= 0):
                raise UsageError(f"{name} of a law must be finite and above 0, not {value}")
        logs = {f"log_{name}": math.log(parameters[name]) for name in ("A", "B") if name in parameters}
        return cls(form, {**parameters, **logs}, Cost(k), axis or Axis(Log()))

    @property
    def k(self) -> float:
        """The k of C = k N D (k N^p D^q)."""
        return self.cost.k

    @property
    def curve(self) -> Curve:
        """The law in u."""
        return curve_of(self.form, {name: np.asarray(v) for name, v in self.parameters.items()}, self.axis, self.cost)

    @property
    def fixes_growth(self) -> bool:
        """Whether N and D have one exponent in common, so that the form decides how N* and D* grow with C."""
        form = get_form(self.form)
        return form.closed_form and self.has_optimum and "beta" not in form.parameters

    @property
    def has_optimum(self) -> bool:
        """Whether a best N exists under a budget: the law reads N and D, and nothing that a budget leaves open."""
        return set(get_form(self.form).columns) in ({"N", "D"}, {"N", "D", "C"})

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Columns that the law reads besides N, D and C."""
        return tuple(name for name in get_form(self.form).columns if name not in {"N", "D", "C"})

    def predict(self, N: npt.ArrayLike, D: npt.ArrayLike, **columns: npt.ArrayLike) -> Floats:
        """Return the metric for N parameters, D tokens, and the values of the law's further columns.

        Raises:
            UsageError: A column that the law reads is not given.
        """
        missing = set(self.extra_columns) - set(columns)
        if missing:
            raise UsageError(f"the law {self.form!r} also needs {', '.join(sorted(missing))} of a model")
        return self.axis.restore(self.curve.value(N, D, **columns))

    def optimum(self, C: npt.ArrayLike) -> Optimum:
        """Return the compute-optimal models for budgets C.

        Raises:
            UsageError: The law has no best N.
        """
        self._needs_optimum()
        return self.curve.optimum(C, self.axis)

    def kappa(self, C: npt.ArrayLike) -> Floats:
        """Return the curvature of the isoFLOP at its optimum in ln N; in closed form alpha beta (L* - E) gamma."""
        return self.optimum(C).kappa

    def near_optimal(self, C: npt.ArrayLike, epsilon: npt.ArrayLike, *, relative: bool = False) -> NearOptimal:
        """Return the range of N and D whose value is within epsilon of the optimum's.

        Args:
            C: Budgets in FLOPs.
            epsilon: Above 0: in the metric's units, or with `relative` as a fraction of the optimum's value (of its
                distance from the bound, where bounds are declared).
            relative: Which of the two.

        Raises:
            UsageError: `epsilon` is not above 0, or the law has no best N.
        """
        self._needs_optimum()
        if not np.all(np.asarray(epsilon) > 0):
            raise UsageError("epsilon must be above 0")
        return self.curve.near_optimal(C, epsilon, relative=relative)

    def reach(self, value: float) -> float:
        """Return the least budget C whose optimum is at least as good as `value`; infinite where none is."""
        return float(self.curve.reach(self.axis.orient(value)))

    def _needs_optimum(self) -> None:
        if not self.has_optimum:
            columns = ", ".join(get_form(self.form).columns)
            raise UsageError(
                f"the law {self.form!r} reads {columns} and has no best N; fit the chinchilla, shared or gamma form"
            )

    def __str__(self) -> str:
        body = get_form(self.form).describe(self.parameters)
        E = self.parameters["E"]
        return f"{E:.5g} + {body}" if self.axis.sign > 0 else f"{E:.5g} - ({body})"


def curve_of(form: str, parameters: Mapping[str, Floats], axis: Axis, cost: Cost) -> Curve:
    """Return the curve of natural parameters (arrays that broadcast) in the oriented metric."""
    shape, floor = get_form(form), axis.orient(parameters["E"])
    if not shape.closed_form:
        own = {name: np.asarray(parameters[name], float) for name in shape.parameters}
        return NumericCurve(floor, cost, shape, own)
    alpha = np.asarray(parameters["alpha"], float)
    return PowerCurve(
        floor,
        cost,
        np.asarray(parameters["log_A"], float),
        alpha,
        np.asarray(parameters.get("log_B", -np.inf), float),
        np.asarray(parameters.get("beta", alpha), float),
        np.asarray(parameters.get("gamma", 1.0), float),
    )
