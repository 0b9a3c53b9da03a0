"""`cdslm-eval score`: systems against a reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cdslm_eval.cli import common
from cdslm_eval.core.errors import UsageError

if TYPE_CHECKING:
    from cdslm_eval.core.clips import ClipSet
    from cdslm_eval.plugin.host import Host
    from cdslm_eval.results.score_result import ScoreResult

__all__ = ["add_to", "score_systems"]

DEFAULT_METRICS = "pjsd,signal"

StoreOption = Annotated[
    Path | None, typer.Option("--store", help="Where rows are kept; default: one store per user, in the cache folder.")
]
JobsOption = Annotated[int, typer.Option("--jobs", "-j", min=0, help="Worker processes; 0: one per processor.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of every interval, draw and fold.")]
RecognizerOption = Annotated[
    str, typer.Option("--recognizer", help="Gives the phones: NAME or NAME:key=value; see `cdslm-eval recognizers`.")
]
TranscriberOption = Annotated[
    str | None,
    typer.Option("--transcriber", help="Gives transcripts where a metric reads them; see `cdslm-eval transcribers`."),
]

PathsArgument = Annotated[list[str], typer.Argument(help="Directories, manifests, wav.scp files, or generator names.")]
ReferenceOption = Annotated[str | None, typer.Option("--reference", "-r", help="Real speech to compare with.")]
MetricsOption = Annotated[str, typer.Option("--metrics", "-m", help="Comma-separated; options as NAME:key=value.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="Write an HTML report into this folder.")]
JsonToOption = Annotated[str | None, typer.Option("--json", help="Write the result as JSON to this file, or - .")]
FormatAsOption = Annotated[str, typer.Option("--format", help="Of what is printed: table, json, csv or md.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N, for metrics with a model.")]
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
PromptsOption = Annotated[
    str | None,
    typer.Option("--prompts", help="Clips for generators to continue or learn from; default: the reference."),
]
CountOption = Annotated[int, typer.Option("--count", min=1, help="Clips that each named generator makes.")]
SecondsOption = Annotated[float, typer.Option("--seconds", min=0.1, help="Their length.")]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="score", no_args_is_help=True)(score)


def score(
    paths: PathsArgument,
    reference: ReferenceOption = None,
    metrics: MetricsOption = DEFAULT_METRICS,
    recognizer: RecognizerOption = "pocketsphinx",
    transcriber: TranscriberOption = None,
    store: StoreOption = None,
    out: OutOption = None,
    json_to: JsonToOption = None,
    format_as: FormatAsOption = "table",
    jobs: JobsOption = 0,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    fail_budget: FailBudgetOption = 0.05,
    strict: StrictOption = False,
    time_limit: TimeLimitOption = 120.0,
    keep_failures: KeepFailuresOption = False,
    prompts: PromptsOption = None,
    count: CountOption = 100,
    seconds: SecondsOption = 10.0,
) -> None:
    """Score systems: how far is what they say from real speech, and how do they sound?

    A second run over unchanged audio measures nothing again; an interrupted run goes on where it stopped.
    Exit codes: 0 measured; 1 over the failure budget; 2 the command was wrong; 3 internal error.
    """
    from cdslm_eval.cli.tables import FORMATS

    if format_as not in (*FORMATS, "json"):
        raise UsageError(f"--format {format_as!r}: one of {', '.join((*FORMATS, 'json'))}")
    from cdslm_eval.core.clips import ClipSet
    from cdslm_eval.core.store import default_store_path
    from cdslm_eval.plugin.host import Host
    from cdslm_eval.run.generation import Order, generate_set

    host = Host()
    where = store or default_store_path()
    real = ClipSet.open(reference, name="reference") if reference else None
    prompt_set = ClipSet.open(prompts) if prompts else real

    def make(spec: str) -> ClipSet:
        folder = where.with_suffix(".clips")
        return generate_set(host, Order(spec, prompt_set, count, seconds, seed, recognizer), folder, common.note)

    result = score_systems(
        host,
        common.open_systems(host, paths, make),
        real,
        metrics,
        recognizer=recognizer,
        transcriber=transcriber,
        store=where,
        jobs=jobs,
        seed=seed,
        device=device,
        time_limit_s=time_limit,
        keep_failures=keep_failures,
    )
    _deliver(result, out, json_to, format_as)
    _judge(result, fail_budget, strict=strict)


def _judge(result: ScoreResult, fail_budget: float, *, strict: bool) -> None:
    """Leave with exit code 1 when more clips failed than may."""
    from cdslm_eval.run.scoring import over_budget

    sentences = over_budget(result, fail_budget, strict=strict)
    for sentence in sentences:
        common.note(f"over the failure budget: {sentence}")
    if sentences:
        raise typer.Exit(1)


def split_specs(text: str, known: Sequence[str]) -> list[str]:
    """Split "a:x=1,y=2,b" at the commas that a known name follows; others belong to the options before them."""
    specs: list[str] = []
    for part in text.split(","):
        name = part.strip().partition(":")[0]
        if specs and name not in known and ("=" in part or ":" in specs[-1]):
            specs[-1] += f",{part}"
        else:
            specs.append(part.strip())
    if not all(specs):
        raise UsageError(f"--metrics {text!r}: an empty name between commas")
    return specs


def score_systems(
    host: Host,
    systems: Sequence[ClipSet],
    reference: ClipSet | None,
    metrics: str,
    *,
    recognizer: str,
    transcriber: str | None = None,
    store: Path,
    jobs: int,
    seed: int,
    device: str = "auto",
    time_limit_s: float = 120.0,
    keep_failures: bool = False,
    executor: str = "local",
) -> ScoreResult:
    """Score opened systems and keep the run in the store; what `score` and `demo` share."""
    from cdslm_eval.core.provenance import host_facts, versions
    from cdslm_eval.core.store import Store
    from cdslm_eval.plugin.host import transcriber_for
    from cdslm_eval.run import Runner
    from cdslm_eval.run.scoring import score as run_score

    chosen = [host.make("metric", spec) for spec in split_specs(metrics, list(host.registered("metric")))]
    if len({metric.name for metric in chosen}) < len(chosen):
        raise UsageError(f"--metrics {metrics!r}: a metric is named twice")
    hears = host.make("recognizer", recognizer)
    writes = transcriber_for([*chosen, hears], host, transcriber)
    common.name_the_weights([*chosen, hears if any("phones" in one.needs for one in chosen) else None, writes])
    settings: dict[str, Any] = {
        "metrics": metrics,
        "recognizer": recognizer,
        "transcriber": None if writes is None else transcriber or writes.name,
        "reference": reference.origin if reference else None,
        "versions": versions(host),
        "host": host_facts(),
    }
    with Store(store) as held, common.progress("scoring") as bar:
        runner = Runner(
            held,
            host.make("executor", executor),
            hears,
            jobs=jobs or common.default_jobs(),
            time_limit_s=time_limit_s,
            device=device,
            keep_failures=keep_failures,
            transcriber=writes,
        )
        result = run_score(runner, systems, reference, chosen, seed=seed, progress=bar, settings=settings)
        held.put_run(dict(result.settings), [one.as_json() for one in result.estimates])
    for warning in result.warnings:
        common.note(f"note: {warning}")
    return result


def _deliver(result: ScoreResult, out: Path | None, json_to: str | None, format_as: str) -> None:
    from cdslm_eval.cli.tables import FORMATS

    if json_to is not None:
        common.write_json(json_to, result.as_json())
    if json_to != "-":
        if format_as == "json":
            common.write_json("-", result.as_json())
        else:
            common.write_text("-", FORMATS[format_as](result))
    if out is not None:
        from cdslm_eval.report import write_report

        common.note(f"report: {write_report(result, out)}")
