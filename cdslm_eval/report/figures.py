"""Figures of a result as SVG text: divergence by order, and systems side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cdslm_eval.core.drawing import BLUE, GREY, INK, ORANGE, gap, shown, style, svg
from cdslm_eval.results.score_result import Estimate

__all__ = ["by_order", "side_by_side"]

_DOUBTED = frozenset({"bounds_only", "rank_deficient"})
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
    known = [
        (n, e)
        for n, e in zip(orders, estimates, strict=True)
        if math.isfinite(e.corrected) and e.trust != "bounds_only"
    ]
    if not known:
        return
    below = [max(0.0, gap(e.corrected - e.corrected_low)) if math.isfinite(e.corrected_low) else 0 for _, e in known]
    axes.errorbar(
        [n for n, _ in known],
        [e.corrected for _, e in known],
        yerr=below,
        fmt="D",
        color=BLUE,
        ms=4.5,
        capsize=3,
        lw=1.2,
        label="corrected, 95 %",
    )


def side_by_side(name: str, unit: str, estimates: Sequence[Estimate], quantity: str) -> str:
    """Return systems below each other with intervals.

    Args:
        name: What is shown.
        unit: Its unit.
        estimates: One per system, best first.
        quantity: "corrected" or "value".
    """
    with style(**_TEXT):
        known = [e for e in estimates if math.isfinite(getattr(e, quantity))]
        figure = Figure(figsize=(6.2, 0.7 + 0.27 * max(1, len(known))), layout="constrained")
        axes = figure.subplots()
        ends = ("corrected_low", "corrected_high") if quantity == "corrected" else ("low", "high")
        for place, one in enumerate(reversed(known)):
            low, high = (getattr(one, end) for end in ends)
            faint = one.trust in _DOUBTED
            colour = GREY if faint else BLUE
            if math.isfinite(low) and math.isfinite(high):
                axes.plot([low, high], [place, place], color=colour, lw=2, solid_capstyle="round")
            axes.plot([getattr(one, quantity)], [place], "o", color=colour, ms=5)
        if quantity == "corrected":
            axes.axvline(0, color=INK, lw=0.8, ls=":")
        axes.set_yticks(range(len(known)), [shown(e.system, 40) for e in reversed(known)])
        axes.set_xlabel(
            f"{name}, {quantity} [{unit}]" + ("; grey: not to be trusted" if quantity == "corrected" else "")
        )
        return svg(figure)
