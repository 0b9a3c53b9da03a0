"""Figures of a fit's quality: residuals, predicted against actual, metric against loss, bootstrap pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cdslm_eval.core.drawing import BLUE, GREEN, GREY, INK, ORANGE, PURPLE
from cdslm_eval.scaling.output.figures.parts import canvas, floor_line, label, legend, logarithmic, paper_style

if TYPE_CHECKING:
    from cdslm_eval.scaling.study import Study

__all__ = ["bootstrap_pairs", "metric_against_loss", "metric_panel", "predicted_against_actual", "residuals", "rollout"]


_RESIDUALS = {
    "log": "ln({metric} / law)",
    "identity": "({metric} − law) / median |{metric}|",
    "logit": "logit {metric} − logit law",
}
# of the coefficients the logarithms: A and B themselves are skewed over decades
_SHOWN = {"E": "E", "log_A": "ln A", "alpha": "α", "log_B": "ln B", "beta": "β", "gamma": "γ"}


def residuals(study: Study) -> Figure | None:
    """Draw what the law leaves over against N, D and C, with running medians; structure here is a wrong form."""
    if study.fit is None:
        return None
    with paper_style():
        figure, panels = canvas(3, width=2.5, height=2.3)
        left = study.residuals
        # one scale for all three, wide enough for all but the wildest rows, which stand at its edge as triangles
        reach = 1.15 * max(float(np.nanquantile(np.abs(left), 0.98)), 1e-12)
        held = np.clip(left, -0.97 * reach, 0.97 * reach)
        for axes, column, name in zip(panels, "NDC", ("N, parameters", "D, tokens", "C [FLOP]"), strict=True):
            x = getattr(study.table, column)
            axes.axhline(0, color=GREY, lw=0.8, zorder=0)
            _train_and_test(axes, study, x, np.where(held == left, left, np.nan))
            for mark, side in (("^", held < left), ("v", held > left)):
                axes.plot(x[side], held[side], mark, color=INK, ms=3.4, alpha=0.7, mew=0)
            axes.set_ylim(-reach, reach)
            train = ~study.test
            axes.plot(*_running_median(x[train], left[train]), color=BLUE, lw=1.4, label="running median")
            logarithmic(axes, name=name)
        for axes in panels[1:]:
            axes.tick_params(labelleft=False)
        panels[0].set_ylabel(label(_RESIDUALS[study.fit.link].format(metric=study.metric), 70))
        legend(panels[0])
    return figure


def _train_and_test(axes: Axes, study: Study, x: np.ndarray, y: np.ndarray) -> None:
    train, test = ~study.test, study.test
    axes.plot(x[train], y[train], "o", color=INK, ms=2.6, alpha=0.55, mew=0, label="fitted")
    if test.any():
        axes.plot(x[test], y[test], "D", color=ORANGE, ms=3.6, mfc="white", mew=0.9, label="held out")


def _running_median(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return medians over windows of a fifth of the rows (at least 5), along x."""
    order = np.argsort(x)
    x, y = x[order], y[order]
    width = min(len(x), max(5, len(x) // 5))
    starts = np.unique(np.linspace(0, len(x) - width, 25).astype(int))
    middle = np.array([np.exp(np.mean(np.log(x[start : start + width]))) for start in starts])
    return middle, np.array([np.median(y[start : start + width]) for start in starts])


def predicted_against_actual(study: Study) -> Figure | None:
    """Draw predictions against what was measured, rows held out apart."""
    if study.fit is None:
        return None
    with paper_style():
        figure, (axes,) = canvas(width=3.2, height=3.2)
        both = np.concatenate([study.values, study.predicted])
        both = both[np.isfinite(both)]
        pad = 0.03 * (both.max() - both.min() or 1.0)
        ends = [both.min() - pad, both.max() + pad]
        axes.plot(ends, ends, color=GREY, lw=0.8, zorder=0)
        _train_and_test(axes, study, study.values, study.predicted)
        axes.set(
            xlabel=label(f"measured {study.metric}"), ylabel=label(f"predicted {study.metric}"), xlim=ends, ylim=ends
        )
        axes.set_aspect("equal")
        legend(axes)
    return figure


def rollout(study: Study) -> Figure | None:
    """Draw for each budget the errors of a law that was fitted to the smaller ones alone."""
    if not study.rollout or study.fit is None:
        return None
    with paper_style():
        figure, (axes,) = canvas(width=3.6, height=2.6)
        axes.axhline(0, color=GREY, lw=0.8, zorder=0)
        for step in study.rollout:
            C = float(np.exp(np.log(step.rows.C).mean()))
            low, middle, high = np.quantile(step.errors, [0.05, 0.5, 0.95])
            axes.plot([C, C], [low, high], color=BLUE, lw=1.0)
            axes.plot(C, middle, "o", color=BLUE, ms=3.6)
        reach = 1.15 * max(float(np.quantile(np.abs([np.median(step.errors) for step in study.rollout]), 0.9)), 1e-12)
        spread = 1.15 * float(np.quantile(np.abs(np.concatenate([step.errors for step in study.rollout])), 0.97))
        axes.set_ylim(-max(reach, spread), max(reach, spread))
        logarithmic(axes, name="C [FLOP] of the predicted budget")
        axes.set_ylabel(label(_RESIDUALS[study.fit.link].format(metric=study.metric), 70))
    return figure


def metric_against_loss(study: Study) -> Figure | None:
    """Draw the metric against the loss, the two-stage curve, and the line of real data where it is known."""
    if study.downstream is None:
        return None
    with paper_style():
        figure, (axes,) = canvas(width=3.8, height=2.8)
        metric_panel(axes, study)
    return figure


def metric_panel(axes: Axes, study: Study) -> None:
    """Draw the metric against the loss into axes."""
    down = study.downstream
    assert down is not None
    loss = study.table.metric(down.loss)
    _train_and_test(axes, study, loss, study.values)
    grid = np.linspace(np.nanmin(loss), np.nanmax(loss), 200)
    for staged, line, ink, name in (
        (down.two_stage, "-", BLUE, f"{down.two_stage.map.name} map of the loss"),
        (down.fused, ":", PURPLE, "fitted jointly"),
    ):
        axes.plot(grid, staged.map.value(grid), line, color=ink, label=name)
    if study.settings.baseline is not None:
        floor_line(axes, study.settings.baseline, "real data", GREEN)
    axes.set(xlabel=label(down.loss), ylabel=label(study.metric))
    legend(axes)


def bootstrap_pairs(study: Study) -> Figure | None:
    """Draw every pair of parameters over the bootstrap's replicates, the estimate as a cross, and their histograms."""
    if study.bootstrap is None or study.fit is None:
        return None
    names = [name for name in _SHOWN if name in study.bootstrap.parameters]
    drawn = np.stack([study.bootstrap.replicates(name) for name in names], axis=1)
    at = [study.fit.parameters[name] for name in names]
    size = len(names)
    with paper_style():
        figure, panels = canvas(size, size, width=1.35, height=1.25)
        for index, axes in enumerate(panels):
            row, column = divmod(index, size)
            if column > row:
                axes.set_visible(False)
                continue
            if row == column:
                axes.hist(drawn[:, column], bins=24, range=_span(drawn[:, column]), color=BLUE, alpha=0.55, lw=0)
                axes.axvline(at[column], color=INK, lw=0.9)
                axes.spines["left"].set_visible(False)
                axes.set_yticks([])
            else:
                axes.plot(drawn[:, column], drawn[:, row], ".", color=BLUE, ms=1.6, alpha=0.35, mew=0, rasterized=True)
                axes.plot(at[column], at[row], "+", color=INK, ms=7, mew=1.1)
                axes.yaxis.set_major_locator(MaxNLocator(3))
            axes.xaxis.set_major_locator(MaxNLocator(3))
            for wanted, name, put, ticks in (
                (row == size - 1, names[column], axes.set_xlabel, _bottom),
                (column == 0 and row > 0, names[row], axes.set_ylabel, _left),
            ):
                ticks(axes, wanted)
                if wanted:
                    put(_SHOWN[name])
    return figure


def _span(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the range of a histogram: without noise the replicates differ by rounding alone, too little for bins."""
    low, high = float(values.min()), float(values.max())
    least = 1e-6 * max(abs(low), abs(high), 1e-300)
    middle, half = (low + high) / 2, max(high - low, least) / 2
    return middle - half, middle + half


def _bottom(axes: Axes, wanted: bool) -> None:
    axes.tick_params(labelbottom=wanted)


def _left(axes: Axes, wanted: bool) -> None:
    axes.tick_params(labelleft=wanted)
