"""One isoFLOP: the optimum of its curve, with intervals."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cdslm_eval.scaling.axis import Axis
from cdslm_eval.scaling.isocurve import IsoCurve
from cdslm_eval.scaling.isoshapes import BudgetCurves
from cdslm_eval.scaling.table import RunTable

__all__ = ["BudgetOptions", "IsoFlop", "fit_budget"]

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]
_UNKNOWN = (np.nan, np.nan)


@dataclass(frozen=True, eq=False)
class IsoFlop:
    """One budget.

    Attributes:
        C: Its FLOPs (geometric mean of its rows).
        rows: Its rows in the table that was fitted.
        C_spread: Largest |ln(C of a row / C)|.
        parabola, cubic: The curves in ln N, in the oriented metric; None where there are too few rows.
        chosen: The curve from which the numbers below come; None where there is none.
        N, D, ratio: The optimum; NaN with a `reason`.
        loss: The metric there, in its own units.
        kappa: Curvature of the chosen curve in ln N at its minimum.
        N_interval, D_interval, ratio_interval, loss_interval, kappa_interval: 95 % intervals.
        log_std: Standard deviation of ln N*.
        reason: Why there is no optimum, or "".
    """

    C: float
    rows: npt.NDArray[np.intp]
    C_spread: float
    parabola: IsoCurve | None
    cubic: IsoCurve | None
    chosen: IsoCurve | None
    N: float = np.nan
    D: float = np.nan
    ratio: float = np.nan
    loss: float = np.nan
    kappa: float = np.nan
    N_interval: Interval = _UNKNOWN
    D_interval: Interval = _UNKNOWN
    ratio_interval: Interval = _UNKNOWN
    loss_interval: Interval = _UNKNOWN
    kappa_interval: Interval = _UNKNOWN
    log_std: float = np.nan
    reason: str = ""

    @property
    def kappa_log_std(self) -> float:
        """Standard deviation of ln kappa, from its interval; NaN where that is unknown or holds 0."""
        low, high = self.kappa_interval
        # the interval is taken as a normal one of ln kappa, in which the power law is fitted
        return float(np.log(high / low) / (2 * 1.96)) if low > 0 else np.nan

    @property
    def has_optimum(self) -> bool:
        """Whether the curve has a minimum within the sampled sizes."""
        return not self.reason


@dataclass(frozen=True)
class BudgetOptions:
    """How intervals of a budget are drawn.

    Attributes:
        replicates, seed: Of the draws.
        axis: Of the metric.
        exact: Whether C = k N D (or the table's own cost) holds, so that D follows from N.
    """

    replicates: int
    seed: int
    axis: Axis
    exact: bool = field(default=True)


def fit_budget(
    table: RunTable,
    rows: npt.NDArray[np.intp],
    C: float,
    curves: BudgetCurves,
    noise: tuple[float, int],
    options: BudgetOptions,
) -> IsoFlop:
    """Return the optimum of one budget's curve.

    Args:
        table: The runs.
        rows: Of this budget.
        C: Its FLOPs.
        curves: Its curves.
        noise: Residual variance of its rows as all budgets have it, and the degrees of freedom of that.
        options: How intervals are drawn.
    """
    spread = float(np.max(np.abs(np.log(table.C[rows] / C))))
    chosen, polynomials = curves.chosen, (curves.parabola, curves.cubic)
    if chosen is None:
        sizes = len(np.unique(table.N[rows]))
        return IsoFlop(C, rows, spread, *polynomials, None, reason=f"{sizes} sizes are too few for a curve")
    if not np.isfinite(chosen.minimum):
        return IsoFlop(C, rows, spread, *polynomials, chosen, reason="the curve has no minimum")
    if not chosen.inside:
        # an extrapolated minimum is no measurement, so N* stays unknown
        where = "below" if chosen.minimum < chosen.low else "above"
        reason = f"the curve's minimum lies {where} the sampled sizes"
        return IsoFlop(C, rows, spread, *polynomials, chosen, kappa=chosen.kappa, reason=reason)
    # seeded by the budget itself, so that leaving another out does not redraw it
    draws = chosen.draws(
        noise, options.replicates, np.random.default_rng([options.seed, len(rows), int(np.log(C) * 1e6)])
    )
    log_d = _log_tokens(table, rows, C, options)
    log_n = draws.minimum
    # the axis turns the order round where higher is better
    loss = np.sort(options.axis.restore(np.quantile(draws.value, [0.025, 0.975]))) if len(log_n) else np.full(2, np.nan)
    here = chosen.minimum
    return IsoFlop(
        C,
        rows,
        spread,
        *polynomials,
        chosen,
        float(np.exp(here)),
        float(np.exp(log_d(here))),
        float(np.exp(log_d(here) - here)),
        float(options.axis.restore(chosen.least)),
        chosen.kappa,
        _interval(np.exp(log_n)),
        _interval(np.exp(log_d(log_n))),
        _interval(np.exp(log_d(log_n) - log_n)),
        (float(loss[0]), float(loss[1])),
        _interval(draws.kappa),
        # a plain standard deviation would follow the few draws whose curve is almost flat
        float(np.diff(np.quantile(log_n, [0.16, 0.84]))[0] / 2) if len(log_n) else np.nan,
    )


class _log_tokens:  # noqa: N801 - a function with a memory
    """ln D of a model of a budget as a function of ln N: by the cost where that holds, else as the rows have it."""

    def __init__(self, table: RunTable, rows: npt.NDArray[np.intp], C: float, options: BudgetOptions) -> None:
        if options.exact or len(rows) < 3:
            cost = table.cost
            self.slope, self.level = -cost.p / cost.q, float(cost.log_tokens(np.log(C), np.array(0.0)))
        else:
            x = np.log(table.N[rows])
            centre = float(x.mean())
            design = np.column_stack([np.ones(len(x)), x - centre])
            level, slope = np.linalg.lstsq(design, np.log(table.D[rows]), rcond=None)[0]
            self.slope, self.level = float(slope), float(level - slope * centre)

    def __call__(self, log_n: npt.ArrayLike) -> Floats:
        """Return ln D."""
        return np.asarray(self.level + self.slope * np.asarray(log_n))


def _interval(draws: Floats) -> Interval:
    if not len(draws):
        return _UNKNOWN
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)
