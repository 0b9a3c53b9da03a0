"""Figures of values by position in the clip: one per value, a line per system."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from cdslm_eval.core.drawing import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, gap, shown, style, svg
from cdslm_eval.results.over_time import Track

__all__ = ["over_time_figures"]

_TEXT: Any = {"svg__fonttype": "none", "text__parse_math": False}
_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, INK)


def over_time_figures(tracks: Sequence[Track]) -> dict[str, str]:
    """Return the name of each value -> its SVG, with the intervals of each window; real speech is grey."""
    groups: dict[str, list[Track]] = {}
    for track in tracks:
        groups.setdefault(track.name, []).append(track)
    return {
        name: _figure(name, group)
        for name, group in groups.items()
        if any(math.isfinite(value) for track in group for value in (*track.values, *track.highs))
    }


def _figure(name: str, tracks: Sequence[Track]) -> str:
    systems = [track.system for track in tracks if not track.is_real]
    with style(**_TEXT):
        figure = Figure(figsize=(4.4, 2.9), layout="constrained")
        axes = figure.subplots()
        for number, track in enumerate(tracks):
            colour = GREY if track.is_real else _COLOURS[systems.index(track.system) % len(_COLOURS)]
            # side by side, so that the intervals of systems do not cover each other
            shift = track.window_s * (0.5 + 0.06 * (number - (len(tracks) - 1) / 2))
            middles = [start + shift for start in track.starts_s]
            look = "o--" if track.is_real else "o-"
            label = shown(f"{track.system}: {track.verdict or 'no slope'}", 40)
            axes.plot(middles, [gap(value) for value in track.values], look, color=colour, ms=3.5, lw=1.2, label=label)
            lows, highs = [gap(low) for low in track.lows], [gap(high) for high in track.highs]
            axes.vlines(middles, lows, highs, color=colour, lw=1)
        axes.set(xlabel="seconds from the beginning of the clip", ylabel=tracks[0].unit or "value")
        axes.set_title(shown(name, 60), loc="left", fontsize=9, fontweight="bold")
        axes.legend(frameon=False, fontsize=7.5)
        return svg(figure)
