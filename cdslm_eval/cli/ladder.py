"""`cdslm-eval ladder`: from a plan to trained models, their scores, one table of runs, and its fits."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cdslm_eval.cli import common
from cdslm_eval.cli.score import JobsOption
from cdslm_eval.core.printable import printable, printable_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cdslm_eval.ladder import LadderRun, SampledPoint
    from cdslm_eval.ladder.plan import Fit
    from cdslm_eval.ladder.points import Sampling
    from cdslm_eval.results.estimate import Estimate
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
    devices: Annotated[
        str,
        typer.Option("--devices", help="What {device} takes, by commas: models are trained side by side, one on each."),
    ] = "",
    jobs: JobsOption = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the steps, which are done, and what they cost; do nothing.")
    ] = False,
    tflops: Annotated[
        float | None,
        typer.Option(
            "--tflops",
            min=1e-9,
            help="Rate for the minutes of --dry-run; default: that of finished runs, else the plan's.",
        ),
    ] = None,
    as_json: Annotated[str, typer.Option("--json", help="Write the table and scores as JSON to a file, or - .")] = "",
) -> None:
    """Train sizes x budgets, generate from each model, score the clips, and fit how the metrics scale.

    Every step is skipped when its output is there: the same command continues after whatever ended it. A model is
    scored as soon as it is trained; one that fails does not stop the others, and is tried again by the same command. A
    plan runs the commands that it names: read a third party's before you run it.
    """
    from cdslm_eval.core.errors import EvalError
    from cdslm_eval.ladder import LadderRun, read_plan
    from cdslm_eval.ladder.planned import check_bounds
    from cdslm_eval.plugin.host import Host

    names = [name.strip() for name in devices.split(",") if name.strip()]
    run = LadderRun(read_plan(plan, _places(path or []), names), out, Host(), common.note)
    if dry_run:
        _show_costs(run, tflops)
        return
    run.prepare()
    check_bounds(run)
    metrics = run.metrics()
    sampled, without, failures = _train(run, metrics, jobs)
    if not sampled:
        raise EvalError(f"{run.plan.name}: no model was trained: {failures[0]}")
    generated = [clips for clips in sampled if clips.name not in without]
    result = _score(run, generated, metrics, jobs) if generated else None
    table = _write(run, sampled, result, as_json)
    fits = [_fit(table, *wanted, out / "fit") for wanted in _fits(run, sampled)]
    typer.echo(f"table: {table}")
    if result:
        typer.echo(f"scores: {out / 'scores.json'}\nreport: {out / 'report' / 'index.html'}")
    for line in filter(None, fits):
        typer.echo(printable_lines(line))
    if failures:
        count = len(run.rows())
        lacking = [f"{count - len(sampled)} of {count} models are not in the table"] if len(sampled) < count else []
        lacking += [f"{len(without)} of {count} have no clips, and no metric in the table"] if without else []
        raise EvalError(
            f"{run.plan.name}: {', and '.join(lacking)}; the same command tries them again. {'; '.join(failures)}"
        )


def _show_costs(run: LadderRun, tflops: float | None) -> None:
    """Print what each step would cost, and the sum of what is left."""
    from cdslm_eval.cli.tables import grid_table
    from cdslm_eval.ladder.costs import cost_grid, measured_rate, step_costs
    from cdslm_eval.ladder.planned import leave_out

    measured, count = measured_rate(run)
    rate, source, is_measured = measured, f"measured on {count} runs", tflops is None and count > 0
    if tflops is not None:
        rate, source = tflops * 1e12, "--tflops"
    elif not count and run.plan.tflops is not None:
        rate, source = run.plan.tflops * 1e12, "the plan's"
    omitted, _ = leave_out(run)
    grid = cost_grid(step_costs(run), rate, source, is_measured=is_measured)
    typer.echo(grid_table(grid))
    notes = [f"{name} is left out: {why}." for name, why in omitted.items()]
    for note in (*grid.notes, *notes):
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


def _train(run: LadderRun, metrics: list[str], jobs: int) -> tuple[list[SampledPoint], set[str], list[str]]:
    """Train every model, and score each as soon as it is there.

    Returns:
        The rows of the table in the plan's order; the names of those that have no clips; and what failed. A model
        whose clips cannot be made keeps its row, or fits of the loss would lack the models that train worst.
    """
    from cdslm_eval import api
    from cdslm_eval.core.errors import EvalError, UsageError
    from cdslm_eval.ladder import SampledPoint, train
    from cdslm_eval.ladder.rows import as_csv, run_rows

    reference = run.reference()
    finished: list[SampledPoint] = []
    estimates: list[Estimate] = []
    without: set[str] = set()
    failures: list[str] = []
    for outcome in train(run):
        failures += [outcome.error] if outcome.error else []
        wanted = [SampledPoint(model, axes) for model in outcome.trained for axes in run.samplings(model.point)]
        for sampled in wanted:
            try:
                clips = run.generate(sampled)
            except UsageError:
                raise  # the plan is at fault, and every model would fail
            except EvalError as error:
                failures.append(f"{sampled.name}: {error}")
                common.note(f"{sampled.name} failed: {error}")
                without.add(sampled.name)
            else:
                early = api.score(
                    [clips],
                    reference,
                    metrics,
                    recognizer=run.plan.score.recognizer,
                    store=run.out / "store.cdslm",
                    jobs=jobs,
                    seed=run.plan.seed,
                    # neither is a column, and warnings come with the whole table
                    channel=False,
                    real_row=False,
                    note=lambda _: None,
                )
                estimates += early.estimates
                values = [f"{estimate.name} {estimate.headline()}" for estimate in early.estimates[:6]]
                loss = sampled.trained.result["val_loss"]
                common.note(f"{sampled.name}: val_loss {loss:.5g}, {', '.join(values)}")
            finished.append(sampled)
            # so that the table can be looked at while the rest is trained
            common.write_text(str(run.out / "runs.csv"), as_csv(run_rows(finished, estimates)))
    places = {name: place for place, name in enumerate(run.rows())}
    return sorted(finished, key=lambda sampled: places[sampled.name]), without, failures


def _score(run: LadderRun, finished: list[SampledPoint], metrics: list[str], jobs: int) -> ScoreResult:
    """Score all models beside each other and the controls: what was measured before comes from the store."""
    from cdslm_eval import api
    from cdslm_eval.report import write_report

    result = api.score(
        [*(run.generate(sampled) for sampled in finished), *run.generate_controls()],
        run.reference(),
        metrics,
        recognizer=run.plan.score.recognizer,
        store=run.out / "store.cdslm",
        jobs=jobs,
        seed=run.plan.seed,
        progress=True,
        note=common.note,
    )
    write_report(result, run.out / "report")
    return result


def _write(run: LadderRun, finished: list[SampledPoint], result: ScoreResult | None, as_json: str) -> Path:
    """Write the table, and the scores where there are clips."""
    from cdslm_eval.ladder.rows import as_csv, run_rows

    table = run.out / "runs.csv"
    common.write_text(str(table), as_csv(run_rows(finished, result.estimates if result else ())))
    scores = result.as_json() if result else None
    if scores:
        common.write_json(str(run.out / "scores.json"), scores)
    if as_json:
        runs = [
            {"run": row.trained.point.name, "row": row.name, **dict(row.sampling), **row.trained.result}
            for row in finished
        ]
        common.write_json(as_json, {"plan": run.plan.name, "runs": runs, "scores": scores})
    return table


def _fits(run: LadderRun, finished: Sequence[SampledPoint]) -> Iterator[tuple[str, Fit, Sampling]]:
    """Yield system, fit and values of the axes of every fit; what training provides is fitted once."""
    from cdslm_eval.ladder.points import samplings
    from cdslm_eval.ladder.rows import run_rows

    # without estimates, the rows have the columns of the trainings alone
    of_training = {name for row in run_rows(finished, ()) for name in row}
    for fit in run.plan.fit:
        for family in run.plan.systems:
            combinations = samplings(run.plan, family)
            for sampling in combinations[:1] if fit.metric in of_training else combinations:
                yield family.name, fit, sampling


def _fit(table: Path, system: str, fit: Fit, sampling: Sampling, out: Path) -> str:
    """Fit one metric of one system in a process of its own, into OUT/SYSTEM/METRIC; with axes, for a value of each.

    A table that a law cannot be fitted to is no failure of the ladder. Systems are never pooled: their losses are of
    different kinds, and so are their tokens.
    """
    name = fit.metric + "".join(f"-{axis}{value}" for axis, value in sampling)
    folder, what = out / system / name, f"fit of {name}, {system}"
    command = [sys.executable, "-m", "cdslm_eval", "fit", "law" if fit.loss is None else "downstream", str(table)]
    command += ["--metric", fit.metric, *([] if fit.loss is None else ["--loss", fit.loss]), "--out", str(folder)]
    command += ["--where", f"system={system}"]
    for axis, value in sampling:
        command += ["--where", f"{axis}={value}"]
    if fit.held_out_from is not None:
        # the fit reads the column "budget" as the isoFLOP of a row
        command += ["--test", f"isoflop>={fit.held_out_from!r}"]
    further = shlex.split(fit.arguments)
    # every row states the C that its training command counted, of which 6 N D may be twice or half
    chosen = any(word.partition("=")[0] in {"--compute", "--k"} for word in further)
    command += [*([] if chosen else ["--compute", "fitted"]), *further]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        # a table without a law has its reason on the first line of the text, and ends with 1
        reason = done.stdout.strip().partition("\n")[0] or (done.stderr.strip() or "no answer").splitlines()[-1]
        return f"{what}: {reason}"
    first = (done.stdout.strip() or done.stderr.strip()).partition("\n")[0]
    return f"{what}: {first} ({folder})"
