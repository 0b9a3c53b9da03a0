"""`cdslm-eval compare`: is A better than B, and could this sample have shown it?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cdslm_eval.cli import common
from cdslm_eval.cli.score import (
    DEFAULT_METRICS,
    AllowTruncatedOption,
    ChannelOption,
    CsvRawOption,
    DeviceOption,
    ExecutorOption,
    FormatAsOption,
    IgnoreColumnsOption,
    JobsOption,
    MemoryLimitOption,
    MetricsOption,
    RecognizerOption,
    RehashOption,
    SeedOption,
    SpeakersFromOption,
    StoreOption,
    TranscriberOption,
)
from cdslm_eval.core import defaults
from cdslm_eval.core.errors import UsageError

if TYPE_CHECKING:
    from cdslm_eval.results.comparison_result import ComparisonResult

__all__ = ["add_to"]

_FORMATS = ("table", "json", "csv", "tsv", "md", "latex")


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="compare", no_args_is_help=True)(compare)


def compare(
    a: Annotated[str, typer.Argument(help="Directory or manifest of system A; NAME=PATH names it.")],
    b: Annotated[str, typer.Argument(help="Directory or manifest of system B; NAME=PATH names it.")],
    reference: Annotated[str | None, typer.Option("--reference", "-r", help="Real speech to compare with.")] = None,
    metrics: MetricsOption = DEFAULT_METRICS,
    recognizer: RecognizerOption = defaults.RECOGNIZER,
    transcriber: TranscriberOption = None,
    store: StoreOption = None,
    json_to: Annotated[str | None, typer.Option("--json", help="Write JSON to this file, or - .")] = None,
    format_as: FormatAsOption = "table",
    out: Annotated[Path | None, typer.Option("--out", help="Write an HTML page and result.json into this folder.")] = (
        None
    ),
    unpaired: Annotated[bool, typer.Option("--unpaired", help="Compare as independent samples.")] = False,
    speakers_from: SpeakersFromOption = None,
    jobs: JobsOption = 0,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    rehash: RehashOption = False,
    allow_truncated: AllowTruncatedOption = False,
    channel: ChannelOption = None,
    ignore_columns: IgnoreColumnsOption = "",
    memory_limit: MemoryLimitOption = None,
    executor: ExecutorOption = None,
    csv_raw: CsvRawOption = False,
) -> None:
    """Compare two systems: differences with intervals, Holm-corrected tests, smallest detectable difference.

    Clips with the same keys in both sets are compared in pairs. Divergences are compared by their corrected value at
    one phone count.
    """
    if format_as not in _FORMATS:
        raise UsageError(f"--format {format_as!r}: one of {', '.join(_FORMATS)}")
    from cdslm_eval import api

    result = api.compare(
        common.named_system(a),
        common.named_system(b),
        reference,
        metrics,
        recognizer=recognizer,
        transcriber=transcriber,
        store=store,
        jobs=jobs,
        seed=seed,
        device=device,
        rehash=rehash,
        allow_truncated=allow_truncated,
        unpaired=unpaired,
        speakers_from=speakers_from,
        channel=channel,
        ignore_columns=common.listed(ignore_columns),
        executor=common.executor_spec(executor, memory_limit),
        progress=True,
        note=common.note,
    )
    if json_to is not None:
        common.write_json(json_to, result.as_json())
    if json_to != "-":
        common.write_text("-", _text(result, format_as, raw=csv_raw))
    if out is not None:
        from cdslm_eval.report.comparison import write_comparison

        common.note(f"page: {write_comparison(result, out)}")
    for sentence in result.unscored:
        common.problem(f"over the failure budget: {sentence}")
    if result.unscored:
        raise typer.Exit(1)


def _text(result: ComparisonResult, format_as: str, *, raw: bool) -> str:
    """Return a comparison in a format of `--format`."""
    from cdslm_eval.cli.tables import context_lines, grid_markdown, grid_table, records_csv
    from cdslm_eval.report.markdown import escape
    from cdslm_eval.results.channel_grid import channel_grids
    from cdslm_eval.results.recognition_gain import gain_lines

    if format_as in ("csv", "tsv"):
        return records_csv(result.as_json()["differences"], raw=raw, separator="," if format_as == "csv" else "\t")
    if format_as == "json":
        return json.dumps(result.as_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if format_as == "latex":
        return result.to_latex()
    if format_as == "md":
        grids = [result.grid(), *channel_grids(result.channel, result.estimates)]
        lines = [*map(grid_markdown, grids), *(f"- {escape(line)}" for line in gain_lines(result.recognition_gain))]
    else:
        lines = [
            grid_table(result.grid()),
            *context_lines(result.channel, result.estimates, result.recognition_gain),
        ]
    return "\n".join(lines).rstrip("\n") + "\n"
