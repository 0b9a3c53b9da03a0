"""Puts a result on one HTML page; whatever strangers wrote is escaped."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdslm_eval.core.errors import AudioError
from cdslm_eval.report import figures
from cdslm_eval.report.html import environment, file_name, inline, write_files
from cdslm_eval.report.listen import data_uri
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.results.numbers import decimals_of, format_interval
from cdslm_eval.results.ranking import ranked, shown_columns
from cdslm_eval.results.score_result import Exemplar, NgramContribution, ScoreResult

__all__ = ["TRUST", "Players", "write_report"]

_MAX_FAILURES = 200
_MAX_NGRAMS = 6
_MAX_EMBEDDED = 80
_ORDER = re.compile(r"(.*)_(\d+)")
TRUST = {
    "ok": "floor under 0.05 (of a bit, or of a distance's scale): the corrected value can be quoted",
    "sample_limited": "floor above that: corrected, but more speech would help",
    "rank_deficient": "no more clips than dimensions: biased, so without an interval and not told apart from others",
    "bounds_only": "floor above 0.25: believe the bounds, not the point",
}


@dataclass(frozen=True, slots=True)
class _Player:
    """A clip on the page: its anchor, and its audio or why there is none."""

    anchor: str
    label: str
    uri: str
    problem: str


class Players:
    """Embeds each clip once, up to a number of them."""

    def __init__(self) -> None:
        self._by_path: dict[str, _Player] = {}

    def get(self, path: str, label: str) -> _Player | None:
        """Return the player of a file, or None when the page is full."""
        if path not in self._by_path:
            if len(self._by_path) >= _MAX_EMBEDDED:
                return None
            anchor = f"clip-{len(self._by_path)}"
            try:
                self._by_path[path] = _Player(anchor, label, data_uri(path), "")
            except AudioError as error:
                self._by_path[path] = _Player(anchor, label, "", str(error))
        return self._by_path[path]

    def all(self) -> list[_Player]:
        """Return the players, in the order in which they were asked for."""
        return list(self._by_path.values())


def write_report(result: ScoreResult, folder: Path) -> Path:
    """Write `index.html`, `result.json` and `figures/*.svg`.

    Args:
        result: What was scored.
        folder: Made when absent; files of an earlier report are replaced.

    Returns:
        The page.

    Raises:
        UsageError: The folder cannot be written.
        StoreError: The disk is full.
    """
    groups: dict[str, list[Estimate]] = {}
    for one in result.estimates:
        groups.setdefault(one.name, []).append(one)
    groups = {name: ranked(some) for name, some in groups.items()}
    drawn = _figures(result, groups)
    players = Players()
    exemplars = [(one, _heard(one, players)) for one in result.exemplars]
    ngrams = {system: _ngrams(result, system, players) for system in result.systems}
    templates = environment()
    templates.filters["plain"] = lambda value: max(0.0, value) if math.isfinite(value) else value
    page = templates.get_template("report.html.j2").render(
        result=result,
        groups=groups,
        columns={name: shown_columns(some) for name, some in groups.items()},
        scales={name: _scale(some) for name, some in groups.items()},
        figures=[(name, inline(svg, place)) for place, (name, svg) in enumerate(drawn.items())],
        exemplars=exemplars,
        ngrams=ngrams,
        players=players.all(),
        trust=TRUST,
        max_failures=_MAX_FAILURES,
        settings=json.dumps(dict(result.settings), indent=1, ensure_ascii=False, default=str),
        isfinite=math.isfinite,
        decimals_of=decimals_of,
        interval=format_interval,
    )
    pictures = {f"figures/{place:02d}-{file_name(name)}.svg": svg for place, (name, svg) in enumerate(drawn.items())}
    document = json.dumps(result.as_json(), indent=1, allow_nan=False)
    write_files(folder, {**pictures, "result.json": document, "index.html": page})
    return folder / "index.html"


def _heard(one: Exemplar, players: Players) -> list[_Player]:
    """Return the players of an exemplar: the clip, and the reference clip that it copies."""
    found = [players.get(one.path, f"{one.system}, {one.key}")]
    if one.original:
        found.append(players.get(one.original, f"reference, {Path(one.original).name}"))
    return [player for player in found if player is not None]


def _figures(result: ScoreResult, groups: dict[str, list[Estimate]]) -> dict[str, str]:
    """Return name -> SVG: the overview first, then one figure per system, then other metrics."""
    divergences: dict[str, dict[int, list[Estimate]]] = {}
    for name, some in groups.items():
        match = _ORDER.fullmatch(name)
        if match and any(one.interval == "bounds" for one in some):
            divergences.setdefault(match[1], {})[int(match[2])] = some
    drawn: dict[str, str] = {}
    for name, orders in divergences.items():
        chosen = 2 if 2 in orders else min(orders)
        some = orders[chosen]
        drawn[f"{name}_{chosen}"] = figures.side_by_side(f"{name}_{chosen}", some[0].unit, some)
        for system in result.systems:
            own = [next((one for one in orders[n] if one.system == system), None) for n in sorted(orders)]
            present = [one for one in own if one is not None and math.isfinite(one.value)]
            if len(present) == len(orders):
                drawn[f"{name} by order, {system}"] = figures.by_order(system, present, sorted(orders))
    for name, some in groups.items():
        if not any(one.interval == "bounds" for one in some) and any(math.isfinite(one.value) for one in some):
            drawn[name] = figures.side_by_side(name, some[0].unit, some)
    return drawn


def _ngrams(
    result: ScoreResult, system: str, players: Players
) -> dict[str, list[tuple[NgramContribution, list[_Player]]]]:
    """Return the heaviest n-grams of a system, over- and under-used, each with clips to hear it in."""
    found: dict[str, list[tuple[NgramContribution, list[_Player]]]] = {}
    for title, over in (("Over-used", True), ("Under-used", False)):
        mine = [one for one in result.contributions if one.system == system and one.overused == over]
        rows = []
        for order in sorted({one.order for one in mine}):
            for one in [c for c in mine if c.order == order][:_MAX_NGRAMS]:
                owner = system if over else "reference"
                paths = [(result.clip_paths.get((owner, key)), key) for key in one.clips[:1]]
                heard = [players.get(path, f"{owner}, {key}") for path, key in paths if path]
                rows.append((one, [player for player in heard if player is not None]))
        found[title] = rows
    return found


def _scale(estimates: Sequence[Estimate]) -> dict[str, Any]:
    """Return the axis of the small interval drawings of one table: offset and factor to 0..100."""
    ends = [v for one in estimates for v in (one.value, one.low, one.high, one.floor) if math.isfinite(v)]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    low = min(low, 0.0) if low < 0.2 * high else low
    span = (high - low) or 1.0
    return {"at": lambda value: round(100 * (value - low) / span, 2)}
