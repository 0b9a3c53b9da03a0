"""Bootstrap: a fit's law on resampled tables, and intervals of everything that follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr
from scipy.stats import t as student

from cdslm_eval.core.errors import UnknownNameError, UsageError
from cdslm_eval.scaling.axis import Axis
from cdslm_eval.scaling.cost import Cost
from cdslm_eval.scaling.curves import Curve
from cdslm_eval.scaling.fit import LawFit, solve_again
from cdslm_eval.scaling.law import curve_of
from cdslm_eval.scaling.rows import find_budgets
from cdslm_eval.scaling.table import RunTable

__all__ = ["Bootstrap", "OptimumIntervals", "bootstrap", "resampling_weights", "searched_again"]

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]
Band = tuple[Floats, Floats]
# just below the logarithm of the largest number, so that no optimum of a replicate overflows
_LOG_LARGEST = 700.0


@dataclass(frozen=True, slots=True)
class OptimumIntervals:
    """Percentile intervals of the compute-optimal models, each (low, high) with the shape of C."""

    C: Floats
    N: Band
    D: Band
    ratio: Band
    loss: Band
    kappa: Band
    level: float


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Replicates of a fit.

    Attributes:
        parameters: Name (E, A, B, log_A, log_B, alpha, beta, gamma) -> its replicates `[replicates]`.
        objective: `[replicates]`.
        converged: Which replicates reached an optimum, `[replicates]`; the others count in intervals all the same,
            since leaving them out would favour the samples that are easy to fit.
        by: What was resampled: "row", "run", "isoflop" or a column.
        units: How many of these there were to draw from.
        free: Degrees of freedom that they leave: intervals are widened for what was fitted.
        seed: Of the draw.
        form, axis, cost: Of the law.
    """

    parameters: Mapping[str, Floats]
    objective: Floats
    converged: npt.NDArray[np.bool_]
    by: str
    units: int
    free: int
    seed: int
    form: str
    axis: Axis
    cost: Cost

    def __len__(self) -> int:
        return len(self.objective)

    @property
    def sentence(self) -> str:
        """The resampling in one sentence."""
        bad = int(np.sum(~self.converged))
        return f"{len(self)} replicates by {self.by} ({self.units} of them), {bad or 'none'} without an optimum"

    def replicates(self, name: str) -> Floats:
        """Return a parameter's replicates, or "ratio_exponent", "N_exponent" or "D_exponent"."""
        curve = self.curve()
        known = {
            **self.parameters,
            "ratio_exponent": curve.ratio_exponent,
            "N_exponent": curve.N_exponent,
            "D_exponent": curve.D_exponent,
        }
        if name not in known:
            raise UnknownNameError("parameter", name, known)
        return known[name]

    def interval(self, name: str, level: float = 0.95) -> Interval:
        """Return the percentile interval of a parameter."""
        low, high = self.band(self.replicates(name), level)
        return float(low), float(high)

    def band(self, values: Floats, level: float = 0.95) -> Band:
        """Return the percentile interval of any quantity of the replicates, `[replicates, ...]` -> two of `[...]`.

        The percentiles are those that a t interval with these degrees of freedom would have under normal replicates:
        plain percentiles are too narrow by the factor that divides a standard deviation by n instead of n - P.

        Source: Hesterberg, "What teachers should know about the bootstrap" (2015), section 5.3 (expanded percentiles).
        """
        wide = np.sqrt(self.units / self.free) * student.ppf((1 + level) / 2, self.free)
        # the quantile must be one of the values: between a finite and an infinite one there is no interpolation
        low, high = np.quantile(values, ndtr([-wide, wide]), axis=0, method="closest_observation")
        return np.asarray(low), np.asarray(high)

    def standard_error(self, name: str) -> float:
        """Return the standard deviation of a parameter over the replicates."""
        return float(np.std(self.replicates(name), ddof=1))

    def ratio_exponent(self, level: float = 0.95) -> Interval:
        """Return the interval of r*'s exponent, (alpha - beta) / (alpha + beta): r* falls with C iff alpha < beta."""
        return self.interval("ratio_exponent", level)

    def curve(self, ndim: int = 0) -> Curve:
        """Return the replicate laws, shaped `[replicates, 1, ...]` to broadcast against points of `ndim` dimensions."""
        shape = (-1, *(1,) * ndim)
        named = {name: values.reshape(shape) for name, values in self.parameters.items()}
        return curve_of(self.form, named, self.axis, self.cost)

    def optimum(self, C: npt.ArrayLike, level: float = 0.95) -> OptimumIntervals:
        """Return intervals of the compute-optimal models at budgets C."""
        C = np.asarray(C, float)
        curve = self.curve(C.ndim)
        log_n = np.clip(curve.log_n_optimum(C), -_LOG_LARGEST, _LOG_LARGEST)
        log_d = np.clip(self.cost.log_tokens(np.log(C), log_n), -_LOG_LARGEST, _LOG_LARGEST)
        u = curve.frontier(C)
        kappa = curve.kappa(C)
        ratio = np.exp(np.clip(log_d - log_n, -_LOG_LARGEST, _LOG_LARGEST))
        return OptimumIntervals(
            C,
            self.band(np.exp(log_n), level),
            self.band(np.exp(log_d), level),
            self.band(ratio, level),
            self.band(self.axis.restore(u), level),
            self.band(kappa, level),
            level,
        )

    def kappa(self, C: npt.ArrayLike, level: float = 0.95) -> Band:
        """Return the interval of the isoFLOP's curvature at budgets C."""
        return self.optimum(C, level).kappa

    def near_optimal(
        self, C: npt.ArrayLike, epsilon: npt.ArrayLike, level: float = 0.95, *, relative: bool = False
    ) -> dict[str, Band]:
        """Return intervals of the bounds of the near-optimal range: "N_low", "N_high", "D_low", "D_high", "width"."""
        C = np.asarray(C, float)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            near = self.curve(C.ndim).near_optimal(C, epsilon, relative=relative)
            return {
                name: self.band(getattr(near, name), level) for name in ("N_low", "N_high", "D_low", "D_high", "width")
            }

    def value(self, N: npt.ArrayLike, D: npt.ArrayLike) -> Floats:
        """Return the metric under every replicate, `[replicates, ...]`."""
        n, d = np.broadcast_arrays(np.asarray(N, float), np.asarray(D, float))
        return self.axis.restore(self.curve(n.ndim).value(n, d))

    def reach(self, value: float) -> Floats:
        """Return the least budget at which each replicate's optimum is as good as `value`, `[replicates]`, or inf."""
        return self.curve().reach(self.axis.orient(value))


def resampling_weights(
    table: RunTable, by: str, replicates: int, seed: int, tolerance: float = 0.15
) -> tuple[Floats, int]:
    """Return how much each row counts in each replicate, `[replicates, rows]`, and how many units were weighted.

    Units have exponential weights, not counts of a draw with replacement: their mean and variance are the same, but no
    replicate loses a unit. Counts leave a third of the rows out, which makes intervals of few runs a tenth too wide.

    Source: Rubin, "The Bayesian bootstrap" (1981); Chatterjee & Bose, "Generalized bootstrap for estimating equations"
    (2005).

    Raises:
        UsageError: There are fewer than three units.
        UnknownNameError: No such way of resampling.
    """
    if replicates < 2:
        raise UsageError(f"a bootstrap needs at least 2 replicates, not {replicates}")
    label = _units(table, by, tolerance)
    units = int(label.max()) + 1
    if units < 3:
        raise UsageError(f"{table.source}: {units} {by}(s) are too few to resample; bootstrap by row instead")
    # only weights change, so that all replicates share one table and one batch
    draws = np.random.default_rng(seed).standard_exponential((replicates, units))
    return (draws / draws.mean(axis=1, keepdims=True))[:, label] * table.weight, units


def _units(table: RunTable, by: str, tolerance: float) -> npt.NDArray[np.intp]:
    """Return the unit of each row, `[rows]`: what is drawn together."""
    if by == "row":
        return np.arange(len(table))
    if by == "isoflop":
        return find_budgets(table, tolerance).label
    try:
        labels = table.run if by == "run" else table.labels_of(by)
    except UnknownNameError as error:
        raise UnknownNameError("way of resampling", by, ["row", "run", "isoflop", *table.labels]) from error
    return np.unique(labels, return_inverse=True)[1]


def bootstrap(
    fit: LawFit, by: str = "row", replicates: int = 1000, seed: int = 0, tolerance: float = 0.15
) -> Bootstrap:
    """Fit tables whose rows are weighted at random, each to its own polished optimum, from the fit's own.

    A replicate whose search ends without an optimum is searched again through the homotopy.

    Args:
        fit: The fit.
        by: What is weighted: each "row", "run" (rows of one run alike), "isoflop" (whole budgets), or a column of the
            table, whose equal values are weighted alike.
        replicates: How many.
        seed: The same seed gives the same replicates.
        tolerance: Width of an isoFLOP in ln C, where the table declares none.

    Raises:
        UsageError: There are fewer than three units to draw from.
        UnknownNameError: No such way of resampling.
    """
    weights, units = resampling_weights(fit.table, by, replicates, seed, tolerance)
    theta, objective, converged = searched_again(fit, weights)
    # whole runs or budgets may be fewer than the parameters: they lose one degree, as clusters do
    free = max(1, units - (len(fit.theta) if by == "row" else 1))
    drawn = (fit.problem.natural(theta), objective, converged, by, units, free, seed)
    return Bootstrap(*drawn, fit.form, fit.law.axis, fit.law.cost)


def searched_again(fit: LawFit, weights: Floats) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    """Return theta `[S, P]`, objective and whether it is an optimum `[S]`, for weights of the rows `[S, rows]`."""
    # LAD may stop at a vertex next to its start, so it comes from a smooth cost at once
    least = fit.cost.name == "lad"
    solution = solve_again(fit, weights, homotopy=least)
    theta, objective, converged = solution.theta.copy(), solution.objective.copy(), solution.converged.copy()
    failed = np.flatnonzero(~converged)
    if len(failed):
        start = np.repeat(fit.theta[None], len(failed), axis=0)
        second = solve_again(fit, weights[failed], start, homotopy=not least)
        # a second search may end higher: only a lower objective replaces the first
        better = second.objective < objective[failed]
        theta[failed[better]], objective[failed[better]] = second.theta[better], second.objective[better]
        converged[failed[better]] = second.converged[better]
    return theta, objective, converged
