"""The figure of a ladder: the loss against compute for each size, and beside it the metric against the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cdslm_eval.scaling.output.figures.parts import Budgets, canvas, in_words, label, legend, logarithmic, paper_style
from cdslm_eval.scaling.output.figures.quality import metric_panel

if TYPE_CHECKING:
    from cdslm_eval.scaling.study import Study

__all__ = ["loss_and_metric"]


_MOST_LINES = 8
"""Sizes that a legend names; of more, a colour bar has the scale."""


def loss_and_metric(study: Study) -> Figure | None:
    """Draw the loss against C, a line for each N, and the metric against the loss, in the colours of the sizes.

    Args:
        study: Of a metric through a loss.
    """
    down = study.downstream
    if down is None:
        return None
    loss, sizes = study.table.metric(down.loss), Budgets(study.table.N)
    with paper_style():
        figure, (left, right) = canvas(2, width=3.6, height=3.0)
        _against_compute(left, study, loss, sizes)
        left.set_ylabel(label(down.loss))
        metric_panel(right, study)
        for N, x, y, low, high in zip(study.table.N, loss, study.values, *_interval(study), strict=True):
            right.plot([x, x], [low, high], color=sizes.of(N), lw=0.8, zorder=2)
            right.plot(x, y, "o", color=sizes.of(N), ms=4.0, mew=0, zorder=3)
        if len(np.unique(study.table.N)) > _MOST_LINES:
            sizes.bar(figure, [left, right], "N, parameters")
        else:
            legend(left)
    return figure


def _against_compute(axes: Axes, study: Study, loss: np.ndarray, sizes: Budgets) -> None:
    for N in np.unique(study.table.N):
        rows = np.flatnonzero((study.table.N == N) & np.isfinite(loss))
        rows = rows[np.argsort(study.table.C[rows], kind="stable")]
        name = f"{in_words(N)} parameters"
        axes.plot(study.table.C[rows], loss[rows], "o-", color=sizes.of(N), ms=4.0, mew=0, lw=0.9, label=name)
    logarithmic(axes, y=bool(np.nanmin(loss) > 0), name="C [FLOP]")


def _interval(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns METRIC_low and METRIC_high, or the value itself where the table has none."""
    ends = [f"{study.metric}_{end}" for end in ("low", "high")]
    if not set(ends) <= set(study.table.metrics):
        return study.values, study.values
    low, high = (study.table.metric(name) for name in ends)
    return low, high
