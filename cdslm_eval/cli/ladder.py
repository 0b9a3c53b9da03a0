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

if TYPE_CHECKING:
    from cdslm_eval.ladder import Climb
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the steps and which are done; do nothing.")] = False,
    as_json: Annotated[str, typer.Option("--json", help="Write the table and scores as JSON to a file, or - .")] = "",
) -> None:
    """Train sizes x budgets, let each speak, score them, and fit how the metrics scale.

    Every step is skipped when its output is there: the same command goes on after whatever ended it. A plan runs the
    commands that it names: read a stranger's before you run it.
    """
    from cdslm_eval.ladder import Climb, read_plan
    from cdslm_eval.plugin.host import Host

    climb = Climb(read_plan(plan, _places(path or [])), out, Host(), common.note)
    if dry_run:
        for step, done in climb.state():
            typer.echo(f"{'done' if done else 'to do':6} {step}")
        return
    climb.prepare()
    results = climb.train()
    result = _score(climb, jobs)
    table = _write(climb, results, result, as_json)
    fits = [_fit(table, family.name, one, out / "fit") for one in climb.plan.fit for family in climb.plan.systems]
    typer.echo(f"table: {table}\nscores: {out / 'scores.json'}\nreport: {out / 'report' / 'index.html'}")
    for line in filter(None, fits):
        typer.echo(line)


def _places(given: list[str]) -> dict[str, str]:
    from cdslm_eval.core.errors import UsageError

    pairs = {}
    for one in given:
        name, sign, place = one.partition("=")
        if not sign:
            raise UsageError(f"--path {one!r}: given as NAME=PLACE")
        pairs[name] = place
    return pairs


def _score(climb: Climb, jobs: int) -> ScoreResult:
    from cdslm_eval import api
    from cdslm_eval.report import write_report

    reference = climb.reference()
    result = api.score(
        climb.generate(),
        reference,
        climb.metrics(),
        recognizer=climb.plan.score.recognizer,
        store=climb.out / "store.cdslm",
        jobs=jobs,
        seed=climb.plan.seed,
        progress=True,
        note=common.note,
    )
    write_report(result, climb.out / "report")
    return result


def _write(climb: Climb, results: list[dict[str, Any]], result: ScoreResult, as_json: str) -> Path:
    from cdslm_eval.ladder import rungs
    from cdslm_eval.ladder.rows import as_csv, run_rows

    table = climb.out / "runs.csv"
    rows = run_rows(rungs(climb.plan), results, result)
    common.write_text(str(table), as_csv(rows))
    common.write_json(str(climb.out / "scores.json"), result.as_json())
    if as_json:
        common.write_json(as_json, {"plan": climb.plan.name, "runs": results, "scores": result.as_json()})
    return table


def _fit(table: Path, system: str, wanted: Fit, out: Path) -> str:
    """Fit one metric of one system in a process of its own, into OUT/SYSTEM/METRIC.

    A table that a law cannot be fitted to is no failure of the ladder. Systems are never pooled: their losses are of
    different kinds, and so are their tokens.
    """
    place, what = out / system / wanted.metric, f"fit of {wanted.metric}, {system}"
    command = [sys.executable, "-m", "cdslm_eval", "fit", str(table), "--metric", wanted.metric, "--out", str(place)]
    command += ["--where", f"system={system}", *shlex.split(wanted.arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"{what}: {(done.stderr.strip() or 'no answer').splitlines()[-1]}"
    first = (done.stdout.strip() or done.stderr.strip()).partition("\n")[0]
    return f"{what}: {first} ({place})"
