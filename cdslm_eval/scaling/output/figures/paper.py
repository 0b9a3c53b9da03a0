"""The figure of a paper: isoFLOP curves, and beside them the curvature and the near-optimal range against compute."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cdslm_eval.core.drawing import BLUE, GREEN, ORANGE
from cdslm_eval.scaling.frontier import Band
from cdslm_eval.scaling.output.figures.budgets import isoflop_panel, own_values
from cdslm_eval.scaling.output.figures.parts import arrows, band, label, legend, logarithmic, paper_style, points

if TYPE_CHECKING:
    from cdslm_eval.scaling.isocurve import PowerLaw
    from cdslm_eval.scaling.study import Study

__all__ = ["both_panels"]

_DASHES = (0, (4, 2))
_EPSILON = 0.01


def both_panels(study: Study) -> Figure | None:
    """Draw the isoFLOP curves, and kappa and the near-optimal range against C on logarithmic axes.

    Args:
        study: With budgets of which two have an optimum.
    """
    iso = study.isoflops
    if iso is None or len(iso.optima) < 2:
        return None
    with paper_style():
        figure = Figure(figsize=(7.4, 4.4), layout="constrained")
        grid = figure.add_gridspec(2, 2, width_ratios=(1.45, 1.0))
        left = figure.add_subplot(grid[:, 0])
        isoflop_panel(left, study).bar(figure, left)
        # the panels are full: the words stand below
        handles, names = left.get_legend_handles_labels()
        if inside := left.get_legend():
            inside.remove()
        figure.legend(handles, names, loc="outside lower center", ncol=4, fontsize=6.5)
        above, below = figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[1, 1])
        _kappa(above, study)
        _ranges(below, study)
        for axes, letter in ((left, "a"), (above, "b"), (below, "c")):
            axes.set_title(letter, loc="left", fontweight="bold", fontsize=9)
    return figure


def _kappa(axes: Axes, study: Study) -> None:
    """Draw kappa of the law and of the budgets, with the power law through the latter."""
    iso = study.isoflops
    assert iso is not None
    C, value, low, high = own_values(study, "kappa")
    known = value > 0
    C, value, low, high = C[known], value[known], low[known], high[known]
    shown = [value]
    if study.frontier is not None:
        kappa = study.frontier.kappa
        # a law that the data do not determine has intervals beyond all numbers
        band(axes, Band(kappa.C, *(np.where(side > 0, side, np.nan) for side in (kappa.value, kappa.low, kappa.high))),
             name=f"law{_power_of(study, 'law')}")  # fmt: skip
        shown.append(kappa.value[kappa.value > 0])
    points(axes, C, value, low, high, name="budget by itself", color=ORANGE)
    if iso.kappa_law is not None:
        _line(axes, iso.kappa_law, C, ORANGE, f"its power law{_power_of(study, 'budgets')}")
    _hold(axes, np.concatenate(shown))
    arrows(axes, C, low, high, color=ORANGE)
    logarithmic(axes, y=True)
    axes.set_ylabel("curvature κ,\n" + label(f"{study.metric} per (ln N)²", 40))
    _inner_legend(axes)


def _power_of(study: Study, source: str) -> str:
    """Return ", C^x" as mathematics, where it is known."""
    growth = None if study.curvature is None else getattr(study.curvature, source)
    return "" if growth is None else rf", $C^{{{growth.exponent:.2f}}}$"


def _line(axes: Axes, law: PowerLaw, C: np.ndarray, color: str, name: str) -> None:
    ends = np.array([C.min(), C.max()])
    axes.plot(ends, law.value(ends), ls=_DASHES, color=color, lw=1.0, label=name)


def _ranges(axes: Axes, study: Study) -> None:
    """Draw the ranges of N and D within 1 % of the optimum: of the law with its interval, and of the budgets."""
    iso = study.isoflops
    assert iso is not None
    near = next((n for n in study.near if n.relative and n.epsilon == _EPSILON), None)
    seen = []
    rows = iso.widths(_EPSILON, relative=True)
    for color, key, index in ((BLUE, "N", 2), (GREEN, "D", 3)):
        if near is not None:
            low, high = getattr(near, f"{key}_low"), getattr(near, f"{key}_high")
            value = high.value - low.value
            axes.plot(low.C, value, color=color, lw=1.0, label=f"d{key}, law")
            seen.append(value)
        if len(rows):
            points(axes, rows[:, 0], rows[:, index], name=f"d{key}, budget", color=color, hollow=True)
            seen.append(rows[:, index])
    if seen:
        _hold(axes, np.concatenate(seen))
    logarithmic(axes, y=bool(seen), name="C [FLOP]")
    axes.set_ylabel("dN and dD\nwithin 1 % of L*")
    _inner_legend(axes)


def _inner_legend(axes: Axes) -> None:
    """Draw a legend that does not squeeze its panel."""
    legend(axes, fontsize=5.8, borderaxespad=0.2, labelspacing=0.3)
    if shown := axes.get_legend():
        shown.set_in_layout(False)


def _hold(axes: Axes, values: np.ndarray) -> None:
    """Let lines and points set the scale: the whisker of a budget of few rows may span decades."""
    values = values[np.isfinite(values) & (values > 0)]
    if len(values):
        axes.set_yscale("log")
        axes.set_ylim(values.min() / 1.8, values.max() * 1.8)
