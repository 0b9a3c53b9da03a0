"""Figures of a study that could stand in a paper; matplotlib is imported by what draws, never by what fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from cdslm_eval.scaling.figures import budgets, quality

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cdslm_eval.scaling.study import Study

__all__ = ["FIGURES", "draw"]

FIGURES: dict[str, tuple[Callable[[Study], Figure | None], str]] = {
    "isoflop": (
        budgets.isoflop_curves,
        "The metric against parameters N, one colour per budget C: rows, the law under each budget, and the optimum of each "
        "budget's own parabola (star) beside the law's optima (dots).",
    ),
    "optima": (
        budgets.optima,
        "Compute-optimal parameters N*, tokens D* and their ratio r* against compute: the law with its interval, and each "
        "budget by itself.",
    ),
    "curvature": (
        budgets.curvature,
        "Curvature of the isoFLOP at its optimum, in the metric's units per squared e-fold of N. A law with exponents above "
        "0 makes it fall with compute by construction; the budgets' own parabolas do not know the law.",
    ),
    "near-optimal": (
        budgets.near_optimal,
        "Models that stay within a share of the optimum's value, as multiples of N* and D*: the loss of a wrong size.",
    ),
    "residuals": (
        quality.residuals,
        "What the law leaves over, against N, D and C. A running median away from 0 says that the form is wrong there.",
    ),
    "predicted": (quality.predicted_against_actual, "Predicted against measured values; held-out rows are hollow."),
    "rollout": (
        quality.rollout,
        "Each budget predicted from the smaller ones alone: median error and the middle 90 % of rows.",
    ),
    "metric-loss": (quality.metric_against_loss, "The metric against the loss, with the value of real data."),
    "bootstrap": (
        quality.bootstrap_pairs,
        "Parameters over the bootstrap's replicates, the estimate as a cross: a narrow ridge is a combination that the data "
        "do not fix one by one.",
    ),
}


def draw(study: Study) -> Iterator[tuple[str, Figure, str]]:
    """Yield (name, figure, caption) of every figure that a study has the parts for."""
    for name, (make, caption) in FIGURES.items():
        figure = make(study)
        if figure is not None:
            yield name, figure, caption
