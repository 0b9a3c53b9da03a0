"""Figures of a study that could stand in a paper; matplotlib is imported by what draws, never by what fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from cdslm_eval.scaling.output.figures import budgets, paper, quality, through

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cdslm_eval.scaling.study import Study

__all__ = ["FIGURES", "draw"]

ISOFLOP = (
    "The metric against parameters N, one colour per budget C: rows, the law under each budget, the optimum of each "
    "budget's own curve (star), and the optima of the law (dots)."
)
PAPER = (
    "Left: the metric against N, one colour per budget, held-out budgets with the law's prediction (dashes). Right: "
    "the curvature κ at the optimum and the ranges of N and D within 1 % of it against compute, of the law and of each "
    "budget by itself; arrows: intervals that leave the frame."
)
OPTIMA = (
    "Compute-optimal parameters N*, tokens D* and their ratio r* against compute: the law with its interval, and each "
    "budget by itself. Whiskers of budgets with few rows leave the frame."
)
CURVATURE = (
    "Curvature of the isoFLOP at its optimum, in the metric's units per (ln N)². A law with exponents above "
    "0 makes it fall with compute by construction; the budgets' own curves do not know the law."
)
NEAR_OPTIMAL = (
    "Models that stay within a share of the optimum's value, as multiples of N* and D*: what a wrong size costs. "
    "Bands: intervals of the ends."
)
RESIDUALS = (
    "What the law leaves over, against N, D and C; triangles: rows beyond the frame. A running median away from 0 "
    "means that the form is wrong there."
)
PREDICTED = "Predicted against measured values; held-out rows are hollow."
ROLLOUT = (
    "Each budget predicted by a law fitted to the smaller ones alone: median error and the middle 90 % of its rows."
)
METRIC_LOSS = "The metric against the loss, fitted as a function of the loss and jointly with it; dashes: real data."
LADDER = (
    "The loss against compute, a line for each size, and the metric against the loss, with intervals where the table "
    "has them. One curve for all sizes on the right: the loss is what the metric follows."
)
BOOTSTRAP = (
    "Parameters over the bootstrap's replicates, the estimate as a cross: a narrow ridge is a combination the data "
    "fix better than each of the two."
)

FIGURES: dict[str, tuple[Callable[[Study], Figure | None], str]] = {
    "isoflop": (budgets.isoflop_curves, ISOFLOP),
    "optima": (budgets.optima, OPTIMA),
    "curvature": (budgets.curvature, CURVATURE),
    "near-optimal": (budgets.near_optimal, NEAR_OPTIMAL),
    "paper": (paper.both_panels, PAPER),
    "residuals": (quality.residuals, RESIDUALS),
    "predicted": (quality.predicted_against_actual, PREDICTED),
    "rollout": (quality.rollout, ROLLOUT),
    "metric-loss": (quality.metric_against_loss, METRIC_LOSS),
    "ladder": (through.loss_and_metric, LADDER),
    "bootstrap": (quality.bootstrap_pairs, BOOTSTRAP),
}

_OPTIMUM = "a law that has an optimum, or budgets that have one of their own"
_THROUGH = "a metric that is fitted through a loss, as `fit downstream` does"
NEEDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "isoflop": ("budgets", ("isoflops",)),
    "optima": (_OPTIMUM, ("law", "isoflops", "frontier")),
    "curvature": (_OPTIMUM, ("law", "isoflops", "frontier")),
    "near-optimal": ("a law that has an optimum", ("law", "frontier")),
    "paper": ("two budgets whose best size lies between others", ("isoflops",)),
    "residuals": ("a law", ("law",)),
    "predicted": ("a law", ("law",)),
    "rollout": ("a law, and enough budgets to predict some from smaller ones", ("law", "rollout")),
    "metric-loss": (_THROUGH, ("downstream",)),
    "ladder": (_THROUGH, ("downstream",)),
    "bootstrap": ("a law with resampled parameters", ("law", "bootstrap")),
}
"""Figure -> what a study must have for it, and the parts whose absence may be the reason."""


def draw(study: Study) -> Iterator[tuple[str, Figure, str]]:
    """Yield (name, figure, caption) of every figure that a study has the parts for."""
    for name, (make, caption) in FIGURES.items():
        figure = make(study)
        if figure is not None:
            yield name, figure, caption
