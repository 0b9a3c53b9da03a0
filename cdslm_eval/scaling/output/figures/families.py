"""The figure of families: their optima along compute, the best size of their budgets, and the compute they need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cdslm_eval.core.drawing import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, shown
from cdslm_eval.scaling.families import plausible
from cdslm_eval.scaling.frontier import Band
from cdslm_eval.scaling.multiplier import multiplier_band
from cdslm_eval.scaling.output.figures.parts import (
    arrows,
    band,
    canvas,
    floor_line,
    label,
    legend_below,
    logarithmic,
    paper_style,
    points,
)

if TYPE_CHECKING:
    from cdslm_eval.scaling.families import Families, Member

__all__ = ["caption", "compared_families"]

Floats = npt.NDArray[np.float64]
# inks that pages turn dark; markers and dashes tell groups apart beyond five, and without colour
_INKS = (BLUE, ORANGE, GREEN, PURPLE, INK)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ("-", "--", "-.", ":")


def compared_families(families: Families) -> Figure | None:
    """Draw families beside each other; None where no group has a law or budgets with an optimum."""
    panels = list(_panels(families))
    if not panels:
        return None
    with paper_style():
        figure, all_axes = canvas(len(panels), width=3.0, height=2.9)
        for axes, draw in zip(all_axes, panels, strict=True):
            draw(axes, families)
        named = all_axes[0]
        longest = max(len(member.name) for member in families.members)
        legend_below(figure, named, columns=max(1, min(4, int(2.2 * len(panels) * 16 / (longest + 6)))))
    return figure


def caption(families: Families) -> str:
    """Return a caption of the panels that `compared_families` draws."""
    described: dict[Callable[[Axes, Families], None], str] = {
        _frontiers: "rows with the metric at the optimum of each group's law",
        _sizes: "the best size of each group's budgets, fitted by themselves",
    }
    if families.multipliers:
        against = shown(families.multipliers[0].against, 40)
        described[_multipliers] = f"the compute that a group needs for what {against} reaches with C"
    panels = "; ".join(described[panel] for panel in _panels(families))
    return (
        f"Groups side by side, one colour and marker each: {panels}. Bands and whiskers: intervals; arrows: intervals "
        "that leave the frame."
    )


def _panels(families: Families) -> Iterator[Callable[[Axes, Families], None]]:
    if any(_has_frontier(families, member) for member in families.members):
        yield _frontiers
    if any(member.isoflops is not None and member.isoflops.optima for member in families.members):
        yield _sizes
    if families.compared is not None and any(np.isfinite(m.value) for m in families.multipliers):
        yield _multipliers


def _ink(families: Families, name: str) -> tuple[str, str, str]:
    """Return colour, marker and dash of a group."""
    place = [member.name for member in families.members].index(name)
    return _INKS[place % len(_INKS)], _MARKERS[place % len(_MARKERS)], _DASHES[place // len(_INKS) % len(_DASHES)]


def _has_frontier(families: Families, member: Member) -> bool:
    law = families.compared.laws[member.name] if families.compared is not None else member.fit and member.fit.law
    return bool(law and law.has_optimum)


def _frontiers(axes: Axes, families: Families) -> None:
    """Draw rows, and the metric at each group's optimum."""
    low, high = np.inf, -np.inf
    for member in families.members:
        ink, marker, dash = _ink(families, member.name)
        values = member.table.metric(families.metric)
        low, high = min(low, np.nanmin(values)), max(high, np.nanmax(values))
        axes.plot(member.table.C, values, marker, color=ink, ms=2.4, alpha=0.45, mew=0, ls="none")
        axes.plot([], [], dash, marker=marker, color=ink, ms=4.0, lw=1.3, label=label(member.name, 40))
        if _has_frontier(families, member):
            band(axes, _frontier(families, member), color=ink, line=dash)
    margin = 0.04 * (high - low)
    # intervals of a law that the data do not determine leave the frame
    axes.set_ylim(low - margin, high + margin)
    logarithmic(axes, name="C [FLOP]")
    axes.set_ylabel(label(families.metric, 40))


def _frontier(families: Families, member: Member) -> Band:
    """Return the metric at the optimum along the group's budgets: of the joint fit, else of its own."""
    C = np.geomspace(member.table.C.min(), member.table.C.max(), 60)
    fit, draws = families.compared, member.bootstrap
    if fit is not None:
        law, draws = fit.laws[member.name], fit.draws.get(member.name)
    else:
        assert member.fit is not None
        law = member.fit.law
    unknown = np.full(len(C), np.nan)
    with np.errstate(all="ignore"):
        low, high = (unknown, unknown) if draws is None else draws.optimum(C, families.level).loss
        return Band(C, law.optimum(C).loss, low, high)


def _sizes(axes: Axes, families: Families) -> None:
    """Draw N* of each group's budgets, and the power law through them."""
    drawn = []
    for member in families.members:
        if member.isoflops is None or not member.isoflops.optima:
            continue
        ink, marker, dash = _ink(families, member.name)
        optima = member.isoflops.optima
        C, N = (np.array([getattr(budget, name) for budget in optima]) for name in ("C", "N"))
        low, high = np.array([budget.N_interval for budget in optima]).T
        points(axes, C, N, low, high, color=ink, marker=marker)
        drawn.append((C, low, high, ink))
        if member.isoflops.N_law is not None:
            grid = np.geomspace(C.min(), C.max(), 40)
            axes.plot(grid, member.isoflops.N_law.value(grid), dash, color=ink, lw=1.0)
    sizes = np.concatenate([member.table.N for member in families.members])
    axes.set_ylim(sizes.min() / 1.1, sizes.max() * 1.1)
    for C, low, high, ink in drawn:
        arrows(axes, C, low, high, color=ink)
    logarithmic(axes, y=True, name="C [FLOP]")
    axes.set_ylabel("N*, parameters")


def _multipliers(axes: Axes, families: Families) -> None:
    """Draw the compute of each group over that of the one they are compared with, against the latter's."""
    fit = families.compared
    assert fit is not None
    fits = plausible(families.joint, fit)
    against = families.multipliers[0].against
    base = next(member for member in families.members if member.name == against)
    C = np.geomspace(base.table.C.min(), base.table.C.max(), 60)
    curve, drawn = fit.laws[against].curve, [np.array([0.8, 1.25])]
    for multiplier in families.multipliers:
        ink, _, dash = _ink(families, multiplier.group)
        with np.errstate(all="ignore"):
            value = np.asarray(fit.laws[multiplier.group].curve.reach(curve.frontier(C))) / C
            ends = multiplier_band(fits, multiplier.group, against, C, families.level)
        value = np.where(np.isfinite(value), value, np.nan)
        low, high = ends if ends is not None else (np.full(len(C), np.nan),) * 2
        band(axes, Band(C, value, low, np.where(np.isinf(high), 1e6, high)), color=ink, line=dash)
        drawn += [value[np.isfinite(value)], low[np.isfinite(low)], high[np.isfinite(high)]]
    every = np.concatenate(drawn)
    # one group whose law hardly reaches the other's would flatten all others
    axes.set_ylim(max(every.min() / 1.1, 0.01), min(every.max() * 1.1, 100.0))
    floor_line(axes, 1.0, "", GREY)
    logarithmic(axes, y=True, name=f"C of {label(against, 30)} [FLOP]")
    axes.set_ylabel(f"compute / that of {label(against, 24)}")
