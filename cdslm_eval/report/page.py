"""Writes a result as one HTML page: the answer first, everything behind it folded below."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cdslm_eval.report import figures
from cdslm_eval.report.html import environment, file_name, inline, own_script, write_files
from cdslm_eval.report.listen import Player, Players, takes_of
from cdslm_eval.report.matrix import matrix_of
from cdslm_eval.report.over_time import over_time_figures
from cdslm_eval.report.provenance import publishable
from cdslm_eval.report.summary import summarise_page
from cdslm_eval.results.channel_grid import channel_grids
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.results.numbers import decimals_of, format_interval
from cdslm_eval.results.ranking import shown_columns
from cdslm_eval.results.score_result import Exemplar, NgramContribution, ScoreResult

__all__ = ["TRUST", "write_report"]

_MAX_FAILURES = 200
_MAX_NGRAMS = 6
_ORDER = re.compile(r"(.*)_(\d+)")
TRUST = {
    "ok": "floor under 0.05 (of a bit, or of a distance's scale): the corrected value can be quoted",
    "sample_limited": "floor above that: corrected, but more speech would help",
    "acoustic": "no more than the system's channel alone makes of real speech: compare the matched value",
    "rank_deficient": "no more clips than dimensions: biased, so without an interval and not distinguished from others",
    "bounds_only": "floor above 0.25: believe the bounds, not the point",
}


def write_report(result: ScoreResult, folder: Path, *, private_paths: bool = False) -> Path:
    """Write `index.html`, `result.json` and `figures/*.svg`.

    Args:
        result: What was scored.
        folder: Made when absent; files of an earlier report are replaced.
        private_paths: Keep absolute paths and the list of installed distributions; a published page has neither.

    Returns:
        The page.

    Raises:
        UsageError: The folder cannot be written.
        StoreError: The disk is full.
    """
    summary = summarise_page(result)
    groups = _groups(result, summary.systems if summary else result.systems)
    real = {estimate.name: estimate for estimate in result.real}
    drawn = _figures(groups, real, summary.main if summary else "")
    tracked = over_time_figures(result.over_time)
    players = Players()
    takes = takes_of(result)
    exemplars = [(exemplar, _players_of(exemplar, players)) for exemplar in result.exemplars]
    in_cards = {player.anchor for player in players.all()}
    ngrams = {system: _ngrams(result, system, players) for system in result.systems}
    settings = dict(result.settings) if private_paths else publishable(dict(result.settings))
    templates = environment()
    templates.filters["plain"] = lambda value: max(0.0, value) if math.isfinite(value) else value
    inlined = [(name, inline(svg, number)) for number, (name, svg) in enumerate(drawn.items())]
    page = templates.get_template("report.html.j2").render(
        result=result,
        summary=summary,
        reference=settings.get("reference"),
        groups=groups,
        real=real,
        matrix=matrix_of(result, summary.systems) if summary else None,
        takes=takes,
        **own_script("listen.js"),
        columns={name: shown_columns(estimates) for name, estimates in groups.items()},
        scales={
            name: _scale([*estimates, *(entry for entry in result.real if entry.name == name)])
            for name, estimates in groups.items()
        },
        main_figure=inlined[:1],
        figures=inlined[1:],
        exemplars=exemplars,
        ngrams=ngrams,
        more_players=[player for player in players.all() if player.anchor not in in_cards],
        channel=channel_grids(result.channel, result.estimates),
        trust=TRUST,
        max_failures=_MAX_FAILURES,
        tracks=result.over_time,
        track_figures=[(name, inline(svg, len(drawn) + number)) for number, (name, svg) in enumerate(tracked.items())],
        settings=json.dumps(settings, indent=1, ensure_ascii=False, default=str),
        isfinite=math.isfinite,
        decimals_of=decimals_of,
        interval=format_interval,
    )
    saved = {**drawn, **{f"{name} over time": svg for name, svg in tracked.items()}}
    pictures = {f"figures/{number:02d}-{file_name(name)}.svg": svg for number, (name, svg) in enumerate(saved.items())}
    document = json.dumps({**result.as_json(), "settings": settings}, indent=1, allow_nan=False)
    write_files(folder, {**pictures, "result.json": document, "index.html": page})
    return folder / "index.html"


def _groups(result: ScoreResult, systems: Sequence[str]) -> dict[str, list[Estimate]]:
    """Return value name -> its estimates, in the page's order of systems."""
    groups: dict[str, list[Estimate]] = {}
    for estimate in sorted(result.estimates, key=lambda estimate: systems.index(estimate.system)):
        groups.setdefault(estimate.name, []).append(estimate)
    names = dict.fromkeys(estimate.name for estimate in result.estimates)
    return {name: groups[name] for name in names}


def _players_of(exemplar: Exemplar, players: Players) -> list[tuple[Player, bool]]:
    """Return the players of an exemplar (its clip, the reference clip that it copies), and whether each is new.

    A clip that an earlier card plays is linked to, not embedded again.
    """
    clips = [(exemplar.path, f"{exemplar.system}, {exemplar.key}")]
    if exemplar.original:
        clips.append((exemplar.original, f"reference, {Path(exemplar.original).name}"))
    result = []
    for path, label in clips:
        is_new = path not in players
        player = players.get(path, label)
        if player is not None:
            result.append((player, is_new))
    return result


def _figures(groups: dict[str, list[Estimate]], real: dict[str, Estimate], main: str) -> dict[str, str]:
    """Return name -> SVG: the main value first, then divergences by order, then the other values."""
    divergences: dict[str, dict[int, list[Estimate]]] = {}
    for name, estimates in groups.items():
        match = _ORDER.fullmatch(name)
        if match and any(estimate.interval == "bounds" for estimate in estimates):
            divergences.setdefault(match[1], {})[int(match[2])] = estimates
    drawn: dict[str, str] = {}
    if main:
        drawn[main] = figures.side_by_side(main, groups[main][0].unit, groups[main], real.get(main))
    for name, orders in divergences.items():
        for system in dict.fromkeys(e.system for estimates in orders.values() for e in estimates):
            own = [next((e for e in orders[n] if e.system == system), None) for n in sorted(orders)]
            known = [estimate for estimate in own if estimate is not None and math.isfinite(estimate.value)]
            if len(known) == len(orders):
                drawn[f"{name} by order, {system}"] = figures.by_order(system, known, sorted(orders))
    for name, estimates in groups.items():
        bounded = any(estimate.interval == "bounds" for estimate in estimates)
        if name != main and not bounded and any(math.isfinite(estimate.value) for estimate in estimates):
            drawn[name] = figures.side_by_side(name, estimates[0].unit, estimates, real.get(name))
    return drawn


def _ngrams(
    result: ScoreResult, system: str, players: Players
) -> dict[str, list[tuple[NgramContribution, list[Player]]]]:
    """Return the top contributing n-grams of a system, over- and under-used, each with clips that hold it."""
    sides: dict[str, list[tuple[NgramContribution, list[Player]]]] = {}
    for title, over in (("Over-used", True), ("Under-used", False)):
        own = [ngram for ngram in result.contributions if ngram.system == system and ngram.overused == over]
        rows = []
        for order in sorted({ngram.order for ngram in own}):
            for ngram in [ngram for ngram in own if ngram.order == order][:_MAX_NGRAMS]:
                owner = system if over else "reference"
                paths = [(result.clip_paths.get((owner, key)), key) for key in ngram.clips[:1]]
                linked = [players.get(path, f"{owner}, {key}") for path, key in paths if path]
                rows.append((ngram, [player for player in linked if player is not None]))
        sides[title] = rows
    return sides


def _scale(estimates: Sequence[Estimate]) -> dict[str, Any]:
    """Return the axis that the small drawings of one table share: position of a value in 0..100, and of zero."""
    ends = [v for e in estimates for v in (e.value, e.low, e.high, e.floor) if math.isfinite(v)]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    low = min(low, 0.0) if low < 0.2 * high else low
    span = high - low
    if span <= 0:  # all one number: in the middle
        low, span = low - 0.5, 1.0

    def at(value: float) -> float:
        """Return the position of a value."""
        return round(100 * (value - low) / span, 2)

    return {"at": at, "zero": at(0.0) if low <= 0 <= low + span else None, "low": low, "high": low + span}
