"""Parts of the scaling figures: sizes, logarithmic axes, bands, colours of budgets."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogFormatterSciNotation, LogLocator, MaxNLocator, NullFormatter

from cdslm_eval.core.drawing import BLUE, GREY, INK, shown, style

if TYPE_CHECKING:
    from cdslm_eval.scaling.frontier import Band

__all__ = [
    "Budgets",
    "arrows",
    "band",
    "canvas",
    "floor_line",
    "label",
    "legend",
    "legend_below",
    "logarithmic",
    "paper_style",
    "points",
]

Floats = npt.NDArray[np.float64]


def paper_style() -> AbstractContextManager[None]:
    """Return the style of a figure that could stand in a paper: small type, letters as paths."""
    return style(
        svg__fonttype="path",
        font__size=8.0,
        axes__labelsize=8.0,
        xtick__labelsize=7.0,
        ytick__labelsize=7.0,
        axes__linewidth=0.7,
        lines__linewidth=1.3,
        legend__fontsize=7.0,
        legend__frameon=False,
        legend__handlelength=1.6,
    )


def canvas(columns: int = 1, rows: int = 1, *, width: float = 3.4, height: float = 2.6) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels of the given size in inches, row by row."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, list(np.ravel(figure.subplots(rows, columns, squeeze=False)))


def label(text: str, length: int = 60) -> str:
    """Return an untrusted name as a label: drawn as written, never read as mathematics."""
    return shown(text, length).replace("$", r"\$")


def logarithmic(axes: Axes, *, x: bool = True, y: bool = False, name: str = "") -> None:
    """Make axes logarithmic with few labels; a span under a decade is labelled in plain numbers.

    Args:
        axes: Drawn already, so that its limits are known.
        x, y: Which of the two.
        name: The label of the x axis.
    """
    for chosen, letter in ((x, "x"), (y, "y")):
        if not chosen:
            continue
        axis, hold = getattr(axes, f"{letter}axis"), getattr(axes, f"set_{letter}lim")
        least, most = getattr(axes.dataLim, f"interval{letter}")
        if least > 0 and most < 1.05 * least:
            # one budget or one size: matplotlib would stretch rounding errors over the axis
            hold(least / 2, most * 2)
        getattr(axes, f"set_{letter}scale")("log")
        low, high = getattr(axes, f"get_{letter}lim")()
        decades = np.log10(high / low) if 0 < low < high else 0.0
        if decades > 1:
            axis.set_major_locator(LogLocator(numticks=6))
            # between a thousandth and ten thousand plain numbers: powers of ten beside 0.2 and 0.05 are two languages
            small = low >= 1e-3 and high < 1e4
            axis.set_major_formatter(_PLAIN if small else LogFormatterSciNotation(labelOnlyBase=True))
            _label_between(axis, decades)
        else:
            # powers of ten are wide, and equal steps crowd at the upper end
            few = high >= 1e4 and decades > 0.5
            axis.set_major_locator(
                LogLocator(subs=(1.0, 2.0, 3.0, 5.0)) if few else MaxNLocator(6, steps=[1, 2, 2.5, 5, 10])
            )
            axis.set_major_formatter(_PLAIN)
            axis.set_minor_formatter(NullFormatter())
    if name:
        axes.set_xlabel(name)


def _label_between(axis: Axis, decades: float) -> None:
    """Label ticks between the decades where there are few of these: one number on an axis tells no scale."""
    between = (2.0, 5.0) if decades < 2 else (3.0,)
    if decades > 3:
        axis.set_minor_formatter(NullFormatter())
        return
    axis.set_minor_locator(LogLocator(subs=between, numticks=20))
    axis.set_minor_formatter(_PLAIN)
    axis.set_tick_params(which="minor", labelsize=5.5)


def _short(value: float) -> str:
    exponent = int(np.floor(np.log10(value)))
    return rf"${value / 10.0**exponent:.3g}\times10^{{{exponent}}}$"


_PLAIN = FuncFormatter(lambda value, _: f"{value:.3g}" if value < 1e4 else _short(value))


def arrows(axes: Axes, x: Floats, low: Floats, high: Floats, *, color: str = INK) -> None:
    """Mark whiskers that leave the frame with arrows at its edge; the limits must be set already."""
    bottom, top = axes.get_ylim()
    for end, edge, marker in ((low < bottom, bottom, "v"), (high > top, top, "^")):
        if end.any():
            axes.plot(x[end], np.full(int(end.sum()), edge), marker, color=color, ms=3.2, ls="none", clip_on=False)


def band(axes: Axes, along: Band, *, color: str = BLUE, name: str = "", line: str = "-", **more: Any) -> None:
    """Draw a quantity against C with its interval as a band; without intervals the line alone."""
    known = np.isfinite(along.low) & np.isfinite(along.high)
    if known.any():
        axes.fill_between(along.C, along.low, along.high, where=known.tolist(), color=color, alpha=0.2, lw=0)
    axes.plot(along.C, along.value, line, color=color, label=name, **more)


def points(
    axes: Axes,
    x: Floats,
    y: Floats,
    low: Floats | None = None,
    high: Floats | None = None,
    *,
    name: str = "",
    color: str = INK,
    marker: str = "o",
    hollow: bool = False,
) -> None:
    """Draw points, with whiskers where an interval is known."""
    if low is not None and high is not None:
        known = np.isfinite(low) & np.isfinite(high) & np.isfinite(y)
        axes.vlines(x[known], low[known], high[known], color=color, lw=0.9, alpha=0.5)
    axes.plot(
        x, y, marker, color=color, ms=4.2, mfc="white" if hollow else color, mew=0.9, ls="none", label=name, zorder=3
    )


class Budgets:
    """A colour per budget, dark for small and light for large, equally apart in ln C for every kind of eye."""

    def __init__(self, budgets: Sequence[float] | Floats) -> None:
        from matplotlib import colormaps

        values = np.asarray(budgets, float)
        low, high = (values.min(), values.max()) if len(values) else (1.0, 10.0)
        self._values = np.unique(values)
        self.norm = LogNorm(low / 1.05, high * 1.05)
        # viridis without its yellow end, which white paper swallows
        self.map = colormaps["viridis"].resampled(256)
        self._reach = 0.9

    def of(self, C: float) -> tuple[float, float, float, float]:
        """Return the colour of a budget."""
        return self.map(self._reach * float(self.norm(C)))

    def bar(self, figure: Figure, axes: Axes | Sequence[Axes], name: str = "C [FLOP]") -> None:
        """Draw the colour bar."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import ListedColormap

        cut = ListedColormap(self.map(np.linspace(0, self._reach, 200)))
        drawn = figure.colorbar(ScalarMappable(self.norm, cut), ax=axes, pad=0.02, aspect=28, fraction=0.05)
        drawn.set_label(name)
        drawn.outline.set_visible(False)
        drawn.ax.minorticks_off()
        if 0 < len(self._values) <= 8 and self._values[-1] < 10 * self._values[0]:
            # no power of ten may lie within
            drawn.set_ticks(self._values.tolist(), labels=[_PLAIN(value, 0) for value in self._values])


def in_words(count: float) -> str:
    """Return a count in three digits: 4.49M, 1.2B."""
    for power, letter in ((12, "T"), (9, "B"), (6, "M"), (3, "k")):
        if count >= 0.9995 * 10**power:
            return f"{count / 10**power:.3g}{letter}"
    return f"{count:.3g}"


def legend(axes: Axes, **more: Any) -> None:
    """Draw a legend inside, where something is labelled."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(**{"loc": "best", **more})


def legend_below(figure: Figure, axes: Axes, columns: int = 4) -> None:
    """Draw the legend of one panel under all of them."""
    handles, names = axes.get_legend_handles_labels()
    if names:
        figure.legend(handles, names, loc="outside lower center", ncol=columns)


def floor_line(axes: Axes, value: float, name: str, color: str = GREY) -> None:
    """Draw a horizontal reference line, named in the legend."""
    axes.axhline(value, color=color, lw=0.9, ls=(0, (4, 2)), label=name, zorder=1)
