"""`cdslm-eval merge`: joins the stores of shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cdslm_eval.cli import common

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="merge", no_args_is_help=True)(merge)


def merge(
    target: Annotated[Path, typer.Argument(help="The store that takes the rows; made when absent.")],
    parts: Annotated[list[Path], typer.Argument(help="Stores of the shards.")],
) -> None:
    """Put the rows of several stores into one; `run SUITE --store TARGET` then judges without measuring again.

    A row that was measured in one store and failed in another counts as measured. Files are recognized by their
    content, so the stores may come from other machines.
    """
    from cdslm_eval.core.errors import UsageError
    from cdslm_eval.core.store import Store
    from cdslm_eval.core.store_merge import merge_stores
    from cdslm_eval.plugin.host import Host
    from cdslm_eval.run.row_checks import drop_unsound_rows

    seen: dict[tuple[str, int], set[int]] = {}
    for part in parts:
        if part.resolve() == target.resolve():
            raise UsageError(f"{part}: the target itself")
        with Store(part, read_only=True) as store:
            for run in store.runs():
                if shard := run["settings"].get("shard"):
                    seen.setdefault((run["settings"]["suite"]["digest"], shard["of"]), set()).add(shard["number"])
    with Store(target) as store:
        for part, gained in zip(parts, merge_stores(store, parts), strict=True):
            common.note(f"{part}: {gained['rows']} rows, {gained['files']} files")
        if dropped := drop_unsound_rows(store, Host()):
            common.note(f"note: {dropped} rows lack what their metric reads; they are dropped, and measured again")
    for (_, of), numbers in seen.items():
        if missing := sorted(set(range(1, of + 1)) - numbers):
            shards = ", ".join(f"{number}/{of}" for number in missing)
            common.note(f"note: no store of shard {shards}; `run` will measure what it lacks")
    typer.echo(str(target))
