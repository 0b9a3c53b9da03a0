"""`plugins`, `metrics`, `pairs`, `doctor` and a list per kind of component: what is there, and what is usable here."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cdslm_eval.cli import common
from cdslm_eval.core import defaults
from cdslm_eval.plugin.host import KINDS, Host

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdslm_eval.plugin.host import Registered

__all__ = ["add_to"]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (plugins, metrics, recognizers, transcribers, generators, pairs, doctor):
        app.command(name=command.__name__)(command)


def _show(rows: list[dict[str, Any]], columns: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        common.write_json("-", rows)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "))
    for row in rows:
        table.add_row(*(Text(_text(row[column])) for column in columns))
    Console().print(table)


def _show_cards(rows: list[dict[str, Any]]) -> None:
    """Print what is too much for a table's columns as a few lines each."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for row in rows:
        head = Text(row["name"], "bold") + Text(f" {row['direction']}".rstrip(), "bold")
        rate = f"{row['rate_hz']} Hz" if row["rate_hz"] else "any rate"
        needs = " + ".join(row["needs"]) + "".join(f" (+ {one})" for one in row["uses"])
        licence = row["licence"] or "licence not declared"
        weights = f", weights {row['weights_licence']}" if row["weights_licence"] else ""
        console.print(head + Text(f"  {row['summary']}"))
        for line in (
            f"{row['unit'] or 'no unit'} · needs {needs} · {rate} · {row['works']}",
            f"{row['owner']}, version {row['version']} · {licence}{weights}",
            f"values: {_text(row['values'])}",
            *([f"options: {_text(row['options'])}"] if row["options"] else []),
        ):
            console.print(Text("  " + line, "dim" if line.startswith(row["owner"]) else ""))


def _text(value: object) -> str:
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(str(one) for one in value)
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_text(one)}" for name, one in value.items())
    return "" if value is None else str(value)


def _describe(name: str, one: Registered) -> dict[str, Any]:
    component = one.component
    missing, fetches = _asked(component.missing), _asked(component.fetches)
    options = {
        key: None if field.is_required() else field.default for key, field in component.Options.model_fields.items()
    }
    return {
        "name": name,
        "owner": one.owner.name,
        "version": component.version,
        "summary": (inspect.getdoc(component) or "").partition("\n")[0],
        "options": options,
        "licence": component.licence or _licence(one.owner.distribution),
        "weights_licence": component.weights_licence,
        "usable": missing is None,
        "missing": missing,
        "offline": missing is None and fetches is None,
        "fetches": fetches,
        "works": missing or (f"fetches {fetches} on first use" if fetches else "offline"),
    }


def _asked(question: Callable[[], str | None]) -> str | None:
    """Return a component's answer, or what went wrong: a stranger's class may raise, and the list goes on."""
    try:
        return question()
    except Exception as error:  # noqa: BLE001 - a stranger's class may raise anything
        return f"{type(error).__name__}: {error}"


def _licence(distribution: str) -> str:
    """Return the licence that a distribution declares, or ""."""
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        declared = metadata(distribution)
    except PackageNotFoundError:
        return ""
    found = (declared[key] for key in ("License-Expression", "License") if key in declared)
    return next(found, "").strip().partition("\n")[0]


def plugins(as_json: JsonOption = False) -> None:
    """List plugins, broken ones last with the cause and the fix."""
    found = sorted(Host().plugins, key=lambda plugin: bool(plugin.problems))
    rows = [
        {
            "name": plugin.name,
            "version": plugin.version,
            "provides": plugin.provides,
            "problems": plugin.problems,
            "fix": plugin.fix if plugin.problems else "",
        }
        for plugin in found
    ]
    _show(rows, ("name", "version", "provides"), as_json)
    if not as_json:
        for plugin in found:
            for problem in plugin.problems:
                fix = f"\n  fix: {plugin.fix}" if plugin.fix else ""
                typer.echo(f"{plugin.name}: {problem}{fix}")


def metrics(as_json: JsonOption = False) -> None:
    """List metrics: owner, version, unit, arrow for better, needs, rate, licences, and whether they work here."""
    arrows = {"lower": "↓", "higher": "↑", "neither": ""}
    rows = []
    for name, one in Host().registered("metric").items():
        component = one.component
        rows.append(
            {
                **_describe(name, one),
                "unit": component.unit,
                "better": component.better,
                "direction": arrows[component.better],
                "needs": sorted(component.needs),
                "uses": sorted(component.wants),
                "rate_hz": component.rate_hz,
                "values": [own for key, statistic in component.statistics.items() for own in statistic.names(key)],
            }
        )
    if as_json:
        common.write_json("-", rows)
        return
    _show_cards(rows)


def recognizers(as_json: JsonOption = False) -> None:
    """List recognizers: inventory, needs, and whether they work here."""
    rows = [
        {**_describe(name, one), "inventory": one.component.inventory, "needs": sorted(one.component.needs)}
        for name, one in Host().registered("recognizer").items()
    ]
    _show(rows, ("name", "version", "owner", "inventory", "needs", "options", "works"), as_json)


def transcribers(as_json: JsonOption = False) -> None:
    """List transcribers (speech to text, for metrics that read what was said), and whether they work here."""
    rows = [
        {**_describe(name, one), "needs": sorted(one.component.needs)}
        for name, one in Host().registered("transcriber").items()
    ]
    _show(rows, ("name", "version", "owner", "needs", "options", "works"), as_json)


def generators(as_json: JsonOption = False) -> None:
    """List generators and their options."""
    rows = [
        {**_describe(name, one), "prompts": sorted(one.component.prompts)}
        for name, one in Host().registered("generator").items()
    ]
    _show(rows, ("name", "version", "owner", "prompts", "options", "summary"), as_json)


def pairs(
    paths: Annotated[list[str] | None, typer.Argument(help="Sets to ask what they offer.")] = None,
    recognizer: Annotated[str, typer.Option("--recognizer", help="The one that would recognize phones.")] = (
        defaults.RECOGNIZER
    ),
    as_json: JsonOption = False,
) -> None:
    """Show which metric can be run on which set, and what stands in the way."""
    from cdslm_eval.core.clips import ClipSet

    host = Host()
    hears = host.find("recognizer", recognizer.partition(":")[0]).component
    sets = {path: ClipSet.open(path).offers() for path in paths or ()} or {
        "any directory of audio": frozenset({"audio"})
    }
    writers = [one.component for one in host.registered("transcriber").values() if one.component.missing() is None]
    rows = []
    for path, offered in sets.items():
        written = any(one.needs <= offered for one in writers)
        offers = offered | {"transcript"} if written else offered
        heard = offers | {"phones"} if hears.needs <= offers and hears.missing() is None else offers
        for name, one in host.registered("metric").items():
            lacking = sorted(set(one.component.needs) - heard)
            missing = one.component.missing()
            why = "; ".join(filter(None, [f"no {', '.join(lacking)}" if lacking else "", missing or ""]))
            rows.append({"set": path, "metric": name, "runs": not why, "why_not": why})
    _show(rows, ("set", "metric", "runs", "why_not"), as_json)


def doctor(as_json: JsonOption = False) -> None:
    """Say what is usable here, what is missing, and the command that fixes it."""
    import importlib.util

    import soundfile

    from cdslm_eval.core.store import default_store_path

    host = Host()
    rows: list[dict[str, Any]] = [
        {"what": "libsndfile", "state": "ok", "detail": soundfile.__libsndfile_version__, "fix": ""},
        {"what": "store", "state": "ok", "detail": str(default_store_path()), "fix": ""},
    ]
    for module, fix in (("torch", "pip install 'cdslm-eval[model]'"), ("pyarrow", "pip install pyarrow")):
        there = importlib.util.find_spec(module) is not None
        rows.append(
            {
                "what": module,
                "state": "ok" if there else "absent (optional)",
                "detail": "",
                "fix": "" if there else fix,
            }
        )
    for kind in KINDS:
        for name, one in host.registered(kind).items():
            missing = one.component.missing()
            rows.append(
                {
                    "what": f"{kind} {name}",
                    "state": "missing" if missing else "ok",
                    "detail": one.owner.name,
                    "fix": missing or "",
                }
            )
    for plugin in host.plugins:
        rows += [
            {"what": f"plugin {plugin.name}", "state": "broken", "detail": problem, "fix": plugin.fix}
            for problem in plugin.problems
        ]
    _show(rows, ("what", "state", "detail", "fix"), as_json)
