"""`cdslm-eval store`: what a store holds, what can be dropped from it, and whether it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cdslm_eval.cli import common
from cdslm_eval.core.errors import StoreError, UsageError

__all__ = ["add_to"]

StoreArgument = Annotated[Path | None, typer.Argument(help="The store; default: $CDSLM_EVAL_STORE, or the user's own.")]


def add_to(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = typer.Typer(name="store", help="Show, shrink and check a store.", no_args_is_help=True)
    for command in (info, estimate, prune, verify):
        group.command(name=command.__name__)(command)
    app.add_typer(group)


def info(
    store: StoreArgument = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the size of a store, its rows by metric and version, and the age of its runs."""
    from cdslm_eval.core.printable import printable
    from cdslm_eval.core.store import Store, default_store_path
    from cdslm_eval.core.store_care import summarise

    with Store(store or default_store_path(), read_only=True) as opened:
        summary = summarise(opened)
    if as_json:
        common.write_json("-", summary)
        return
    typer.echo(f"{printable(summary['path'])}: {summary['bytes'] / 1e6:.1f} MB, schema {summary['schema']}")
    others = summary["files_of_other_hosts"]
    foreign = f" ({others} of other hosts, which are decoded again here)" if others else ""
    typer.echo(
        f"{summary['files']} files{foreign}, {summary['runs']} runs, {summary['first_run']} to {summary['last_run']}"
    )
    for row in summary["identities"]:
        subject = f"{row['name']} {row['version']}".strip()
        counts = ", ".join(f"{count} {status}" for status, count in row["rows"].items())
        typer.echo(printable(f"{row['identity']}  {subject}: {counts}"))


def estimate(
    store: StoreArgument = None,
    metric: Annotated[str, typer.Option("--metrics", help="The metric, as for `score`.")] = "signal",
    system: Annotated[
        str | None,
        typer.Option("--system", metavar="START", help="What the paths of the system start with; default: all rows."),
    ] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", metavar="START", help="What the paths of real speech start with.")
    ] = None,
    identity: Annotated[
        str | None, typer.Option("--identity", help="Of the rows, where the store has several (see `store info`).")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of every interval, draw and fold.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Estimate one metric from the rows of a store alone, without audio or manifest, however many they are.

    Speakers are not in a store: clips count as independent, so that intervals are too short where speakers recur.
    """
    from cdslm_eval.cli.tables import table
    from cdslm_eval.core.store import Store, default_store_path
    from cdslm_eval.plugin.host import Host
    from cdslm_eval.results.score_result import ScoreResult
    from cdslm_eval.run.stored import estimate_stored

    chosen = Host().resolve("metric", metric)
    with Store(store or default_store_path(), read_only=True) as opened:
        estimates = estimate_stored(opened, chosen, system=system, reference=reference, identity=identity, seed=seed)
    result = ScoreResult(estimates=tuple(estimates), failures=(), settings={"store": str(opened.path), "seed": seed})
    if as_json:
        common.write_json("-", result.as_json())
        return
    typer.echo(table(result), nl=False)
    common.note("note: speakers are not in a store; each clip counts as independent")


def prune(
    store: StoreArgument = None,
    older_than: Annotated[
        float | None,
        typer.Option("--older-than", min=0.0, help="Drop runs that finished more than this many days ago."),
    ] = None,
    identity: Annotated[
        list[str] | None,
        typer.Option("--identity", help="Drop the rows of this identity (see `store info`); repeatable."),
    ] = None,
    missing_files: Annotated[
        bool, typer.Option("--missing-files", help="Forget files that are no longer there; rows stay.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would be dropped, and drop nothing.")] = False,
) -> None:
    """Drop runs by age, rows by identity and facts of missing files; give the space back.

    Rows carry no date: one is as good as on the day it was measured, while its audio and metric are the same.
    """
    from cdslm_eval.core.store import Store, default_store_path
    from cdslm_eval.core.store_care import drop

    if older_than is None and not identity and not missing_files:
        raise UsageError("name what to drop: --older-than DAYS, --identity ID or --missing-files")
    path = store or default_store_path()
    if not path.is_file():
        raise UsageError(f"{path}: there is no such store")
    with Store(path) as opened:
        dropped = drop(opened, older_than, identity or (), missing_files=missing_files, dry_run=dry_run)
    verb = "would drop" if dry_run else "dropped"
    typer.echo(f"{verb} " + ", ".join(f"{count} {what}" for what, count in dropped.items()))


def verify(store: StoreArgument = None) -> None:
    """Check a store: the database, and that every row can be read.

    Exit codes: 0 it is whole; 3 it is damaged.
    """
    from cdslm_eval.core.store import Store, default_store_path
    from cdslm_eval.core.store_care import problems

    with Store(store or default_store_path(), read_only=True) as opened:
        problems_found = problems(opened)
        for problem in problems_found:
            common.problem(problem)
        if problems_found:
            raise StoreError(
                f"{opened.path}: damaged; rows that cannot be read are measured again, and a database that is damaged "
                "must be moved away"
            )
        typer.echo(f"{opened.path}: whole")
