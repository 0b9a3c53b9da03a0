"""Estimates as text: a terminal table, CSV, Markdown."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from cdslm_eval.core.printable import printable, spreadsheet_cell
from cdslm_eval.report.markdown import escape
from cdslm_eval.results.channel import ChannelReport
from cdslm_eval.results.channel_grid import channel_grids
from cdslm_eval.results.estimate import Estimate, Quantity
from cdslm_eval.results.export import Grid
from cdslm_eval.results.numbers import decimals_of, format_interval, format_number
from cdslm_eval.results.over_time import track_lines
from cdslm_eval.results.ranking import ranked, shown_columns
from cdslm_eval.results.recognition_gain import RecognitionGain, gain_lines
from cdslm_eval.results.score_result import Failure, ScoreResult

__all__ = [
    "FORMATS",
    "comma_separated",
    "context_lines",
    "failure_lines",
    "grid_markdown",
    "grid_table",
    "records_csv",
    "tab_separated",
]

_ARROWS = {"lower": "↓", "higher": "↑", "neither": ""}


def _cells(one: Estimate) -> list[str]:
    digits = decimals_of(one.low, one.high)
    interval = format_interval(one.low, one.high)
    corrected = str(Quantity("corrected", one.corrected, one.corrected_low, one.corrected_high))
    if not (math.isfinite(one.corrected_low) or math.isfinite(one.corrected_high)):
        corrected = format_number(one.corrected, digits)  # an estimate without an interval has no digits of its own
    counts = f"{one.n_scored}/{one.n_failed}/{one.n_skipped}"
    held_out = format_number(max(0.0, one.lower_bound) if math.isfinite(one.lower_bound) else None, digits)
    value, floor = format_number(one.value, digits), format_number(one.floor, digits)
    return [one.system, value, interval, floor, corrected, held_out, one.trust, counts]


_HEADINGS = ("system", "value", "low … high", "floor", "corrected (95 %)", "held-out", "trust", "ok/failed/skipped")


def _real_cells(estimates: Sequence[Estimate], real: Sequence[Estimate]) -> list[str]:
    """Return the row of real speech: its own value, or the floor, which is real against real; else nothing."""
    for estimate in real:
        if estimate.name == estimates[0].name and math.isfinite(estimate.value):
            return _cells(estimate)
    floors = [estimate.floor for estimate in estimates if math.isfinite(estimate.floor)]
    if not floors:
        return []
    low, high = format_number(min(floors), 3), format_number(max(floors), 3)
    floor = low if low == high else f"{low} … {high}"
    return ["real speech", floor, "", floor, "0" if estimates[0].trust else "", "0", "", ""]


def _groups(result: ScoreResult) -> dict[str, list[Estimate]]:
    groups: dict[str, list[Estimate]] = {}
    for estimate in result.estimates:
        groups.setdefault(estimate.name, []).append(estimate)
    return {name: ranked(group) for name, group in groups.items()}


def table(result: ScoreResult) -> str:
    """Return one table per value name for a terminal, best system first."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=io.StringIO(), width=132, force_terminal=False)
    reasons = {failure.reason for failure in result.failures if failure.reason}
    for name, group in _groups(result).items():
        first = group[0]
        kind = f", {first.interval}" if first.interval else ""
        title = f"{name} {_ARROWS[first.better]} [{first.unit or 'no unit'}{kind}] {first.identity}"
        if first.common_phones:
            title += f", held-out at {first.common_phones} phones a side"
        shown = shown_columns(group)
        there = (True, True, True, shown.floor, shown.trust, shown.held_out, shown.trust, True)
        chosen = [index for index, used in enumerate(there) if used]
        # a table's own title is wrapped at the width of the table
        console.print(Text(title), soft_wrap=True)
        view = Table(box=None, pad_edge=False)
        for column in chosen:
            view.add_column(_HEADINGS[column], justify="left" if column in (0, 6) else "right", no_wrap=column != 0)
        if real := _real_cells(group, result.real):
            view.add_row(*(Text(real[column]) for column in chosen))
        for estimate in group:
            view.add_row(*(Text(printable(_cells(estimate)[column])) for column in chosen))
        console.print(view)
        for note in _notes(group, reasons):
            console.print(Text(f"  {printable(note)}"))
        console.print()
    for line in context_lines(result.channel, result.estimates, result.recognition_gain):
        console.print(Text(line), soft_wrap=True)
    for line in track_lines(result.over_time):
        console.print(Text(printable(line)), soft_wrap=True)
    lost = len(result.failures)
    if lost:
        console.print(Text(f"{lost} clip results failed or were skipped (see --json or the report):"))
        lines = failure_lines(result.failures)
        for line in lines[:10]:
            console.print(Text(f"  {printable(line)}"), soft_wrap=True)
        if len(lines) > 10:
            console.print(Text(f"  (+{len(lines) - 10} more reasons)"))
    output = console.file
    assert isinstance(output, io.StringIO)
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines()) + "\n"


def _notes(estimates: Sequence[Estimate], reasons: Collection[str]) -> Iterator[str]:
    """Yield why systems are not ranked, unknown or not to be trusted, but for reasons that are listed once for all."""
    short = [estimate.clips_for_ok for estimate in estimates if math.isfinite(estimate.clips_for_ok)]
    if short:
        yield f"trust: about {math.ceil(max(short))} clips (or speakers) a side would make all of these ok"
    for estimate in estimates:
        if estimate.outside:
            yield f"{estimate.system} is not ranked: {estimate.outside}"
        listed = any(reason in estimate.reason for reason in reasons)
        if estimate.reason and not listed and (_is_open(estimate) or estimate.trust == "rank_deficient"):
            yield f"{estimate.system}: {estimate.reason}"


def _is_open(estimate: Estimate) -> bool:
    """Return whether the value, or an end of its interval, is not known."""
    return not all(map(math.isfinite, (estimate.value, estimate.low, estimate.high)))


def failure_lines(failures: Sequence[Failure]) -> list[str]:
    """Return one line per system, metric and reason, with the clips it holds for: all of them by count, few by name."""
    groups: dict[tuple[str, str, str, str], list[str]] = {}
    for failure in failures:
        groups.setdefault((failure.system, failure.metric, failure.status, failure.reason), []).append(failure.clip)
    lines = []
    for (system, metric, status, reason), clips in groups.items():
        if len(clips) == 1:
            lines.append(f"{system}/{clips[0]}, {metric}: {status}: {reason}")
        else:
            names = ", ".join(clips[:3]) + (", …" if len(clips) > 3 else "")
            lines.append(f"{system}, {metric}: {len(clips)} clips {status}: {reason} ({names})")
    return lines


def grid_table(grid: Grid, width: int = 120) -> str:
    """Return a table for a terminal of a width in characters."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=io.StringIO(), width=width)
    view = Table(title=Text(printable(grid.title)), box=None, title_justify="left")
    for number, heading in enumerate(grid.columns):
        view.add_column(printable(heading), justify="left" if number in grid.left else "right")
    for row in grid.rows:
        view.add_row(*(Text(printable(cell)) for cell in row))
    console.print(view)
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue().rstrip()


def context_lines(
    channel: ChannelReport | None, estimates: Sequence[Estimate], gains: Sequence[RecognitionGain]
) -> Iterator[str]:
    """Yield what channel and recognizer make of the values of a run, as lines for a terminal of 132 characters."""
    for grid in channel_grids(channel, estimates):
        yield grid_table(grid, 132)
        yield from (f"  {printable(note)}" for note in grid.notes)
        yield ""
    for line in gain_lines(gains):
        yield printable(line)
        yield ""


def latex(result: ScoreResult) -> str:
    """Return booktabs tables, one per metric."""
    return result.to_latex()


def comma_separated(result: ScoreResult, *, raw: bool = False) -> str:
    """Return the estimates as CSV with every JSON field; unknown numbers are empty."""
    return records_csv([estimate.as_json() for estimate in result.estimates], raw=raw)


def tab_separated(result: ScoreResult, *, raw: bool = False) -> str:
    """Return the estimates as TSV: the fields of the CSV between tabs."""
    return records_csv([estimate.as_json() for estimate in result.estimates], raw=raw, separator="\t")


def records_csv(records: Sequence[Mapping[str, Any]], *, raw: bool = False, separator: str = ",") -> str:
    """Return records as CSV or TSV; a field that a record lacks is empty.

    Args:
        records: Their fields by name.
        separator: What stands between cells; those that hold it are quoted.
        raw: Write text as it is; otherwise cells that a spreadsheet would run as a formula are guarded.
    """
    out = io.StringIO()
    if records:
        # only some values have the columns of the channel
        columns = list(dict.fromkeys(name for record in records for name in record))
        writer = csv.DictWriter(out, columns, lineterminator="\n", restval="", delimiter=separator)
        writer.writeheader()
        for record in records:
            writer.writerow(record if raw else {name: spreadsheet_cell(cell) for name, cell in record.items()})
    return out.getvalue()


def markdown(result: ScoreResult) -> str:
    """Return one Markdown table per value name, best system first."""
    lines: list[str] = []
    for name, group in _groups(result).items():
        first = group[0]
        lines += [f"### {escape(name)} {_ARROWS[first.better]} ({escape(first.unit)})", ""]
        lines += ["| " + " | ".join(_HEADINGS) + " |", "|" + "---|" * len(_HEADINGS)]
        own = _real_cells(group, result.real)
        real = [own] if own else []
        lines += ["| " + " | ".join(map(escape, row)) + " |" for row in (*real, *map(_cells, group))]
        lines.append("")
    lines += map(grid_markdown, channel_grids(result.channel, result.estimates))
    return "\n".join([*lines, *(f"- {escape(line)}\n" for line in gain_lines(result.recognition_gain))])


def grid_markdown(grid: Grid) -> str:
    """Return a table as Markdown, its title above and its notes below."""
    lines = [f"### {escape(grid.title)}", "", "| " + " | ".join(map(escape, grid.columns)) + " |"]
    lines.append("|" + "---|" * len(grid.columns))
    lines += ["| " + " | ".join(map(escape, row)) + " |" for row in grid.rows]
    return "\n".join([*lines, "", *(f"- {escape(note)}" for note in grid.notes), ""])


FORMATS: Mapping[str, Callable[[ScoreResult], str]] = {
    "table": table,
    "csv": comma_separated,
    "tsv": tab_separated,
    "md": markdown,
    "latex": latex,
}
