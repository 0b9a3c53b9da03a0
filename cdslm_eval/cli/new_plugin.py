"""`cdslm-eval new-plugin`: a complete small distribution to start from."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cdslm_eval.core.errors import UsageError

__all__ = ["add_to"]


class Kind(StrEnum):
    """What a plugin may bring."""

    metric = "metric"
    generator = "generator"
    recognizer = "recognizer"


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="new-plugin")(new_plugin)


def new_plugin(
    name: Annotated[str, typer.Argument(help="Name of the metric, generator or recognizer.")],
    kind: Annotated[Kind, typer.Option("--kind", help="What it provides.")] = Kind.metric,
    into: Annotated[Path | None, typer.Option("--into", help="Folder of the distribution; else ./NAME.")] = None,
) -> None:
    """Write a plugin that installs, keeps the contract and has tests; replace its middle with your own."""
    from cdslm_eval.plugin.host import Host
    from cdslm_eval.plugin.scaffold import Plan, write_plugin

    plan = Plan(name, kind.value, into or Path(name))
    if (taken := Host().registered(kind.value).get(name)) is not None:
        # two of one name would each shut the other out
        raise UsageError(f"there is a {kind.value} {name!r} already, from {taken.owner.name}; choose another name")
    for path in write_plugin(plan):
        typer.echo(f"wrote {path}")
    use = {
        "metric": f"cdslm-eval score SAMPLES --metrics {name}",
        "generator": f"cdslm-eval generate {name} --out clips",
        "recognizer": f"cdslm-eval score SAMPLES --reference REAL --recognizer {name}",
    }[kind.value]
    typer.echo(f"next: pip install {_as_path(plan.folder)} && {use}")
    typer.echo(f"its tests: pytest {plan.folder / 'tests'}")


def _as_path(folder: Path) -> str:
    """Return a folder so that pip does not take it for a name on the index."""
    return str(folder) if folder.is_absolute() else f"./{folder}"
