"""`cdslm-eval score`: systems against a reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cdslm_eval.cli import common, completion
from cdslm_eval.core import defaults
from cdslm_eval.core.errors import UsageError

if TYPE_CHECKING:
    from cdslm_eval.results.score_result import ScoreResult

__all__ = ["add_to"]

DEFAULT_METRICS = ",".join(defaults.METRICS)

StoreOption = Annotated[
    Path | None, typer.Option("--store", help="Where rows are kept; default: one store per user, in the cache folder.")
]
JobsOption = Annotated[int, typer.Option("--jobs", "-j", min=0, help="Worker processes; 0: one per processor.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of every interval, draw and fold.")]
RecognizerOption = Annotated[
    str,
    typer.Option(
        "--recognizer",
        autocompletion=completion.of_kind("recognizer"),
        help="Recognizes phones: NAME or NAME:key=value; auto: phone-ctc where it can be used, else pocketsphinx.",
    ),
]
TranscriberOption = Annotated[
    str | None,
    typer.Option(
        "--transcriber",
        autocompletion=completion.of_kind("transcriber"),
        help="Writes transcripts where a metric reads them; see `cdslm-eval transcribers`.",
    ),
]

ExecutorOption = Annotated[
    str | None,
    typer.Option(
        "--executor",
        autocompletion=completion.of_kind("executor"),
        help="Where it runs: NAME or NAME:key=value, such as ray:address=auto; see `cdslm-eval executors`.",
    ),
]

PathsArgument = Annotated[
    list[str],
    typer.Argument(
        autocompletion=completion.generators,
        help="Directories, manifests, wav.scp files, or generator names; NAME=PATH names one.",
    ),
]
ReferenceOption = Annotated[str | None, typer.Option("--reference", "-r", help="Real speech to compare with.")]
SpeakersFromOption = Annotated[
    str | None,
    typer.Option(
        "--speakers-from", help="Read speakers from file names, such as spk-chapter-utt, or from the folder: folder."
    ),
]
MetricsOption = Annotated[
    str,
    typer.Option(
        "--metrics",
        "-m",
        autocompletion=completion.metrics,
        help="Comma-separated; options as NAME:key=value; a class of your own as FILE.py:CLASS.",
    ),
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Write an HTML report into this folder.")]
PrivatePathsOption = Annotated[
    bool, typer.Option("--private-paths", help="Keep absolute paths and the list of packages in what --out writes.")
]
JsonToOption = Annotated[str | None, typer.Option("--json", help="Write the result as JSON to this file, or - .")]
FormatAsOption = Annotated[
    str,
    typer.Option(
        "--format",
        autocompletion=completion.formats,
        help="Of what is printed: table, json, csv, tsv, md or latex (booktabs).",
    ),
]
DeviceOption = Annotated[
    str, typer.Option("--device", help="For models: auto, cpu, cuda; or GPUs by name, such as cuda:0,cuda:1 or cuda:*.")
]
FailBudgetOption = Annotated[
    float, typer.Option("--fail-budget", min=0.0, max=1.0, help="Share of clips that may fail before exit code 1.")
]
StrictOption = Annotated[bool, typer.Option("--strict", help="No clip may fail or be skipped.")]
TimeLimitOption = Annotated[
    float, typer.Option("--time-limit", min=0.1, help="Seconds that one clip may take before it is ended.")
]
KeepFailuresOption = Annotated[
    bool, typer.Option("--keep-failures", help="Do not try again what failed in an earlier run.")
]
RehashOption = Annotated[
    bool, typer.Option("--rehash", help="Decode every file again, whatever the store knows of its size and times.")
]
IgnoreColumnsOption = Annotated[
    str,
    typer.Option(
        "--ignore-columns",
        help="Columns of manifests that are passed over: A,B or patterns such as meta_*.",
    ),
]
AllowTruncatedOption = Annotated[
    bool,
    typer.Option("--allow-truncated", help="Score files that end before their header says; else these clips fail."),
]
PromptsOption = Annotated[
    str | None,
    typer.Option("--prompts", help="Clips for generators to continue or learn from; default: the reference."),
]
CountOption = Annotated[int, typer.Option("--count", min=1, help="Clips that each generator makes.")]
ChannelOption = Annotated[
    bool | None,
    typer.Option(
        "--channel/--no-channel",
        help="Put the reference through each system's channel: acoustic floor and matched value. "
        "Default: on with a recognizer as fast as phone-ctc.",
    ),
]
AllowOutsideOption = Annotated[
    bool, typer.Option("--allow-outside", help="Let generators read texts that lie outside the suite's folder.")
]
CsvRawOption = Annotated[
    bool, typer.Option("--csv-raw", help="Do not guard CSV cells that a spreadsheet would run as a formula.")
]
MemoryLimitOption = Annotated[
    float | None,
    typer.Option(
        "--memory-limit", min=0.0, help="GiB that each worker may take, 0: no limit; default: 3/4 of the machine's."
    ),
]
RealRowOption = Annotated[
    bool,
    typer.Option(
        "--real-row/--no-real-row",
        help="Measure the reference under every metric too, for the row of real speech on the page.",
    ),
]
SecondsOption = Annotated[float, typer.Option("--seconds", min=0.1, help="Their length.")]

WindowsOption = Annotated[
    str | None,
    typer.Option(
        "--windows", help="Measure every value in windows of this length too, such as 10s: does it drift over time?"
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="score", no_args_is_help=True)(score)


def score(
    paths: PathsArgument,
    reference: ReferenceOption = None,
    metrics: MetricsOption = DEFAULT_METRICS,
    recognizer: RecognizerOption = defaults.RECOGNIZER,
    transcriber: TranscriberOption = None,
    store: StoreOption = None,
    out: OutOption = None,
    private_paths: PrivatePathsOption = False,
    json_to: JsonToOption = None,
    format_as: FormatAsOption = "table",
    jobs: JobsOption = 0,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    fail_budget: FailBudgetOption = defaults.FAIL_BUDGET,
    strict: StrictOption = False,
    time_limit: TimeLimitOption = defaults.TIME_LIMIT_S,
    keep_failures: KeepFailuresOption = False,
    rehash: RehashOption = False,
    allow_truncated: AllowTruncatedOption = False,
    prompts: PromptsOption = None,
    count: CountOption = defaults.CLIP_COUNT,
    seconds: SecondsOption = defaults.CLIP_SECONDS,
    channel: ChannelOption = None,
    speakers_from: SpeakersFromOption = None,
    real_row: RealRowOption = True,
    ignore_columns: IgnoreColumnsOption = "",
    windows: WindowsOption = None,
    memory_limit: MemoryLimitOption = None,
    executor: ExecutorOption = None,
    csv_raw: CsvRawOption = False,
) -> None:
    """Score systems: how far is their speech from real speech, and how does it sound?

    A second run over unchanged audio measures nothing again; an interrupted run continues where it stopped.
    Exit codes: 0 measured; 1 over the failure budget; 2 the command was wrong; 3 internal error.
    """
    from cdslm_eval.cli.tables import FORMATS

    if format_as not in (*FORMATS, "json"):
        raise UsageError(f"--format {format_as!r}: one of {', '.join((*FORMATS, 'json'))}")
    from cdslm_eval import api

    result = api.score(
        common.named_systems(paths),
        reference,
        metrics,
        recognizer=recognizer,
        transcriber=transcriber,
        store=store,
        jobs=jobs,
        seed=seed,
        device=device,
        time_limit_s=time_limit,
        keep_failures=keep_failures,
        rehash=rehash,
        allow_truncated=allow_truncated,
        prompts=prompts,
        count=count,
        seconds=seconds,
        channel=channel,
        speakers_from=speakers_from,
        real_row=real_row,
        ignore_columns=common.listed(ignore_columns),
        windows=None if windows is None else common.duration_s(windows, "--windows"),
        executor=common.executor_spec(executor, memory_limit),
        progress=True,
        note=common.note,
    )
    _deliver(result, out, json_to, format_as, private_paths=private_paths, csv_raw=csv_raw)
    _judge(result, fail_budget, strict=strict)


def _judge(result: ScoreResult, fail_budget: float, *, strict: bool) -> None:
    """Leave with exit code 1 when more clips failed than may."""
    from cdslm_eval.run.scoring import over_budget

    sentences = over_budget(result, fail_budget, strict=strict)
    for sentence in sentences:
        common.problem(f"over the failure budget: {sentence}")
    if sentences:
        raise typer.Exit(1)


def _deliver(
    result: ScoreResult, out: Path | None, json_to: str | None, format_as: str, *, private_paths: bool, csv_raw: bool
) -> None:
    from cdslm_eval.cli.tables import FORMATS, comma_separated, tab_separated

    if json_to is not None:
        common.write_json(json_to, result.as_json())
    if json_to != "-":
        if format_as == "json":
            common.write_json("-", result.as_json())
        elif format_as in ("csv", "tsv"):
            separated = comma_separated if format_as == "csv" else tab_separated
            common.write_text("-", separated(result, raw=csv_raw))
        else:
            common.write_text("-", FORMATS[format_as](result))
    if out is not None:
        from cdslm_eval.report import write_report

        common.note(f"report: {write_report(result, out, private_paths=private_paths)}")
