"""Three ways from N and D to a downstream metric: a law of its own, in two stages through the loss, and fused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling.fit import LawFit, fit_law
from cdslm_eval.scaling.links import Axis
from cdslm_eval.scaling.metric_map import fit_fused, fit_map
from cdslm_eval.scaling.staged import Staged
from cdslm_eval.scaling.table import RunTable

__all__ = ["WAYS", "Ask", "Ways", "fit_ways"]

WAYS = ("direct", "two_stage", "fused")


@dataclass(frozen=True, slots=True)
class Ask:
    """What `compare_downstream` was asked for; arguments as there."""

    metric: str
    loss: str
    form: str
    estimator: str
    delta: float
    link: str
    better: str
    bounds: tuple[float, float] | None
    axis: Axis


@dataclass(frozen=True, eq=False)
class Ways:
    """The three, fitted to one set of rows.

    Attributes:
        direct: The metric's own law; None where `reasons` says why.
        loss_fit: The law of the loss.
        two_stage, fused: Through the loss.
        reasons: Way -> why it is missing.
    """

    direct: LawFit | None
    loss_fit: LawFit
    two_stage: Staged
    fused: Staged
    reasons: Mapping[str, str] = field(default_factory=dict)


def fit_ways(rows: RunTable, ask: Ask, *, keep_loss: bool) -> Ways:
    """Fit the three.

    Args:
        rows: Rows with both metric and loss.
        ask: What to fit.
        keep_loss: Whether the fused objective keeps the loss residuals.

    Raises:
        UsageError: The rows are too few for the law of the loss.
    """
    loss_fit = fit_law(rows, ask.loss, ask.form, ask.estimator, ask.delta)
    values = rows.metric(ask.metric)
    mapped = fit_map(rows.metric(ask.loss), values, rows.weight, ask.axis)
    two_stage = Staged("two_stage", loss_fit.law, mapped, loss_fit.objective, 0, loss_fit, loss_fit.flags)
    fused = fit_fused(loss_fit, values, mapped, keep_loss=keep_loss)
    try:
        return Ways(_direct(rows, ask), loss_fit, two_stage, fused)
    except UsageError as error:
        return Ways(None, loss_fit, two_stage, fused, {"direct": str(error)})


def _direct(rows: RunTable, ask: Ask) -> LawFit:
    first = fit_law(
        rows, ask.metric, ask.form, "least_squares", link=ask.link, better=ask.better, bounds=ask.bounds, seeds=8
    )
    spread = 1.4826 * float(np.median(np.abs(first.residuals)))
    if not spread > 0:
        return first
    return fit_law(rows, ask.metric, ask.form, "huber", 1.345 * spread, ask.link, ask.bounds, ask.better, seeds=8)
