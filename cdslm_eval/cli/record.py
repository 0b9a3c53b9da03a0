"""`cdslm-eval record`: writes a run to one portable file, to compare later ones with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cdslm_eval.cli.score import StoreOption

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="record", no_args_is_help=True)(record)


def record(
    name: Annotated[str, typer.Argument(help="Its name, or a file name that ends in .cdslm.")],
    store: StoreOption = None,
    run: Annotated[
        int | None, typer.Option("--run", help="Number of the run in the store; default: the last one.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a recorded run of that name.")] = False,
) -> None:
    """Write the last run of a suite to one file (estimates, identities, rows) that `run --against` compares with."""
    from cdslm_eval.core.errors import UsageError
    from cdslm_eval.core.printable import printable
    from cdslm_eval.core.store import default_store_path
    from cdslm_eval.suite.recording import SUFFIX, record_run, records_folder

    where = store or default_store_path()
    if not where.is_file():
        raise UsageError(f"{where}: there is no such store; `cdslm-eval run SUITE.toml` makes one")
    named = name.endswith(SUFFIX) or "/" in name
    target = Path(name) if named else records_folder(where) / f"{name}{SUFFIX}"
    settings = record_run(where, target, run, replace=force)
    sets = settings["sets"]
    clips = sum(entry["clips"] for entry in sets.values())
    sizes = f"{len(sets)} sets, {clips} clips, {target.stat().st_size:,} bytes"
    typer.echo(printable(f"{target}: {settings['suite']['name']}, {sizes}"))
