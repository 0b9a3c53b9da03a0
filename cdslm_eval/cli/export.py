"""`cdslm-eval export`: the estimates of a finished_runs run as CSV, JSON or parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cdslm_eval.cli import common
from cdslm_eval.cli.score import CsvRawOption, StoreOption
from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.printable import printable

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="export")(export)


def export(
    to: Annotated[str, typer.Argument(help="A .csv, .json or .parquet file, or - for CSV on stdout.")] = "-",
    store: StoreOption = None,
    run: Annotated[int | None, typer.Option("--run", help="Number of the run; default: the last.")] = None,
    runs: Annotated[bool, typer.Option("--runs", help="List the finished runs instead.")] = False,
    csv_raw: CsvRawOption = False,
    parquet: Annotated[
        Path | None,
        typer.Option("--parquet", metavar="FOLDER", help="Export every measured row instead, partitioned by identity."),
    ] = None,
) -> None:
    """Export the estimates of a run that the store keeps, or all of its rows."""
    from cdslm_eval.cli.tables import records_csv
    from cdslm_eval.core.store import Store, default_store_path

    with Store(store or default_store_path(), read_only=True) as opened:
        if parquet is not None:
            from cdslm_eval.core.store_parquet import export_rows

            if to != "-" or run is not None or runs:
                raise UsageError("--parquet exports all rows of the store; leave out the file, --run and --runs")
            for name, count in export_rows(opened, parquet).items():
                common.note(f"{name}: {count}")
            typer.echo(str(parquet))
            return
        finished_runs = opened.runs()
        if runs:
            for entry in finished_runs:
                sets = ", ".join(entry["settings"].get("sets", {}))
                metrics = printable(str(entry["settings"].get("metrics", "")))
                typer.echo(f"{entry['id']}\t{entry['finished']}\t{metrics}\t{printable(sets)}")
            return
        if not finished_runs:
            raise UsageError(f"{opened.path}: no finished run in this store; `cdslm-eval score` makes one")
        wanted = finished_runs[-1]["id"] if run is None else run
        if wanted not in {entry["id"] for entry in finished_runs}:
            raise UsageError(f"{opened.path}: no run {wanted}; see `cdslm-eval export --runs`")
        records = opened.estimates(wanted)
        settings = next(entry["settings"] for entry in finished_runs if entry["id"] == wanted)
    suffix = Path(to).suffix.lower()
    if to == "-" or suffix == ".csv":
        common.write_text(to, records_csv(records, raw=csv_raw))
    elif suffix == ".json":
        common.write_json(to, {"estimates": records, "settings": settings})
    elif suffix == ".parquet":
        _parquet(to, records)
    else:
        raise UsageError(f"{to}: exports go to .csv, .json or .parquet")


def _parquet(to: str, records: list[dict[str, Any]]) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError(f"{to}: parquet needs pip install pyarrow") from error
    pq.write_table(pa.Table.from_pylist(records), to)
