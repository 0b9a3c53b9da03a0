"""`plugins`, `metrics`, `pairs`, `doctor` and a list per kind of component: what is there, and what is usable here."""

from __future__ import annotations

import inspect
import os
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cdslm_eval.cli import common
from cdslm_eval.cli.score import IgnoreColumnsOption
from cdslm_eval.core import defaults
from cdslm_eval.core.printable import printable, printable_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdslm_eval.plugin.host import Registered

__all__ = ["add_to"]

_PIPE_WIDTH = 100_000
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (plugins, metrics, recognizers, transcribers, generators, executors, pairs, doctor):
        app.command(name=command.__name__)(command)


def _show(rows: list[dict[str, Any]], columns: tuple[str, ...], as_json: bool) -> None:
    """Print rows as a table, or as a few lines each where a table would cut or break its cells."""
    if as_json:
        common.write_json("-", rows)
        return
    from rich.cells import cell_len, set_cell_size

    cells = [
        [column.replace("_", " ") for column in columns],
        *([_text(row[name]) for name in columns] for row in rows),
    ]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    if sum(widths) + 2 * (len(widths) - 1) <= _screen_width():
        for line in cells:
            padded = (set_cell_size(cell, width) for cell, width in zip(line, widths, strict=True))
            typer.echo("  ".join(padded).rstrip())
        return
    for line in cells[1:]:
        typer.echo(line[0])
        for column, cell in zip(columns[1:], line[1:], strict=True):
            if cell:
                typer.echo(_wrapped(f"{column.replace('_', ' ')}: {cell}", _screen_width()))


def _screen_width() -> int:
    """Return the width of the terminal; what reads a pipe has none, unless COLUMNS names one."""
    is_pipe = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return _PIPE_WIDTH if is_pipe else shutil.get_terminal_size().columns


def _wrapped(text: str, width: int) -> str:
    """Return indented lines of a text that keep names and paths whole."""
    return textwrap.fill(
        text, width, initial_indent="  ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )


def _show_cards(rows: list[dict[str, Any]]) -> None:
    """Print what is too much for a table's columns as a few lines each."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for row in rows:
        head = Text(printable(row["name"]), "bold") + Text(f" {row['direction']}".rstrip(), "bold")
        rate = f"{row['rate_hz']} Hz" if row["rate_hz"] else "any rate"
        needs = " + ".join(row["needs"]) + "".join(f" (+ {use})" for use in row["uses"])
        needs += " + a GPU" if row["needs_gpu"] else ""
        licence = row["licence"] or "licence not declared"
        weights = f", weights {row['weights_licence']}" if row["weights_licence"] else ""
        console.print(head + Text(f"  {printable(row['summary'])}"), soft_wrap=False)
        for line in (
            f"{row['unit'] or 'no unit'} · needs {needs} · {rate} · {row['works']}",
            f"{row['owner']}, version {row['version']} · {licence}{weights}",
            f"values: {_text(row['values'])}",
            *([f"options: {_text(row['options'])}"] if row["options"] else []),
        ):
            wrapped = _wrapped(printable(line), console.width)
            console.print(Text(wrapped, "dim" if line.startswith(row["owner"]) else ""), soft_wrap=True)


def _text(value: object) -> str:
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(str(item) for item in value)
    if isinstance(value, dict):
        return "; ".join(f"{printable(str(name))}: {_text(item)}" for name, item in value.items())
    return "" if value is None else printable(str(value))


def _describe(name: str, registered: Registered) -> dict[str, Any]:
    component = registered.component
    from cdslm_eval.plugin.directory import declared_licence

    missing, fetches = _answer(component.missing), _answer(component.fetches)
    options = {
        key: None if field.is_required() else field.default for key, field in component.Options.model_fields.items()
    }
    return {
        "name": name,
        "owner": registered.owner.name,
        "version": component.version,
        "summary": (inspect.getdoc(component) or "").partition("\n")[0],
        "options": options,
        "licence": component.licence or declared_licence(registered.owner.distribution),
        "weights_licence": component.weights_licence,
        "needs_gpu": component.needs_gpu,
        "usable": missing is None,
        "missing": missing,
        "offline": missing is None and fetches is None,
        "fetches": fetches,
        "works": missing or (f"fetches {fetches} on first use" if fetches else "offline"),
    }


def _answer(question: Callable[[], str | None]) -> str | None:
    """Return what a component's method returns, or its error: one broken class must not end the list."""
    try:
        return question()
    except Exception as error:  # noqa: BLE001 - a third-party class may raise anything
        return f"{type(error).__name__}: {error}"


def plugins(
    as_json: JsonOption = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a directory of them as a Markdown table.")
    ] = False,
) -> None:
    """List plugins, broken ones last with the cause and the fix."""
    from cdslm_eval.plugin.directory import plugin_directory
    from cdslm_eval.plugin.host import Host

    host = Host()
    if markdown:
        common.write_text("-", plugin_directory(host))
        return
    listed = sorted(host.plugins, key=lambda plugin: bool(plugin.problems))
    rows = [
        {
            "name": plugin.name,
            "version": plugin.version,
            "provides": plugin.provides,
            "problems": plugin.problems,
            "fix": plugin.fix if plugin.problems else "",
        }
        for plugin in listed
    ]
    _show(rows, ("name", "version", "provides"), as_json)
    if not as_json:
        for plugin in listed:
            for problem in plugin.problems:
                fix = f"\nfix: {plugin.fix}" if plugin.fix else ""
                typer.echo(printable_lines(f"{plugin.name}: {problem}{fix}"))


def metrics(as_json: JsonOption = False) -> None:
    """List metrics: owner, version, unit, arrow for better, needs, rate, licences, and whether they work here."""
    from cdslm_eval.plugin.host import Host

    arrows = {"lower": "↓", "higher": "↑", "neither": ""}
    rows = []
    for name, registered in Host().registered("metric").items():
        component = registered.component
        rows.append(
            {
                **_describe(name, registered),
                "unit": component.unit,
                "better": component.better,
                "direction": arrows[component.better],
                "limits": component.limits,
                "needs": sorted(component.needs),
                "uses": sorted(component.wants),
                "rate_hz": component.rate_hz,
                "values": [value for key, statistic in component.statistics.items() for value in statistic.names(key)],
            }
        )
    if as_json:
        common.write_json("-", rows)
        return
    _show_cards(rows)


def recognizers(as_json: JsonOption = False) -> None:
    """List recognizers: inventory, needs, and whether they work here."""
    from cdslm_eval.plugin.host import Host

    rows = [
        {
            **_describe(name, registered),
            "inventory": registered.component.inventory,
            "needs": sorted(registered.component.needs),
        }
        for name, registered in Host().registered("recognizer").items()
    ]
    _show(rows, ("name", "version", "owner", "inventory", "needs", "options", "works"), as_json)


def transcribers(as_json: JsonOption = False) -> None:
    """List transcribers (speech to text, for metrics that read words), and whether they work here."""
    from cdslm_eval.plugin.host import Host

    rows = [
        {**_describe(name, registered), "needs": sorted(registered.component.needs)}
        for name, registered in Host().registered("transcriber").items()
    ]
    _show(rows, ("name", "version", "owner", "needs", "options", "works"), as_json)


def generators(as_json: JsonOption = False) -> None:
    """List generators and their options."""
    from cdslm_eval.plugin.host import Host

    rows = [
        {**_describe(name, registered), "prompts": sorted(registered.component.prompts)}
        for name, registered in Host().registered("generator").items()
    ]
    _show(rows, ("name", "version", "owner", "prompts", "options", "summary"), as_json)


def executors(as_json: JsonOption = False) -> None:
    """List executors (where metrics and generators run) and their options."""
    from cdslm_eval.plugin.host import Host

    rows = [_describe(name, registered) for name, registered in Host().registered("executor").items()]
    _show(rows, ("name", "version", "owner", "options", "works", "summary"), as_json)


def pairs(
    paths: Annotated[list[str] | None, typer.Argument(help="Sets to look at.")] = None,
    recognizer: Annotated[str, typer.Option("--recognizer", help="The one that would recognize phones.")] = (
        defaults.RECOGNIZER
    ),
    ignore_columns: IgnoreColumnsOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show which metric can be run on which set, and what is missing where it cannot."""
    from cdslm_eval.core.clips import ClipSet
    from cdslm_eval.plugin.host import Host
    from cdslm_eval.plugin.recognition import default_recognizer

    host, ignored = Host(), common.listed(ignore_columns)
    name = default_recognizer(host) if recognizer == defaults.RECOGNIZER else recognizer.partition(":")[0]
    chosen = host.find("recognizer", name).component
    sets = {path: ClipSet.open(path, ignore_columns=ignored).offers() for path in paths or ()} or {
        "any directory of audio": frozenset({"audio"})
    }
    components = [registered.component for registered in host.registered("transcriber").values()]
    transcribers = [component for component in components if component.missing() is None]
    rows = []
    for path, offered in sets.items():
        offers = offered
        if any(component.needs <= offered for component in transcribers):
            offers = offers | {"transcript"}
        if chosen.needs <= offers and chosen.missing() is None:
            offers = offers | {"phones"}
        for name, registered in host.registered("metric").items():
            lacking = sorted(set(registered.component.needs) - offers)
            missing = registered.component.missing()
            why = "; ".join(filter(None, [f"no {', '.join(lacking)}" if lacking else "", missing or ""]))
            rows.append({"set": path, "metric": name, "runs": not why, "why_not": why})
    _show(rows, ("set", "metric", "runs", "why_not"), as_json)


def doctor(
    as_json: JsonOption = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 1 where a plugin is broken.")] = False,
) -> None:
    """Show what is usable here, what is missing, and the command that fixes it."""
    import importlib.util

    import soundfile

    from cdslm_eval.core.gpu import has_gpu
    from cdslm_eval.core.store import default_store_path
    from cdslm_eval.plugin.host import KINDS, Host

    host = Host()
    rows: list[dict[str, Any]] = [
        {"what": "libsndfile", "state": "ok", "detail": soundfile.__libsndfile_version__, "fix": ""},
        {"what": "store", "state": "ok", "detail": str(default_store_path()), "fix": ""},
    ]
    for module, fix in (("torch", "pip install 'cdslm-eval[model]'"), ("pyarrow", "pip install pyarrow")):
        installed = importlib.util.find_spec(module) is not None
        rows.append(
            {
                "what": module,
                "state": "ok" if installed else "absent (optional)",
                "detail": "",
                "fix": "" if installed else fix,
            }
        )
    has = has_gpu()
    rows.append({"what": "GPU", "state": "ok" if has else "absent (optional)", "detail": "", "fix": ""})
    for kind in KINDS:
        for name, registered in host.registered(kind).items():
            missing = registered.component.missing()
            rows.append(
                {
                    "what": f"{kind} {name}",
                    "state": "missing" if missing else "ok",
                    "detail": registered.owner.name,
                    "fix": missing or "",
                }
            )
    for plugin in host.plugins:
        rows += [
            {"what": f"plugin {plugin.name}", "state": "broken", "detail": problem, "fix": plugin.fix}
            for problem in plugin.problems
        ]
    _show(rows, ("what", "state", "detail", "fix"), as_json)
    if strict and any(row["state"] == "broken" for row in rows):
        raise typer.Exit(1)
