"""`cdslm-eval run`: plans, measures and judges a suite, and reports to people and to CI."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cdslm_eval.cli import common, completion
from cdslm_eval.cli.score import (
    AllowOutsideOption,
    ExecutorOption,
    JobsOption,
    KeepFailuresOption,
    MemoryLimitOption,
    PrivatePathsOption,
    StoreOption,
)
from cdslm_eval.core.printable import printable

if TYPE_CHECKING:
    from cdslm_eval.results.suite_result import SuiteResult
    from cdslm_eval.suite import Plan

__all__ = ["add_to", "deliver", "grid"]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="run", no_args_is_help=True)(run)


def run(
    suite: Annotated[
        Path | None, typer.Argument(autocompletion=completion.suites, help="The suite file (TOML).")
    ] = None,
    store: StoreOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the leaderboard and the report into this folder.")
    ] = None,
    private_paths: PrivatePathsOption = False,
    json_to: Annotated[str | None, typer.Option("--json", help="Write the result as JSON to this file, or - .")] = None,
    junit: Annotated[
        str | None, typer.Option("--junit", help="Write the gates as JUnit XML to this file, or - .")
    ] = None,
    markdown: Annotated[
        str | None, typer.Option("--markdown", help="Write Markdown for a pull request or job summary, or - .")
    ] = None,
    annotations: Annotated[
        str | None, typer.Option("--annotations", help="Print failed and undecided gates for a forge: github.")
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", help="Recorded run to compare with: a name or a file.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only these systems or metrics; patterns with *; repeatable.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option("--shard", help="Measure part I of N only, such as 1/3; see `merge`.")
    ] = None,
    plan_only: Annotated[bool, typer.Option("--plan", help="Check the suite, show what would run, and exit.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of suite files, and exit.")] = False,
    jobs: JobsOption = 0,
    device: Annotated[str, typer.Option("--device", help="As for score; default: the suite's.")] = "",
    keep_failures: KeepFailuresOption = False,
    allow_outside: AllowOutsideOption = False,
    memory_limit: MemoryLimitOption = None,
    executor: ExecutorOption = None,
) -> None:
    """Run a suite: systems x metrics, judged by gates on confidence bounds.

    A second run over unchanged audio measures nothing again; an interrupted run continues where it stopped.
    Exit codes: 0 measured and no gate failed; 1 over the failure budget; 2 the suite or command was wrong; 3 internal
    error; 4 a gate failed.
    """
    from cdslm_eval.api import plan_suite, run_suite
    from cdslm_eval.core.errors import UsageError
    from cdslm_eval.core.store import default_store_path
    from cdslm_eval.suite import json_schema, load_suite

    if schema:
        common.write_json("-", json_schema())
        return
    if suite is None:
        raise UsageError("name a suite file: cdslm-eval run SUITE.toml")
    if annotations not in (None, "github"):
        raise UsageError(f"--annotations {annotations!r}: github is the only kind")
    quiet = _takes_stdout(json_to, junit, markdown)
    loaded = load_suite(suite)
    if plan_only:
        recorded = against is not None
        plan = plan_suite(loaded, only=tuple(only or ()), recorded=recorded, allow_outside=allow_outside)
        typer.echo(grid(plan), err=True)
        return
    result = run_suite(
        loaded,
        store=store,
        against=against,
        only=tuple(only or ()),
        shard=shard,
        jobs=jobs,
        device=device,
        keep_failures=keep_failures,
        allow_outside=allow_outside,
        executor=common.executor_spec(executor, memory_limit) if executor else None,
        memory_gb=None if executor else memory_limit,
        progress=True,
        planned=lambda plan: common.show(grid(plan)),
        note=common.note,
    )
    if shard is not None:
        where = store or default_store_path()
        common.note(f"part {shard} is in {where}; judge with `cdslm-eval merge` of all parts, then `run`")
        return
    deliver(result, out, json_to, junit, markdown, quiet=quiet, private_paths=private_paths)
    if annotations:
        from cdslm_eval.report.annotations import github_annotations

        for line in github_annotations(result):
            # GitHub reads both streams, and stdout may hold a document
            common.problem(line)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _takes_stdout(*targets: str | None) -> bool:
    """Return whether a document goes to stdout, which can hold one only."""
    from cdslm_eval.core.errors import UsageError

    if targets.count("-") > 1:
        raise UsageError("only one of --json, --junit and --markdown can go to stdout (-)")
    return "-" in targets


def deliver(
    result: SuiteResult,
    out: Path | None,
    json_to: str | None,
    junit: str | None,
    markdown: str | None,
    *,
    quiet: bool,
    private_paths: bool = False,
) -> None:
    """Write the result to the chosen files, and the gates to the terminal."""
    from cdslm_eval.cli.tables import FORMATS
    from cdslm_eval.report.junit import junit as as_junit
    from cdslm_eval.report.markdown import suite_markdown
    from cdslm_eval.results.numbers import format_p, format_value

    if json_to is not None:
        common.write_json(json_to, result.as_json())
    if junit is not None:
        common.write_text(junit, as_junit(result, datetime.now(UTC).isoformat(timespec="seconds")))
    if markdown is not None:
        common.write_text(markdown, suite_markdown(result))
    if not quiet:
        common.write_text("-", FORMATS["table"](result.scores))
    for sentence in result.over_budget:
        common.problem(f"over the failure budget: {sentence}")
    for change in result.changes:
        if change.verdict in ("better", "worse", "changed"):
            numbers = f"{format_value(change.difference, change.low, change.high)}, p {format_p(change.p_holm)}"
            common.note(f"{change.verdict}: {change.system}, {change.name}: {numbers}")
    if result.changes and not any(change.verdict in ("better", "worse", "changed") for change in result.changes):
        same = len({change.system for change in result.changes if change.same_clips})
        note = f" ({same} systems have the same audio)" if same else ""
        common.note(f"no change shown against the recorded run in {len(result.changes)} values{note}")
    for judgement in sorted(result.judgements, key=lambda judgement: not judgement.passed):
        report = common.note if judgement.passed else common.problem
        report(f"{judgement.status.upper()}: {judgement.sentence}")
    if out is not None:
        from cdslm_eval.report import write_report
        from cdslm_eval.report.leaderboard import write_leaderboard

        write_report(result.scores, out / "scores", private_paths=private_paths)
        common.note(f"leaderboard: {write_leaderboard(result, out, private_paths=private_paths)}")


def grid(plan: Plan) -> str:
    """Return the grid of systems and metrics as text: what runs, and what prevents the rest."""
    import io

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=io.StringIO(), width=120)
    spec = plan.suite.spec
    gates = f"{len(plan.gates)} judgements by {len(spec.gates)} gates"
    title = f"{spec.name}: {len(plan.systems)} systems x {len(plan.metrics)} metrics, {gates}"
    # a table's own title is wrapped at the width of the table
    console.print(Text(printable(title)), soft_wrap=True)
    view = Table(box=None, pad_edge=False)
    for heading in ("system", "clips", *plan.metrics):
        view.add_column(heading)
    cells = {(cell.system, cell.metric): cell for cell in plan.cells}
    for system in plan.systems:
        clips = plan.clips(("systems", system))
        count = str(len(clips)) if clips is not None else "to generate"
        marks = ["no" if cells[system, name].why_not else "yes" for name in plan.metrics]
        view.add_row(*(Text(printable(text)) for text in (system, count, *marks)))
    console.print(view)
    for cell in plan.cells:
        if cell.why_not:
            console.print(Text(f"  {printable(cell.system)} under {cell.metric}: {printable(cell.why_not)}"))
    for name in plan.metrics:
        if note := next((cell.note for cell in plan.cells if cell.metric == name and cell.note), ""):
            console.print(Text(printable(f"  {name}: {note}")))
    output = console.file
    assert isinstance(output, io.StringIO)
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines())
