"""The leaderboard of a suite: systems x values on one page that sorts and filters itself, without a network."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cdslm_eval.core.errors import StoreError, UsageError
from cdslm_eval.report.page import TRUST, Players
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.results.numbers import format_number, format_value
from cdslm_eval.results.standing import Standing, standings
from cdslm_eval.results.suite_result import PastValue, SuiteResult

__all__ = ["write_leaderboard"]

_WIDTH, _HEIGHT, _PAD = 220.0, 56.0, 6.0


@dataclass(frozen=True, slots=True)
class _Trace:
    """The history of one value of one system as a small drawing.

    Attributes:
        system, name: Whose.
        points: (x, y, y of low, y of high) in the drawing's units.
        said: The same in words, for those who do not see it.
        gap: x positions before which the metric's identity changed: values on both sides are not comparable.
    """

    system: str
    name: str
    points: tuple[tuple[float, float, float, float], ...]
    said: tuple[str, ...]
    gap: tuple[float, ...]

    @property
    def line(self) -> str:
        """SVG path through the points, broken where the identity changed."""
        steps = []
        for number, (x, y, _, _) in enumerate(self.points):
            steps.append(f"{'M' if number == 0 or x in self.gap else 'L'}{x:.1f} {y:.1f}")
        return " ".join(steps)


def write_leaderboard(result: SuiteResult, folder: Path) -> Path:
    """Write `index.html` and `result.json`.

    Args:
        result: The run.
        folder: Made when absent; files of an earlier report are replaced.

    Returns:
        The page.

    Raises:
        UsageError: The folder cannot be written.
        StoreError: The disk is full.
    """
    places = standings(result.scores.estimates, result.settings.get("references"))
    names = list(dict.fromkeys(one.name for one in result.scores.estimates))
    cells = {(one.system, one.name): one for one in result.scores.estimates}
    players = Players()
    worst = [
        (one, players.get(one.path, f"{one.system}, {one.key}"))
        for one in result.scores.exemplars
        if one.rank == "worst"
    ]
    script = (files("cdslm_eval.report") / "templates" / "leaderboard.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=PackageLoader("cdslm_eval.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = format_number
    page = environment.get_template("leaderboard.html.j2").render(
        result=result,
        names=names,
        some={one.name: one for one in result.scores.estimates},
        rows=[
            (system, [_cell(cells.get((system, name)), places) for name in names]) for system in result.scores.systems
        ],
        blocked=[one for one in result.cells if one.why_not],
        traces=_traces(result),
        worst=worst,
        players=players.all(),
        trust=TRUST,
        script=Markup(script),  # noqa: S704 - our own file
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        settings=json.dumps(dict(result.settings), indent=1, ensure_ascii=False, default=str),
        width=_WIDTH,
        height=_HEIGHT,
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").write_text(json.dumps(result.as_json(), indent=1, allow_nan=False), encoding="utf-8")
        # file names need not be UTF-8; what is not becomes a question mark
        (folder / "index.html").write_text(page, encoding="utf-8", errors="replace")
    except OSError as error:
        kind = StoreError if error.errno == 28 else UsageError
        raise kind(f"{folder}: the leaderboard cannot be written: {error.strerror}") from error
    return folder / "index.html"


def _cell(one: Estimate | None, places: dict[tuple[str, str], Standing]) -> dict[str, Any] | None:
    """Return what one place of the grid shows."""
    if one is None:
        return None
    headline = one.headline()
    standing = places.get((one.system, one.name))
    return {
        "estimate": one,
        "headline": headline,
        "kind": one.interval if headline.kind == "value" else headline.kind,
        "standing": standing,
        "sort": standing.key if standing else math.inf,
    }


def _traces(result: SuiteResult) -> list[_Trace]:
    """Return a trace of every value that recorded runs hold too, the present one last."""
    past: dict[tuple[str, str], list[PastValue]] = {}
    for one in result.past:
        past.setdefault((one.system, one.name), []).append(one)
    traces = []
    for now in result.scores.estimates:
        earlier = past.get((now.system, now.name), [])
        headline = now.headline()
        if earlier and headline.known:
            numbers = headline.value, headline.low, headline.high
            traces.append(_trace([*earlier, PastValue("now", "", now.system, now.name, now.identity, *numbers)]))
    return traces


def _trace(some: Sequence[PastValue]) -> _Trace:
    ends = [v for one in some for v in (one.value, one.low, one.high) if math.isfinite(v)]
    low, high = min(ends), max(ends)
    span = (high - low) or 1.0
    step = (_WIDTH - 2 * _PAD) / max(1, len(some) - 1)

    def y(value: float) -> float:
        """Return the height of a value in the drawing."""
        return _HEIGHT - _PAD - (value - low) / span * (_HEIGHT - 2 * _PAD)

    points, said, gap = [], [], []
    for number, one in enumerate(some):
        x = _PAD + number * step
        # where only bounds are known there is no point: the line passes through their middle, and the words say so
        point = one.value if math.isfinite(one.value) else (one.low + one.high) / 2
        ends_y = [y(v) if math.isfinite(v) else y(point) for v in (one.low, one.high)]
        points.append((x, y(point), ends_y[0], ends_y[1]))
        said.append(f"{one.run} {one.finished[:10]}: {format_value(one.value, one.low, one.high)}")
        if number and one.identity != some[number - 1].identity:
            gap.append(x)
    return _Trace(some[-1].system, some[-1].name, tuple(points), tuple(said), tuple(gap))
