"""`cdslm-eval fit`: how a metric scales with parameters, data and compute, and what follows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from cdslm_eval.cli import common, fit_plan
from cdslm_eval.cli.fit_curves import Curves, power_law
from cdslm_eval.cli.fit_options import (
    BudgetsOption,
    EpsilonOption,
    Fitting,
    Grouping,
    Intervals,
    JsonToOption,
    Judging,
    Output,
    Rows,
    Through,
    deliver,
)
from cdslm_eval.cli.fit_values import epsilons, numbers, pairs, quantities
from cdslm_eval.cli.spread import spread
from cdslm_eval.core.errors import UnknownNameError, UsageError, did_you_mean

if TYPE_CHECKING:
    from cdslm_eval.scaling.families import Families
    from cdslm_eval.scaling.output.saved import Saved
    from cdslm_eval.scaling.study import Settings, Study
    from cdslm_eval.scaling.table import RunTable

__all__ = ["add_to"]

DEFAULT = "law"
EXAMPLES = """
Examples:\n
\b
  cdslm-eval fit runs.csv --metric loss --out report
  cdslm-eval fit runs.csv --columns N='Model Size',C='Training FLOP' --exclude highest:loss:5
  cdslm-eval fit isoflop runs.csv --where decay=cosine
  cdslm-eval fit isoflop runs.csv --window 0.05 --curve akima
  cdslm-eval fit power-law optima.csv --y n_star
  cdslm-eval fit runs.csv --group architecture --against transformer
  cdslm-eval fit downstream runs.csv --metric mos --loss loss --bounds 1,5 --better higher
  cdslm-eval fit verdict runs.csv --metric pjsd_2 --baseline 0.02 --noise 0.003
  cdslm-eval fit predict runs.csv --C 1e23
  cdslm-eval fit predict report/fit.json --N 7B --D 1.4T
\n
`cdslm-eval fit RUNS` is short for `cdslm-eval fit law RUNS`, whose --help lists the options of every fit.
"""


class DefaultGroup(TyperGroup):
    """A group that runs its default command when the first argument names no other."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the default command, unless help is requested or a command is named or misspelt."""
        if args and not ctx.resilient_parsing and args[0] not in self.commands and args[0] not in {"--help", "-h"}:
            first = args[0]
            if not first.startswith("-") and "." not in first and not Path(first).exists():
                hint = did_you_mean(first, self.commands)
                raise UsageError(
                    f"fit {first}: neither a file nor a command.{hint or ' Commands: ' + ', '.join(self.commands)}"
                )
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        cls=DefaultGroup,
        help="Fit how a metric scales with N, D and C, and report what follows.",
        epilog=EXAMPLES,
        no_args_is_help=True,
    )
    for command in (law, isoflop, downstream, verdict, predict):
        group.command(name=command.__name__, no_args_is_help=True)(spread(command))
    for planning in (fit_plan.simulate, fit_plan.plan):
        group.command(name=planning.__name__)(spread(planning))
    group.command(name="power-law", no_args_is_help=True)(power_law)
    app.add_typer(group, name="fit")


def law(
    rows: Rows,
    fitting: Fitting,
    intervals: Intervals,
    judging: Judging,
    grouping: Grouping,
    output: Output,
    C: BudgetsOption = None,
) -> None:
    """Fit a law, and report what follows: optima, curvature, near-optimal range, verdict.

    Exit codes: 0 fitted (the first line states whether the fit can be trusted); 1 no law could be fitted;
    2 the command or the table was wrong; 3 internal error.
    """
    from cdslm_eval.cli.fit_text import law_text

    settings = _settings(fitting, intervals, judging, budgets=tuple(quantities("--C", C)))
    if grouping.group is not None:
        _families(rows, settings, grouping, output)
    else:
        _study(rows, settings, output, law_text)


def isoflop(
    rows: Rows,
    fitting: Fitting,
    intervals: Intervals,
    grouping: Grouping,
    curves: Curves,
    output: Output,
    epsilon: EpsilonOption = None,
) -> None:
    """Fit a curve in ln N to each budget: N*, D*, r* and curvature from the data alone, and their power laws."""
    from cdslm_eval.cli.fit_text import isoflop_text

    chosen: dict[str, Any] = {"epsilons": epsilons(epsilon)} if epsilon else {}
    settings = _settings(fitting, intervals, law=False, isoflop=curves.options(), **chosen)
    if grouping.group is not None:
        _families(rows, settings, grouping, output)
    else:
        _study(rows, settings, output, isoflop_text)


def downstream(
    rows: Rows,
    fitting: Fitting,
    intervals: Intervals,
    judging: Judging,
    output: Output,
    through: Through,
) -> None:
    """Fit a metric directly, through the loss (two-stage) and jointly with it (fused), and compare on held-out rows."""
    if rows.metric == through.loss:
        raise UsageError(f"--metric {rows.metric!r} is the loss itself; name a metric that depends on it")
    from cdslm_eval.cli.fit_text import downstream_text

    options = {"loss": through.loss, "through": through.options()}
    _study(rows, _settings(fitting, intervals, judging, link="identity", **options), output, downstream_text)


def verdict(rows: Rows, fitting: Fitting, intervals: Intervals, judging: Judging, output: Output) -> None:
    """Decide whether a metric scales, saturates, is flat or worsens, and whether real data's value is reachable."""
    from cdslm_eval.cli.fit_text import verdict_text

    _study(rows, _settings(fitting, intervals, judging), output, verdict_text)


def predict(
    rows: Rows,
    fitting: Fitting,
    intervals: Intervals,
    json_to: JsonToOption = None,
    C: BudgetsOption = None,
    N: Annotated[list[str] | None, typer.Option("--N", help="Parameters of models, such as 7B; with --D.")] = None,
    D: Annotated[list[str] | None, typer.Option("--D", help="Their tokens, such as 1.4T.")] = None,
    at: Annotated[
        list[str] | None,
        typer.Option("--at", help="Further columns of these models that the law reads: unique_tokens=100B."),
    ] = None,
    serve: Annotated[
        str | None,
        typer.Option(
            "--serve",
            help="Tokens to be served: the model of each --C's quality of least FLOPs in all, training and use.",
        ),
    ] = None,
) -> None:
    """Predict the metric at the optimum of budgets, or of single models, with confidence and prediction intervals.

    RUNS may also be the JSON of a fit (`--json FILE`, or fit.json of `--out`), which holds all that is needed.
    """
    budgets, models, tokens = quantities("--C", C), quantities("--N", N), quantities("--D", D)
    if not budgets and not models:
        raise UsageError("nothing to predict; use --C 1e23, or --N 7B --D 1.4T")
    if len(models) != len(tokens):
        raise UsageError(f"--N has {len(models)} values and --D {len(tokens)}; each model needs its tokens")
    if serve is not None and not budgets:
        raise UsageError("--serve needs --C: the budgets whose optimum sets the quality")
    from cdslm_eval.cli.fit_text import predictions_text
    from cdslm_eval.scaling.frontier import predictions
    from cdslm_eval.scaling.output.predictions import predictions_document

    chosen: dict[str, Any] = {
        "budgets": budgets,
        "models": list(zip(models, tokens, strict=True)),
        "columns": {name: quantities("--at", [value])[0] for name, value in pairs("--at", at).items()},
        "serving": None if serve is None else quantities("--serve", [serve])[0],
    }
    saved = _saved(rows, fitting)
    how = intervals.resampling()
    if saved is None:
        done = predictions(rows.read(), rows.metric, fitting.spec(), how, **chosen)
    else:
        how = saved.resampling if intervals == Intervals() else how
        done = predictions(saved.table, saved.metric, saved.spec, how, **chosen)
        if drift := saved.drift(done.fit):
            common.note(f"note: {drift}")
    deliver(predictions_document(done), lambda: predictions_text(done), json_to)


def _saved(rows: Rows, fitting: Fitting) -> Saved | None:
    """Return the fit whose JSON was named in place of a table, or None; it is used as it is."""
    from cdslm_eval.scaling.output.saved import read_saved

    saved = read_saved(Path(rows.runs))
    if saved is None:
        return None
    chosen = dataclasses.replace(rows, metric="loss") != Rows(rows.runs) or fitting != Fitting()
    if chosen or rows.metric not in {"loss", saved.metric}:
        raise UsageError(
            f"{rows.runs} is a fit of {saved.metric!r}, used as it is; to choose rows or a law, use the table"
        )
    return saved


def _settings(
    fitting: Fitting, intervals: Intervals, judging: Judging | None = None, *, link: str = "log", **more: Any
) -> Settings:
    from cdslm_eval.scaling.study import Settings

    judged = {} if judging is None else dataclasses.asdict(judging)
    return Settings(spec=fitting.spec(link), resampling=intervals.resampling(), **judged, **more)


def _study(rows: Rows, settings: Settings, output: Output, text: Callable[[Study], str]) -> None:
    """Compute a study, print it, and write its files."""
    from cdslm_eval.scaling.output.document import study_document
    from cdslm_eval.scaling.study import study

    _name_systems(table := rows.read())
    with common.stages() as stage:
        done = study(table, rows.metric, settings, stage)
    deliver(study_document(done), lambda: text(done), output.json_to)
    if output.out is not None:
        from cdslm_eval.report.fit import write_figures, write_fit_report

        if output.figure:
            common.note(f"figures: {', '.join(map(str, write_figures(done, output.out, output.figure)))}")
        else:
            common.note(f"report: {write_fit_report(done, output.out)}")
    if settings.law and done.fit is None:
        raise typer.Exit(1)


def _name_systems(table: RunTable) -> None:
    """Note rows of several systems that are fitted as one: their losses and tokens may be of two kinds."""
    systems = sorted(set(table.labels.get("system", ())))
    if len(systems) > 1:
        common.note(
            f"note: rows of {len(systems)} systems are fitted as one: {', '.join(systems)}; "
            f"--where system={systems[0]} fits one alone, --group system each of them"
        )


def _families(rows: Rows, settings: Settings, grouping: Grouping, output: Output) -> None:
    """Fit the groups of a column, print them as one table, and write one page of all and one of each."""
    from cdslm_eval.cli.fit_text import families_text
    from cdslm_eval.scaling.families import fit_families
    from cdslm_eval.scaling.output.families import families_document

    table, column = rows.read(), grouping.group or ""
    options = {"spec": settings.spec, "resampling": settings.resampling, "law": settings.law}
    at = () if grouping.compare_at is None else numbers("--compare-at", grouping.compare_at)
    with common.stages() as stage:
        stage("groups")
        families = fit_families(
            table,
            rows.metric,
            column,
            settings.spec,
            settings.resampling,
            against=grouping.against,
            at=at,
            law=settings.law,
        )
    document = families_document(families, table, options)
    deliver(document, lambda: families_text(families), output.json_to)
    if output.out is not None and output.figure:
        _family_figures(families, settings, output.out, output.figure)
    elif output.out is not None:
        _family_pages(families, document, settings, output.out)
    if settings.law and all(member.fit is None for member in families.members):
        raise typer.Exit(1)


def _family_pages(families: Families, document: dict[str, Any], settings: Settings, out: Path) -> None:
    from cdslm_eval.report.families import write_families_report
    from cdslm_eval.report.fit import write_fit_report
    from cdslm_eval.scaling.study import study

    pages = []
    for number, member in enumerate(families.members, 1):
        try:
            write_fit_report(study(member.table, families.metric, settings), out / f"group-{number}")
        except UsageError as error:
            common.note(f"no page of {member.name!r}: {error}")
        else:
            pages.append((member.name, f"group-{number}/index.html"))
    common.note(f"report: {write_families_report(families, document, out, pages)}")


def _family_figures(families: Families, settings: Settings, out: Path, names: list[str]) -> None:
    """Write the figure of all groups, and figures of each group into a folder of its own."""
    from cdslm_eval.report.families import NAME, write_families_figure
    from cdslm_eval.report.fit import write_figures
    from cdslm_eval.scaling.study import study

    files = write_families_figure(families, out) if NAME in names else []
    each = [name for name in names if name != NAME]
    for number, member in enumerate(families.members if each else (), 1):
        try:
            files += write_figures(study(member.table, families.metric, settings), out / f"group-{number}", each)
        except UnknownNameError:
            raise
        except UsageError as error:
            common.note(f"no figures of {member.name!r}: {error}")
    common.note(f"figures: {', '.join(map(str, files))}")
