"""A fitted law along compute: optima, curvature, near-optimal range, predictions, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling.bootstrap import Bootstrap, bootstrap
from cdslm_eval.scaling.fit import LawFit, first_line, fit_law
from cdslm_eval.scaling.flags import Flag, extrapolation_flags
from cdslm_eval.scaling.law import LawSpec
from cdslm_eval.scaling.prediction import predict
from cdslm_eval.scaling.serving import Served, serve
from cdslm_eval.scaling.table import RunTable
from cdslm_eval.scaling.validation import roll_out, widening

__all__ = [
    "EPSILONS",
    "KEYS",
    "Band",
    "Frontier",
    "NearRange",
    "Predicted",
    "Predictions",
    "Resampling",
    "frontier",
    "near_ranges",
    "predictions",
    "round_budgets",
]

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]
_UNKNOWN = (math.nan, math.nan)
KEYS = ("N", "D", "ratio", "loss", "kappa")
EPSILONS = ((0.001, True), (0.01, True), (0.05, True), (0.01, False))


@dataclass(frozen=True, slots=True)
class Band:
    """A quantity at budgets, with its interval (NaN where it has none); every field `[budgets]`."""

    C: Floats
    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True)
class Frontier:
    """N*, D*, r* = D*/N*, the metric and the curvature at the optimum, along C."""

    N: Band
    D: Band
    ratio: Band
    loss: Band
    kappa: Band


@dataclass(frozen=True, slots=True)
class NearRange:
    """The models within epsilon of the optimum, along C.

    Attributes:
        epsilon: How far from the optimum.
        relative: Whether epsilon is a fraction of the optimum's value, or is in the metric's units.
        N_low, N_high, D_low, D_high, width: The ends, and ln(N_high / N_low).
    """

    epsilon: float
    relative: bool
    N_low: Band
    N_high: Band
    D_low: Band
    D_high: Band
    width: Band

    @property
    def name(self) -> str:
        """How far, in words."""
        return f"{100 * self.epsilon:g} % of L*" if self.relative else f"{self.epsilon:g}"


def frontier(fit: LawFit, draws: Bootstrap | None, C: Floats, level: float) -> Frontier:
    """Return the law's optima at budgets, with percentile intervals where there is a bootstrap.

    Args:
        fit: Of a form with an optimum.
        draws: Its replicates.
        C: Budgets in FLOPs.
        level: Of the intervals.
    """
    # a law that the data do not determine may put its optimum beyond all numbers; it is then unknown
    with np.errstate(all="ignore"):
        best = fit.law.optimum(C)
        ends = None if draws is None else draws.optimum(C, level)
    return Frontier(**{key: _band(C, getattr(best, key), getattr(ends, key, None)) for key in KEYS})


def near_ranges(
    fit: LawFit, draws: Bootstrap | None, C: Floats, level: float, epsilons: Sequence[tuple[float, bool]] = EPSILONS
) -> tuple[NearRange, ...]:
    """Return the near-optimal ranges; arguments as in `frontier`, and (epsilon, whether relative to the optimum)."""
    ranges = []
    for epsilon, relative in epsilons:
        with np.errstate(all="ignore"):
            best = fit.law.near_optimal(C, epsilon, relative=relative)
            ends = {} if draws is None else draws.near_optimal(C, epsilon, level, relative=relative)
            names = ("N_low", "N_high", "D_low", "D_high", "width")
            parts = {name: _band(C, getattr(best, name), ends.get(name)) for name in names}
        ranges.append(NearRange(epsilon, relative, **parts))
    return tuple(ranges)


def _band(C: Floats, value: Floats, ends: tuple[Floats, Floats] | None) -> Band:
    unknown = np.full(np.shape(C), np.nan)
    low, high = ends or (unknown, unknown)
    return Band(C, np.asarray(value), np.asarray(low), np.asarray(high))


def round_budgets(C: Floats, more: Sequence[float] = ()) -> Floats:
    """Return the decades within the range of C (with threes between, where there are under four), and `more`.

    Example:
        >>> round_budgets(np.array([2e18, 5e20])).tolist()
        [3e+18, 1e+19, 3e+19, 1e+20, 3e+20]
    """
    low, high = math.floor(math.log10(C.min())), math.ceil(math.log10(C.max()))

    def within(digits: tuple[int, ...]) -> list[float]:
        # read from text: a power computed in floating point need not be the round number
        steps = [float(f"{digit}e{power}") for power in range(low, high + 1) for digit in digits]
        # a round end of the range must not be lost to rounding
        return [step for step in steps if C.min() * 0.999 <= step <= C.max() * 1.001]

    budgets = within((1,))
    if len(budgets) < 4:
        # a range between two round budgets still needs one
        budgets = within((1, 3)) or [float(f"{np.exp(np.log(C).mean()):.2g}")]
    return np.array(sorted({*budgets, *more}))


@dataclass(frozen=True, slots=True)
class Predicted:
    """One model, predicted.

    Attributes:
        C, N, D, ratio: The model.
        loss: The metric's predicted value.
        kappa: Curvature of the isoFLOP there; NaN where the model is not an optimum.
        intervals: Of N, D, ratio, loss and kappa, as far as they are estimated; of `loss` the law's own.
        prediction: Interval of one further run: the law's uncertainty, and the spread of runs around it.
    """

    C: float
    N: float
    D: float
    ratio: float
    loss: float
    kappa: float
    intervals: dict[str, Interval]
    prediction: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampling:
    """How intervals are made.

    Attributes:
        level: Of every interval.
        replicates: Of the bootstrap; 0 leaves the intervals out.
        by: What is resampled: "row", "run", "isoflop" or a column.
        seed: Of the bootstrap.
    """

    level: float = 0.95
    replicates: int = 1000
    by: str = "row"
    seed: int = 0

    def draws(self, fit: LawFit) -> Bootstrap | None:
        """Return a fit's replicates, or None without any."""
        return bootstrap(fit, self.by, self.replicates, self.seed) if self.replicates else None


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions of models that nobody trained.

    Attributes:
        fit: The law.
        resampling: How the intervals were made.
        optima: One per budget.
        models: One per (N, D).
        flags: The law's, and those of extrapolation.
        wider: Factor by which intervals of a further run beyond the largest fitted budget are widened: what a rollout
            missed; 1 where it missed nothing.
        served: One per budget, where tokens to serve were named.
    """

    fit: LawFit
    resampling: Resampling
    optima: tuple[Predicted, ...]
    models: tuple[Predicted, ...]
    flags: tuple[Flag, ...]
    wider: float = 1.0
    served: tuple[Served, ...] = ()

    @property
    def headline(self) -> str:
        """The first line: the law, or why its answers cannot be trusted."""
        return first_line(self.fit, self.flags, budget=bool(self.optima or self.served))


def predictions(
    table: RunTable,
    metric: str,
    spec: LawSpec,
    resampling: Resampling,
    *,
    budgets: Sequence[float] = (),
    models: Sequence[tuple[float, float]] = (),
    columns: Mapping[str, float] | None = None,
    serving: float | None = None,
) -> Predictions:
    """Fit a law and predict with it.

    Args:
        table: The runs.
        metric: Name of the metric.
        spec: The law.
        resampling: How intervals are made.
        budgets: C of each budget whose optimum is predicted.
        models: (N, D) of further models.
        columns: Values of further columns that the law reads, for all these models.
        serving: Tokens that the model of each budget's quality will serve; None leaves that out.

    Raises:
        UsageError: The law cannot be fitted, or has no optimum and budgets are named.
    """
    fit = fit_law(table, metric, spec)
    draws = resampling.draws(fit)
    reached = np.array([*budgets, *(float(fit.law.cost.flops(N, D)) for N, D in models)])
    wider = _widening(fit, resampling.level) if np.any(reached > fit.table.C.max()) else 1.0
    optima = _optima(fit, draws, np.array(budgets), resampling.level, wider) if budgets else ()
    others = tuple(_model(fit, draws, N, D, resampling.level, columns or {}, wider) for N, D in models)
    flags = (*fit.flags, *extrapolation_flags(fit.table, fit.law, reached)) if len(reached) else fit.flags
    if wider > 1:
        sentence = f"intervals of a further run beyond the data are {wider:.2g} times wider, by what a rollout missed"
        flags = (*flags, Flag("widened", sentence, wider, doubt=False))
    level = resampling.level
    served = () if serving is None else tuple(serve(fit, draws, float(C), serving, level) for C in budgets)
    return Predictions(fit, resampling, optima, others, flags, wider, served)


def _widening(fit: LawFit, level: float) -> float:
    """Return the factor of a rollout; 1 where the budgets are too few for one."""
    try:
        return widening(roll_out(fit), level)
    except UsageError:
        return 1.0


def _optima(fit: LawFit, draws: Bootstrap | None, C: Floats, level: float, wider: float) -> tuple[Predicted, ...]:
    along = frontier(fit, draws, C, level)
    # at the fitted optimum: a replicate's own optimum is another model
    factor = np.where(fit.table.C.max() < C, wider, 1.0)
    predicted = predict(fit, along.N.value, along.D.value, level, draws, wider=factor)
    rows = []
    for index, budget in enumerate(C):
        bands = {key: getattr(along, key) for key in KEYS}
        intervals = {key: (float(band.low[index]), float(band.high[index])) for key, band in bands.items()}
        values = {key: float(band.value[index]) for key, band in bands.items()}
        further = (float(predicted.prediction[0][index]), float(predicted.prediction[1][index]))
        rows.append(Predicted(C=float(budget), **values, intervals=intervals, prediction=further))
    return tuple(rows)


def _model(
    fit: LawFit, draws: Bootstrap | None, N: float, D: float, level: float, columns: Mapping[str, float], wider: float
) -> Predicted:
    factor = wider if float(fit.law.cost.flops(N, D)) > fit.table.C.max() else 1.0
    done = predict(fit, N, D, level, draws, columns, factor)
    (low, high), (least, most) = done.confidence, done.prediction
    intervals = {"loss": (float(low), float(high)) if draws is not None else _UNKNOWN}
    return Predicted(
        float(fit.law.cost.flops(N, D)),
        N,
        D,
        D / N,
        float(done.value),
        math.nan,
        intervals,
        (float(least), float(most)),
    )
