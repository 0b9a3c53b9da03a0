"""Validation: how well a law predicts rows that it was not fitted to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling.fit import LawFit, refit
from cdslm_eval.scaling.flags import Flag
from cdslm_eval.scaling.prediction import predict
from cdslm_eval.scaling.rows import find_budgets
from cdslm_eval.scaling.table import RunTable

__all__ = ["Holdout", "hold_out", "one_sided", "roll_out", "undercovered", "widening"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Holdout:
    """Held-out rows, predicted.

    Attributes:
        rows: The rows that were predicted.
        actual, predicted: The metric, `[rows]`.
        errors: Actual minus predicted on the residual scale (relative errors under the log link), `[rows]`.
        covered: Which rows lie in their 95 % prediction interval, `[rows]`.
        scaled: Errors in units of the half-width of that interval on their side, `[rows]`; within 1 where covered.
        n_fitted: How many rows were fitted.
        extrapolation_ratio: Largest predicted C over largest fitted C.
        how: What was held out, in words.
        parameters: Of the law that predicted.
    """

    rows: RunTable
    actual: Floats
    predicted: Floats
    errors: Floats
    covered: npt.NDArray[np.bool_]
    scaled: Floats
    n_fitted: int
    extrapolation_ratio: float
    how: str
    parameters: dict[str, float]

    @property
    def rmse(self) -> float:
        """Root mean square error on the residual scale."""
        return float(np.sqrt(np.mean(self.errors**2)))

    @property
    def bias(self) -> float:
        """Mean error on the residual scale; above 0, the metric is higher than predicted."""
        return float(np.mean(self.errors))

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        return (
            f"{self.how}: {len(self.actual)} rows predicted from {self.n_fitted}, up to {self.extrapolation_ratio:.3g} "
            f"times their largest budget, with a root mean square error of {self.rmse:.3g} (bias {self.bias:+.3g}); "
            f"{np.mean(self.covered):.0%} lie in their 95 % intervals"
        )


def one_sided(held: Holdout) -> Iterator[Flag]:
    """Flag held-out rows that lie to one side of the law beyond chance (sign test, 0.001)."""
    # signs alone, which need no size of the noise
    above = int(np.sum(held.errors > 0))
    if binomtest(above, len(held.errors)).pvalue < 0.001:
        side, count = ("above", above) if 2 * above > len(held.errors) else ("below", len(held.errors) - above)
        middle = float(np.median(held.errors))
        sentence = (
            f"{count} of {len(held.errors)} held-out rows lie {side} their prediction (median error {middle:+.2g})"
        )
        yield Flag("held_out_bias", sentence, middle)


def undercovered(held: Holdout) -> Iterator[Flag]:
    """Flag prediction intervals that hold fewer held-out rows than chance allows (binomial test, 0.001).

    Rows share the error of the law, so that this is no proof against it: the flag is a note.
    """
    inside, count = int(np.sum(held.covered)), len(held.covered)
    if count and binomtest(inside, count, 0.95, alternative="less").pvalue < 0.001:
        sentence = (
            f"{inside} of {count} held-out rows ({inside / count:.0%}) lie in their 95 % intervals, so those "
            "beyond the data are too narrow"
        )
        yield Flag("held_out_coverage", sentence, inside / count, doubt=False)


def widening(steps: Sequence[Holdout], level: float = 0.95) -> float:
    """Return by how much intervals beyond the data must be widened to hold what a rollout held out; at least 1.

    Args:
        steps: Of `roll_out`.
        level: Of the intervals.

    Source: Lei et al., "Distribution-free predictive inference for regression" (2018) (split conformal intervals).
    """
    scaled = np.abs(np.concatenate([step.scaled for step in steps])) if steps else np.empty(0)
    scaled = scaled[np.isfinite(scaled)]
    # the quantile of fewer rows is their largest error, or beyond it
    if len(scaled) < 1 / (1 - level):
        return 1.0
    return max(1.0, float(np.quantile(scaled, level, method="higher")))


def _predicted(fit: LawFit, rows: RunTable, how: str) -> Holdout:
    actual = rows.metric(fit.metric)
    prediction = predict(fit, rows.N, rows.D, columns={name: rows.metric(name) for name in fit.law.extra_columns})
    axis = fit.law.axis
    low, high = prediction.prediction
    # on the scale of the fit, to be compared with its residuals
    middle = axis.target(prediction.value)
    errors = axis.target(actual) - middle
    # the axis may turn the ends round
    near, far = np.sort([axis.target(low), axis.target(high)], axis=0)
    half = np.where(errors > 0, far - middle, middle - near)
    return Holdout(
        rows,
        actual,
        prediction.value,
        errors,
        (actual >= low) & (actual <= high),
        errors / np.maximum(half, 1e-300),
        fit.n_rows,
        float(rows.C.max() / fit.table.C.max()),
        how,
        fit.parameters,
    )


def hold_out(fit: LawFit, share: float = 0.2) -> Holdout:
    """Predict rows that are not fitted: those of split "test", or where there are none the largest budgets.

    Args:
        fit: The fit.
        share: Share of rows that is held out where the table marks none; they are not fitted then.

    Raises:
        UsageError: `share` is not between 0 and 1, or too little is left to fit.
    """
    if len(fit.test):
        return _predicted(fit, fit.test, "rows of split 'test'")
    if not 0 < share < 1:
        raise UsageError(f"the share that is held out must lie between 0 and 1, not at {share}")
    edge = np.quantile(fit.table.C, 1 - share)
    # strictly above the quantile, so that rows of one C are never divided
    large = edge < fit.table.C
    if not large.any():
        raise UsageError(f"{fit.table.source}: all rows have one budget, so none can be held out as the largest")
    rest = refit(fit, fit.table.select(~large))
    return _predicted(rest, fit.table.select(large), f"the {share:.0%} of rows with the largest budgets held out")


def roll_out(fit: LawFit, least: int = 3, tolerance: float = 0.15) -> tuple[Holdout, ...]:
    """Fit on the smallest budgets, predict the next, add it, and repeat.

    Args:
        fit: The fit.
        least: How many budgets the first fit has.
        tolerance: Width of a budget in ln C, where the table declares none.

    Raises:
        UsageError: There are not more than `least` budgets.
    """
    budgets = find_budgets(fit.table, tolerance)
    count = len(budgets.C)
    if not 2 <= least < count:
        raise UsageError(
            f"{fit.table.source}: a rollout from {least} budgets (at least 2) needs more than that; there are {count}"
        )
    steps = []
    for number in range(least, count):
        below = fit.table.select(budgets.label < number)
        if len(below) <= len(fit.theta):
            continue
        next_rows = fit.table.select(budgets.label == number)
        steps.append(_predicted(refit(fit, below), next_rows, f"C = {budgets.C[number]:.3g} from the budgets below"))
    return tuple(steps)
