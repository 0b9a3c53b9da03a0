"""The leaderboard of a suite: systems x values on one page that sorts and filters itself, without a network."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdslm_eval.report.html import environment, own_script, write_files
from cdslm_eval.report.listen import Players, takes_of
from cdslm_eval.report.matrix import matrix_of
from cdslm_eval.report.page import TRUST
from cdslm_eval.report.provenance import publishable
from cdslm_eval.report.summary import SummaryCell, real_cell
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.results.numbers import decimals_beside, decimals_of, format_interval, format_number, format_value
from cdslm_eval.results.suite_result import PastValue, SuiteResult
from cdslm_eval.stats.standing import Standing, standings

__all__ = ["write_leaderboard"]

_WIDTH, _HEIGHT, _PAD = 220.0, 56.0, 6.0


@dataclass(frozen=True, slots=True)
class _Trace:
    """The history of one value of one system as a small drawing.

    Attributes:
        system, name: System and value.
        points: (x, y, y of low, y of high) in the drawing's units.
        texts: The same as text, for screen readers.
        gap: x positions before which the metric's identity changed: values on both sides are not comparable.
    """

    system: str
    name: str
    points: tuple[tuple[float, float, float, float], ...]
    texts: tuple[str, ...]
    gap: tuple[float, ...]

    @property
    def line(self) -> str:
        """SVG path through the points, broken where the identity changed."""
        steps = []
        for number, (x, y, _, _) in enumerate(self.points):
            steps.append(f"{'M' if number == 0 or x in self.gap else 'L'}{x:.1f} {y:.1f}")
        return " ".join(steps)


def write_leaderboard(result: SuiteResult, folder: Path, *, private_paths: bool = False) -> Path:
    """Write `index.html` and `result.json`.

    Args:
        result: The run.
        folder: Made when absent; files of an earlier report are replaced.
        private_paths: Keep absolute paths and the list of installed distributions; a published page has neither.

    Returns:
        The page.

    Raises:
        UsageError: The folder cannot be written.
        StoreError: The disk is full.
    """
    places = standings(result.scores.estimates, result.settings.get("references"))
    names = list(dict.fromkeys(estimate.name for estimate in result.scores.estimates))
    cells = {(estimate.system, estimate.name): estimate for estimate in result.scores.estimates}
    players = Players()
    worst = []
    for exemplar in result.scores.exemplars:
        if exemplar.rank == "worst":
            is_new = exemplar.path not in players
            worst.append((exemplar, players.get(exemplar.path, f"{exemplar.system}, {exemplar.key}"), is_new))
    takes = takes_of(result.scores)
    settings = dict(result.settings) if private_paths else publishable(dict(result.settings))
    page = (
        environment()
        .get_template("leaderboard.html.j2")
        .render(
            result=result,
            names=names,
            first_of={estimate.name: estimate for estimate in reversed(result.scores.estimates)},
            rows=[
                (system, [_cell(cells.get((system, name)), places) for name in names])
                for system in result.scores.systems
            ],
            blocked=[cell for cell in result.cells if cell.why_not],
            traces=_traces(result),
            worst=worst,
            trust=TRUST,
            real=_real_row(result, names),
            matrix=matrix_of(result.scores, result.scores.systems),
            takes=takes,
            decimals_of=decimals_of,
            decimals_beside=decimals_beside,
            interval=format_interval,
            **own_script("leaderboard.js", *(["listen.js"] if takes else [])),
            settings=json.dumps(settings, indent=1, ensure_ascii=False, default=str),
            width=_WIDTH,
            height=_HEIGHT,
        )
    )
    document = json.dumps({**result.as_json(), "settings": settings}, indent=1, allow_nan=False)
    write_files(folder, {"result.json": document, "index.html": page})
    return folder / "index.html"


def _cell(estimate: Estimate | None, places: dict[tuple[str, str], Standing]) -> dict[str, Any] | None:
    """Return what one cell of the grid shows."""
    if estimate is None:
        return None
    headline = estimate.headline()
    standing = places.get((estimate.system, estimate.name))
    return {
        "estimate": estimate,
        "headline": headline,
        "kind": estimate.interval if headline.kind == "value" else headline.kind,
        "standing": standing,
        "sort": standing.key if standing else math.inf,
        "floor": format_number(estimate.floor, headline.decimals),
    }


def _real_row(result: SuiteResult, names: Sequence[str]) -> list[SummaryCell]:
    """Return the cells of real speech; none where systems have different references."""
    real = {estimate.name: estimate for estimate in result.scores.real}
    if not real and len(set((result.settings.get("references") or {}).values())) != 1:
        return []
    estimates = result.scores.estimates
    return [real_cell([estimate for estimate in estimates if estimate.name == name], real.get(name)) for name in names]


def _traces(result: SuiteResult) -> list[_Trace]:
    """Return a trace of every value that recorded runs hold too, the present one last."""
    past: dict[tuple[str, str], list[PastValue]] = {}
    for value in result.past:
        past.setdefault((value.system, value.name), []).append(value)
    traces = []
    for now in result.scores.estimates:
        earlier = past.get((now.system, now.name), [])
        headline = now.headline()
        if earlier and headline.known:
            numbers = headline.value, headline.low, headline.high
            traces.append(_trace([*earlier, PastValue("now", "", now.system, now.name, now.identity, *numbers)]))
    return traces


def _trace(values: Sequence[PastValue]) -> _Trace:
    ends = [number for value in values for number in (value.value, value.low, value.high) if math.isfinite(number)]
    low, high = min(ends), max(ends)
    span = (high - low) or 1.0
    step = (_WIDTH - 2 * _PAD) / max(1, len(values) - 1)

    def y(number: float) -> float:
        """Return the height of a number in the drawing."""
        return _HEIGHT - _PAD - (number - low) / span * (_HEIGHT - 2 * _PAD)

    points, texts, gap = [], [], []
    for index, value in enumerate(values):
        x = _PAD + index * step
        # where only bounds are known there is no point: the line passes through their middle, and the text states it
        point = value.value if math.isfinite(value.value) else (value.low + value.high) / 2
        ends_y = [y(end) if math.isfinite(end) else y(point) for end in (value.low, value.high)]
        points.append((x, y(point), ends_y[0], ends_y[1]))
        texts.append(f"{value.run} {value.finished[:10]}: {format_value(value.value, value.low, value.high)}")
        if index and value.identity != values[index - 1].identity:
            gap.append(x)
    return _Trace(values[-1].system, values[-1].name, tuple(points), tuple(texts), tuple(gap))
