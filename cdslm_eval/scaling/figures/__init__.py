"""Figures of a study that could stand in a paper; matplotlib is imported by what draws, never by what fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from cdslm_eval.scaling.figures import budgets, captions, quality

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cdslm_eval.scaling.study import Study

__all__ = ["FIGURES", "draw"]

FIGURES: dict[str, tuple[Callable[[Study], Figure | None], str]] = {
    "isoflop": (budgets.isoflop_curves, captions.ISOFLOP),
    "optima": (budgets.optima, captions.OPTIMA),
    "curvature": (budgets.curvature, captions.CURVATURE),
    "near-optimal": (budgets.near_optimal, captions.NEAR_OPTIMAL),
    "residuals": (quality.residuals, captions.RESIDUALS),
    "predicted": (quality.predicted_against_actual, captions.PREDICTED),
    "rollout": (quality.rollout, captions.ROLLOUT),
    "metric-loss": (quality.metric_against_loss, captions.METRIC_LOSS),
    "bootstrap": (quality.bootstrap_pairs, captions.BOOTSTRAP),
}


def draw(study: Study) -> Iterator[tuple[str, Figure, str]]:
    """Yield (name, figure, caption) of every figure that a study has the parts for."""
    for name, (make, caption) in FIGURES.items():
        figure = make(study)
        if figure is not None:
            yield name, figure, caption
