"""Figures against compute: isoFLOP curves, N*, D*, r*, curvature, the near-optimal range."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cdslm_eval.core.drawing import BLUE, GREEN, GREY, INK, ORANGE, PURPLE
from cdslm_eval.scaling.frontier import Band
from cdslm_eval.scaling.output.figures.parts import (
    Budgets,
    band,
    canvas,
    label,
    legend,
    legend_below,
    logarithmic,
    paper_style,
    points,
)
from cdslm_eval.scaling.rows import find_budgets

if TYPE_CHECKING:
    from cdslm_eval.scaling.isoflop import IsoFlop
    from cdslm_eval.scaling.study import Study

__all__ = ["curvature", "isoflop_curves", "isoflop_panel", "near_optimal", "optima", "own_values"]


def isoflop_curves(study: Study) -> Figure | None:
    """Draw the metric against N: rows, the law's curve per budget, and stars where each budget's own curve is best.

    Args:
        study: With budgets.
    """
    if study.isoflops is None:
        return None
    with paper_style():
        figure, (axes,) = canvas(width=5.6, height=3.8)
        isoflop_panel(axes, study).bar(figure, axes)
    return figure


def isoflop_panel(axes: Axes, study: Study) -> Budgets:
    """Draw the isoFLOP curves into axes, and return the colours of the budgets."""
    assert study.isoflops is not None
    colours = Budgets(study.table.C)
    for rows, marker, filled in ((~study.test, "o", True), (study.test, "D", False)):
        inks = [colours.of(C) for C in study.table.C[rows]]
        axes.scatter(
            study.table.N[rows],
            study.values[rows],
            s=11,
            marker=marker,
            facecolors=inks if filled else "white",
            edgecolors=inks,
            linewidths=0.7,
            zorder=2,
        )
    positive = bool(np.nanmin(study.values) > 0)
    spread = np.nanmin(study.values), np.nanmax(study.values)
    for budget in study.isoflops.budgets:
        _curve(axes, study, budget, colours)
    _held_out_curves(axes, study, colours)
    margin = (spread[1] / spread[0]) ** 0.04 if positive else 0.04 * (spread[1] - spread[0])
    axes.set_ylim(*((spread[0] / margin, spread[1] * margin) if positive else (spread[0] - margin, spread[1] + margin)))
    _keys(axes, study)
    logarithmic(axes, y=positive, name="N, parameters")
    axes.set_ylabel(label(study.metric))
    return colours


def _curve(axes: Axes, study: Study, budget: IsoFlop, colours: Budgets) -> None:
    """Draw the law under a budget, or its own curve where there is no law, and the star."""
    if budget.chosen is None:
        return
    iso, ink = study.isoflops, colours.of(budget.C)
    assert iso is not None
    grid = _sizes(iso.table.N[budget.rows])
    if study.fit is not None:
        value = study.fit.law.predict(grid, study.fit.law.cost.tokens(budget.C, grid))
    else:
        value = iso.axis.restore(budget.chosen.value(grid))
    axes.plot(grid, value, "-", color=ink, lw=0.9, alpha=0.9)
    if budget.has_optimum:
        axes.plot(budget.N, budget.loss, "*", color=ink, ms=8.5, mec="white", mew=0.6, zorder=4)


def _sizes(N: np.ndarray) -> np.ndarray:
    return np.geomspace(N.min() / 1.2, N.max() * 1.2, 120)


def _held_out_curves(axes: Axes, study: Study, colours: Budgets) -> None:
    """Draw the law's prediction under the budgets of which every row was held out: what its test is judged by."""
    if study.fit is None or not study.test.any():
        return
    groups = find_budgets(study.table)
    for number, C in enumerate(groups.C):
        rows = groups.rows(number)
        if study.test[rows].all():
            grid = _sizes(study.table.N[rows])
            value = study.fit.law.predict(grid, study.fit.law.cost.tokens(C, grid))
            axes.plot(grid, value, ls=(0, (4, 2)), color=colours.of(float(C)), lw=0.9, alpha=0.9)


def _keys(axes: Axes, study: Study) -> None:
    """Add dots, lines and stars to the legend, once, in one ink."""
    axes.plot([], [], "o", color=INK, ms=3.2, label="row")
    if study.test.any():
        axes.plot([], [], "D", color=INK, mfc="white", ms=3.2, label="row held out")
        if study.fit is not None:
            axes.plot([], [], ls=(0, (4, 2)), color=INK, lw=0.9, label="law under a budget held out")
    axes.plot([], [], "-", color=INK, lw=0.9, label="law under a budget" if study.fit else "curve of a budget")
    if study.isoflops is not None and study.isoflops.optima:
        axes.plot([], [], "*", color=INK, ms=7.5, mec="white", mew=0.6, label="optimum of a budget's own curve")
    if study.frontier is not None:
        # an optimum beyond the sizes of the table, a bound of the search perhaps, sets no scale
        best, sizes = study.frontier, _sizes(study.table.N)
        size = best.N.value
        within = (size >= sizes[0]) & (size <= sizes[-1])
        if within.any():
            loss = best.loss.value[within]
            axes.plot(size[within], loss, ls=(0, (1, 1.2)), color=INK, lw=1.2, label="optimum of the law")
    legend(axes)


def own_values(study: Study, key: str) -> tuple[np.ndarray, ...]:
    """Return C, value, low, high of a quantity over the budgets that have an optimum of their own."""
    assert study.isoflops is not None
    rows = [(budget.C, getattr(budget, key), *getattr(budget, f"{key}_interval")) for budget in study.isoflops.optima]
    return tuple(np.array(rows, float).reshape(-1, 4).T)


def optima(study: Study) -> Figure | None:
    """Draw N*, D* and r* = D*/N* against C: the law with its band, budgets with whiskers, their own power law."""
    iso = study.isoflops
    if study.frontier is None and (iso is None or not iso.optima):
        return None
    with paper_style():
        figure, panels = canvas(3, width=2.5, height=2.5)
        names = ("N*, parameters", "D*, tokens", "r*, tokens per parameter")
        for axes, key, name in zip(panels, ("N", "D", "ratio"), names, strict=True):
            if study.frontier is not None:
                band(axes, _framed(study, key, getattr(study.frontier, key)), name="law, with interval")
            if iso is not None:
                points(axes, *own_values(study, key), name="budget by itself", color=ORANGE)
                power = getattr(iso, f"{key}_law")
                if power is not None:
                    C = np.array([iso.optima[0].C, iso.optima[-1].C])
                    axes.plot(C, power.value(C), ls=(0, (4, 2)), color=ORANGE, lw=1.0, label="power law of budgets")
            _hold_scale(axes, study, key)
            logarithmic(axes, y=True, name="C [FLOP]")
            axes.set_ylabel(name)
        legend_below(figure, panels[0])
    return figure


def _framed(study: Study, key: str, band: Band) -> Band:
    """Return a band cut a hundred times beyond the samples: an undetermined law's ends lie beyond all numbers."""
    table = study.table
    sampled = {"N": table.N, "D": table.D, "ratio": table.D / table.N}[key]
    ends = sampled.min() / 100, sampled.max() * 100
    return Band(
        band.C, *(np.clip(np.nan_to_num(side, nan=np.inf), *ends) for side in (band.value, band.low, band.high))
    )


def _hold_scale(axes: Axes, study: Study, key: str) -> None:
    """Let lines and points set the scale: the whisker of a budget of few rows may span decades."""
    seen = [] if study.isoflops is None else [own_values(study, key)[1]]
    if study.frontier is not None:
        law = _framed(study, key, getattr(study.frontier, key))
        seen += [law.value, law.low, law.high]
    known = np.concatenate(seen)
    known = known[np.isfinite(known)]
    if len(known):
        axes.set_ylim(known.min() / 1.6, known.max() * 1.6)


def curvature(study: Study) -> Figure | None:
    """Draw kappa, the isoFLOP's second derivative in ln N at its optimum, against C: law and data."""
    iso = study.isoflops
    if study.frontier is None and (iso is None or not iso.optima):
        return None
    with paper_style():
        figure, (axes,) = canvas(width=3.8, height=2.7)
        if study.frontier is not None:
            band(axes, study.frontier.kappa, name="law, with interval")
        if iso is not None:
            C, value, low, high = own_values(study, "kappa")
            points(axes, C, value, low, high, name="budget by itself", color=ORANGE)
            # a budget of few rows may know nothing of its curvature: whiskers do not set the scale
            top = 1.6 * max([float(np.quantile(value, 0.9)) if len(value) else 0.0, *_tops(study)])
            if top > 0:
                axes.set_ylim(-0.05 * top, top)
        logarithmic(axes, name="C [FLOP]")
        axes.axhline(0, color=GREY, lw=0.7, zorder=0)
        axes.set_ylabel("curvature κ at the optimum,\n" + label(f"{study.metric} per (ln N)²", 70))
        legend(axes)
    return figure


def _tops(study: Study) -> list[float]:
    if study.frontier is None:
        return []
    kappa = study.frontier.kappa.value
    return [float(value) for value in kappa[np.isfinite(kappa)]]


def _within_reason(ratio: np.ndarray) -> np.ndarray:
    """Return ratios that a figure can hold; a law that the data do not determine has ranges beyond all numbers."""
    return np.where(np.isfinite(ratio) & (ratio > 1e-6) & (ratio < 1e6), ratio, np.nan)


def _multiple(end: Band, best: np.ndarray) -> Band:
    """Return an end of a range, with its interval, as a multiple of the optimum."""
    value, low, high = (_within_reason(side / best) for side in (end.value, end.low, end.high))
    return Band(end.C, value, low, high)


def near_optimal(study: Study) -> Figure | None:
    """Draw the ranges of N and of D that stay within epsilon of the optimum, relative to the optimum, against C."""
    if study.frontier is None or not study.near:
        return None
    middle = study.near[len(study.near) // 2]
    if not np.isfinite(_within_reason(np.exp(middle.width.value))).any():
        return None
    with paper_style():
        figure, panels = canvas(2, width=3.1, height=2.6)
        for axes, key in zip(panels, ("N", "D"), strict=True):
            for near, color in zip(study.near, (BLUE, GREEN, PURPLE), strict=False):
                best = getattr(study.frontier, key).value
                low, high = getattr(near, f"{key}_low"), getattr(near, f"{key}_high")
                below, above = (_multiple(end, best) for end in (low, high))
                axes.fill_between(low.C, below.value, above.value, color=color, alpha=0.12, lw=0)
                band(axes, below, color=color, lw=1.1)
                band(axes, above, color=color, lw=1.1, name=near.name)
            axes.axhline(1.0, color=INK, lw=0.8, ls=":")
            logarithmic(axes, y=True, name="C [FLOP]")
            axes.set_ylabel(f"{key} / {key}*")
        panels[0].set_ylim(top=2.5 * panels[0].get_ylim()[1])
        legend(panels[0], title="within", loc="upper left", ncol=3, columnspacing=1.0)
    return figure
