"""`cdslm-eval ladder`: from a plan to trained models, their scores, one table of runs, and its fits."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cdslm_eval.cli import common
from cdslm_eval.cli.score import JobsOption
from cdslm_eval.core.printable import printable, printable_lines

if TYPE_CHECKING:
    from cdslm_eval.ladder import LadderRun
    from cdslm_eval.ladder.plan import Fit
    from cdslm_eval.results.score_result import ScoreResult

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="ladder", no_args_is_help=True)(ladder)


def ladder(
    plan: Annotated[Path, typer.Argument(help="The plan, a TOML file such as benchmarks/ladders/micro.toml.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for everything that is made.")] = Path("ladder"),
    path: Annotated[
        list[str] | None, typer.Option("--path", help="NAME=PLACE in place of an entry of the plan's [paths].")
    ] = None,
    jobs: JobsOption = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the steps, which are done, and what they cost; do nothing.")
    ] = False,
    tflops: Annotated[
        float | None,
        typer.Option("--tflops", min=1e-9, help="Rate for the hours of --dry-run; default: measured on finished runs."),
    ] = None,
    as_json: Annotated[str, typer.Option("--json", help="Write the table and scores as JSON to a file, or - .")] = "",
) -> None:
    """Train sizes x budgets, generate from each model, score the clips, and fit how the metrics scale.

    Every step is skipped when its output is there: the same command continues after whatever ended it. A plan runs the
    commands that it names: read a third party's before you run it.
    """
    from cdslm_eval.ladder import LadderRun, read_plan
    from cdslm_eval.plugin.host import Host

    run = LadderRun(read_plan(plan, _places(path or [])), out, Host(), common.note)
    if dry_run:
        _show_costs(run, tflops)
        return
    run.prepare()
    results = run.train()
    result = _score(run, jobs)
    table = _write(run, results, result, as_json)
    fits = [_fit(table, family.name, fit, out / "fit") for fit in run.plan.fit for family in run.plan.systems]
    typer.echo(f"table: {table}\nscores: {out / 'scores.json'}\nreport: {out / 'report' / 'index.html'}")
    for line in filter(None, fits):
        typer.echo(printable_lines(line))


def _show_costs(run: LadderRun, tflops: float | None) -> None:
    """Print what each step would cost, and the sum of what is left."""
    from cdslm_eval.cli.tables import grid_table
    from cdslm_eval.ladder.costs import cost_grid, measured_rate, step_costs

    measured, count = measured_rate(run)
    rate, source = (measured, f"measured on {count} runs") if tflops is None else (tflops * 1e12, "--tflops")
    grid = cost_grid(step_costs(run), rate, source)
    typer.echo(grid_table(grid))
    for note in grid.notes:
        typer.echo(printable(note))


def _places(options: list[str]) -> dict[str, str]:
    from cdslm_eval.core.errors import UsageError

    pairs = {}
    for option in options:
        name, sign, path = option.partition("=")
        if not sign:
            raise UsageError(f"--path {option!r}: write it as NAME=PLACE")
        pairs[name] = path
    return pairs


def _score(run: LadderRun, jobs: int) -> ScoreResult:
    from cdslm_eval import api
    from cdslm_eval.report import write_report

    reference = run.reference()
    result = api.score(
        run.generate(),
        reference,
        run.metrics(),
        recognizer=run.plan.score.recognizer,
        store=run.out / "store.cdslm",
        jobs=jobs,
        seed=run.plan.seed,
        progress=True,
        note=common.note,
    )
    write_report(result, run.out / "report")
    return result


def _write(run: LadderRun, results: list[dict[str, Any]], result: ScoreResult, as_json: str) -> Path:
    from cdslm_eval.ladder import ladder_points
    from cdslm_eval.ladder.rows import as_csv, run_rows

    table = run.out / "runs.csv"
    rows = run_rows(ladder_points(run.plan), results, result)
    common.write_text(str(table), as_csv(rows))
    common.write_json(str(run.out / "scores.json"), result.as_json())
    if as_json:
        common.write_json(as_json, {"plan": run.plan.name, "runs": results, "scores": result.as_json()})
    return table


def _fit(table: Path, system: str, fit: Fit, out: Path) -> str:
    """Fit one metric of one system in a process of its own, into OUT/SYSTEM/METRIC.

    A table that a law cannot be fitted to is no failure of the ladder. Systems are never pooled: their losses are of
    different kinds, and so are their tokens.
    """
    folder, what = out / system / fit.metric, f"fit of {fit.metric}, {system}"
    command = [sys.executable, "-m", "cdslm_eval", "fit", str(table), "--metric", fit.metric, "--out", str(folder)]
    command += ["--where", f"system={system}", *shlex.split(fit.arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"{what}: {(done.stderr.strip() or 'no answer').splitlines()[-1]}"
    first = (done.stdout.strip() or done.stderr.strip()).partition("\n")[0]
    return f"{what}: {first} ({folder})"
