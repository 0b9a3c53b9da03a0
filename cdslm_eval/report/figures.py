"""Figures of a result as SVG text: divergence by order, and systems side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cdslm_eval.core.drawing import BLUE, GREY, INK, ORANGE, gap, shown, style, svg
from cdslm_eval.results.estimate import Estimate

__all__ = ["by_order", "side_by_side"]

# text stays text, so the reader's own fonts draw what this machine's lack; a system's name may hold dollar signs
_TEXT: Any = {"svg__fonttype": "none", "text__parse_math": False}


def by_order(system: str, estimates: Sequence[Estimate], orders: Sequence[int]) -> str:
    """Return the plug-in, corrected and held-out values of one system against n, with the floor as a band.

    Args:
        system: Its name, the title.
        estimates: One divergence per order.
        orders: The orders, in the same sequence.
    """
    with style(**_TEXT):
        figure = Figure(figsize=(4.4, 2.9), layout="constrained")
        axes = figure.subplots()
        axes.fill_between(orders, 0, [gap(e.floor) for e in estimates], color=GREY, alpha=0.28, lw=0, label="floor")
        axes.plot(orders, [gap(e.value) for e in estimates], "o-", color=INK, ms=4, lw=1.2, label="plug-in")
        _whiskers(axes, list(orders), estimates)
        held = [max(0.0, e.held_out) if math.isfinite(e.held_out) else math.nan for e in estimates]
        axes.plot(orders, held, "s--", color=ORANGE, ms=4, lw=1.2, label="held-out lower bound")
        axes.set(xlabel="n", ylabel="bits", ylim=(-0.05, 1.05), xticks=list(orders))
        axes.set_title(shown(system, 60), loc="left", fontsize=9, fontweight="bold")
        axes.legend(frameon=False, fontsize=7.5, loc="upper left")
        return svg(figure)


def _whiskers(axes: Axes, orders: list[int], estimates: Sequence[Estimate]) -> None:
    headlines = [(n, estimate.headline()) for n, estimate in zip(orders, estimates, strict=True)]
    known = [(n, headline) for n, headline in headlines if headline.kind == "corrected"]
    if not known:
        return
    below = [max(0.0, gap(h.value - h.low)) if math.isfinite(h.low) else 0 for _, h in known]
    axes.errorbar(
        [n for n, _ in known],
        [headline.value for _, headline in known],
        yerr=below,
        fmt="D",
        color=BLUE,
        ms=4.5,
        capsize=3,
        lw=1.2,
        label="corrected, 95 %",
    )


def side_by_side(name: str, unit: str, estimates: Sequence[Estimate], real: Estimate | None = None) -> str:
    """Return the headlines of systems below each other: intervals with a dot, bounds without, floors as ticks.

    Args:
        name: What is shown.
        unit: Its unit.
        estimates: One per system, in the order of the page.
        real: What the reference itself scores, drawn as a line through all rows with its interval as a band.
    """
    with style(**_TEXT):
        known = [(e, e.headline()) for e in reversed(estimates) if e.headline().known]
        figure = Figure(figsize=(4.4, 0.8 + 0.27 * max(1, len(known))), layout="constrained")
        axes = figure.subplots()
        floors = [
            (row, estimate.floor)
            for row, (estimate, headline) in enumerate(known)
            # a corrected value has the floor taken out, and bounds hold for the true divergence: real speech is at 0
            if headline.kind in ("value", "uncorrected") and math.isfinite(estimate.floor)
        ]
        for row, (_, headline) in enumerate(known):
            # grey where no point is known, or one with an unknown bias
            colour = GREY if headline.kind in ("bounds", "uncorrected") else BLUE
            is_open = headline.kind == "bounds" and not math.isfinite(headline.low)
            # a divergence is 0 or more: where its lower bound is not known, the line is dashed from there
            low = 0.0 if is_open else headline.low
            ends = [end if math.isfinite(end) else headline.value for end in (low, headline.high)]
            if all(map(math.isfinite, ends)):
                look = (0, (1, 1)) if is_open else "solid"
                axes.plot(ends, [row, row], color=colour, lw=2, ls=look, solid_capstyle="round")
            if math.isfinite(headline.value):
                axes.plot([headline.value], [row], "o", color=colour, ms=5)
        for row, floor in floors:
            axes.plot([floor, floor], [row - 0.3, row + 0.3], color=ORANGE, lw=1.5, ls=(0, (2, 1)))
        kinds = dict.fromkeys(headline.kind for _, headline in known)
        real_at_zero = bool(kinds.keys() & {"corrected", "bounds"})
        if real_at_zero:
            axes.axvline(0, color=INK, lw=0.8, ls=":")
        own = [] if real is None else [v for v in (real.value, real.low, real.high) if math.isfinite(v)]
        if own and real is not None:
            axes.axvspan(min(own), max(own), color=GREY, alpha=0.28, lw=0)
            axes.axvline(real.value, color=INK, lw=0.8, ls=":")
        shown_values = [v for _, h in known for v in (h.value, h.low, h.high) if math.isfinite(v)]
        _widen(axes, [*shown_values, *own], has_floor=bool(floors))
        axes.set_yticks(range(len(known)), [shown(estimate.system, 28) for estimate, _ in known])
        axes.set_ylim(-0.6, max(1, len(known)) - 0.4)
        notes = ["dotted: real speech"] if real_at_zero or own else []
        notes += ["grey: no point to quote"] if kinds.keys() & {"bounds", "uncorrected"} else []
        notes += ["orange: real speech (the floor)"] if floors else []
        what = f"{name}, {' or '.join(kinds)}" + (f" [{unit}]" if unit else "")
        axes.set_xlabel("\n".join([what, "; ".join(notes)]).strip(), fontsize=8)
        return svg(figure)


def _widen(axes: Axes, values: Sequence[float], *, has_floor: bool) -> None:
    """Give an axis on which everything is one number a range with that number in the middle, and one tick."""
    if values and not has_floor and max(values) == min(values):
        axes.set_xlim(values[0] - 1, values[0] + 1)
        axes.set_xticks([values[0]])
