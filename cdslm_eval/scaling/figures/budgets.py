"""Figures against compute: isoFLOP curves, N*, D*, r*, curvature, the near-optimal range."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from cdslm_eval.drawing import BLUE, GREEN, GREY, INK, ORANGE, PURPLE
from cdslm_eval.scaling.figures.parts import Budgets, band, canvas, label, legend, logarithmic, paper_style, points

if TYPE_CHECKING:
    from cdslm_eval.scaling.study import Study

__all__ = ["curvature", "isoflop_curves", "near_optimal", "optima"]


def isoflop_curves(study: Study) -> Figure | None:
    """Draw the metric against N: rows, the law's curve per budget, and stars where each budget's parabola is best.

    Args:
        study: With budgets.
    """
    iso = study.isoflops
    if iso is None or not iso.curves:
        return None
    with paper_style():
        figure, (axes,) = canvas(width=5.2, height=3.6)
        colours = Budgets([curve.C for curve in iso.curves])
        used, test = study.table.train, study.table.test
        for rows, marker, filled in ((used, "o", True), (test, "D", False)):
            if rows.any():
                inks = [colours.of(C) for C in study.table.C[rows]]
                axes.scatter(
                    study.table.N[rows],
                    study.values[rows],
                    s=13,
                    marker=marker,
                    facecolors=inks if filled else "white",
                    edgecolors=inks,
                    linewidths=0.8,
                    zorder=2,
                )
        _curves(axes, study, colours)
        _style_keys(axes, study, held_out=bool(test.any()))
        logarithmic(axes, y=study.positive, name="N, parameters")
        axes.set_ylabel(label(study.label))
        colours.bar(figure, axes)
    return figure


def _curves(axes, study: Study, colours: Budgets) -> None:  # type: ignore[no-untyped-def]
    """Draw per budget what the law says, what the parabola says where there is no law, and the star."""
    for curve in study.isoflops.curves:  # type: ignore[union-attr]
        ink = colours.of(curve.C)
        N = np.geomspace(curve.N.min() / 1.25, curve.N.max() * 1.25, 120)
        drawn = study.law_at(N, curve.C)
        if drawn is not None:
            axes.plot(N, drawn, "-", color=ink, lw=1.0)
        else:
            axes.plot(N, curve.parabola(N), "-", color=ink, lw=1.0)
        if curve.inside:
            axes.plot(curve.optimum_N, curve.optimum_value, "*", color=ink, ms=9, mec="white", mew=0.6, zorder=4)


def _style_keys(axes, study: Study, *, held_out: bool) -> None:  # type: ignore[no-untyped-def]
    """Say in the legend what dots, lines and stars are, once, in one ink."""
    axes.plot([], [], "o", color=INK, ms=3.6, label="row")
    if held_out:
        axes.plot([], [], "D", color=INK, mfc="white", ms=3.6, label="row held out")
    axes.plot([], [], "-", color=INK, lw=1.0, label="law" if study.law is not None else "parabola in ln N")
    axes.plot([], [], "*", color=INK, ms=8, mec="white", mew=0.6, label="optimum of the budget's parabola")
    if study.trends is not None:
        axes.plot(
            study.trends.N.value, study.trends.loss.value, ls=(0, (1, 1.2)), color=INK, lw=1.1, label="optimum of the law"
        )
    legend(axes)


def optima(study: Study) -> Figure | None:
    """Draw N*, D* and r* = D*/N* against C: the law with its band, budgets with whiskers, their own power law."""
    if study.trends is None and study.isoflops is None:
        return None
    with paper_style():
        figure, panels = canvas(3, width=2.5, height=2.5)
        names = ("N*, parameters", "D*, tokens", "r* = D*/N*, tokens per parameter")
        for axes, key, name in zip(panels, ("N", "D", "ratio"), names, strict=True):
            if study.trends is not None:
                band(axes, getattr(study.trends, key), name="law, with interval")
            if study.isoflops is not None:
                found = study.budget_optima(key)
                points(axes, found.C, found.value, found.low, found.high, name="budget's parabola", color=ORANGE)
                line = study.budget_line(key)
                if line is not None:
                    axes.plot(line.C, line.value, ls=(0, (4, 2)), color=ORANGE, lw=1.0, label="power law of budgets")
            logarithmic(axes, y=True, name="C [FLOP]")
            axes.set_ylabel(name)
        legend(panels[0])
    return figure


def curvature(study: Study) -> Figure | None:
    """Draw kappa, the isoFLOP's second derivative in ln N at its optimum, against C: law and data."""
    if study.trends is None and study.isoflops is None:
        return None
    with paper_style():
        figure, (axes,) = canvas(width=3.6, height=2.7)
        if study.trends is not None:
            band(axes, study.trends.kappa, name="law, with interval")
        if study.isoflops is not None:
            found = study.budget_optima("kappa")
            points(axes, found.C, found.value, found.low, found.high, name="budget's parabola", color=ORANGE)
        logarithmic(axes, name="C [FLOP]")
        axes.axhline(0, color=GREY, lw=0.7, zorder=0)
        axes.set_ylabel("curvature κ at the optimum,\n" + label(f"{study.label} per (ln N)²", 70))
        legend(axes)
    return figure


def near_optimal(study: Study) -> Figure | None:
    """Draw the ranges of N and of D that stay within epsilon of the optimum, relative to the optimum, against C."""
    if study.trends is None or not study.near:
        return None
    with paper_style():
        figure, panels = canvas(2, width=3.1, height=2.6)
        for axes, key in zip(panels, ("N", "D"), strict=True):
            for one, color in zip(study.near, (BLUE, GREEN, PURPLE), strict=False):
                low, high = (getattr(one, f"{key}_{end}") / getattr(study.trends, key).value for end in ("low", "high"))
                axes.fill_between(one.C, low, high, color=color, alpha=0.18, lw=0)
                axes.plot(one.C, low, color=color, lw=1.0)
                axes.plot(one.C, high, color=color, lw=1.0, label=one.name)
            axes.axhline(1.0, color=INK, lw=0.8, ls=":")
            logarithmic(axes, y=True, name="C [FLOP]")
            axes.set_ylabel(f"{key} / {key}*")
        legend(panels[1], title="within")
    return figure
