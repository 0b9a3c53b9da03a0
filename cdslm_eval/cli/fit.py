"""`cdslm-eval fit`: how a metric scales with parameters, data and compute, and what follows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import click
import typer
from typer.core import TyperGroup

from cdslm_eval.cli import common
from cdslm_eval.cli.fit_options import Budgets, Judging, Law, Output, Resampling, Rows, quantities
from cdslm_eval.cli.spread import spread
from cdslm_eval.errors import UsageError, did_you_mean

__all__ = ["add_to"]

DEFAULT = "law"
EXAMPLES = """
Examples:\n
\b
  cdslm-eval fit runs.csv --metric loss --out report
  cdslm-eval fit runs.csv --columns N='Model Size',C='Training FLOP' --exclude highest:loss:5
  cdslm-eval fit isoflop runs.csv --where decay=cosine
  cdslm-eval fit downstream runs.csv --metric mos --loss loss --bounds 1,5 --better higher
  cdslm-eval fit verdict runs.csv --metric pjsd_2 --baseline 0.02 --noise 0.003
  cdslm-eval fit predict runs.csv --C 1e23
\n
`cdslm-eval fit RUNS` is short for `cdslm-eval fit law RUNS`, whose --help lists the options of every fit.
"""


class DefaultGroup(TyperGroup):
    """A group that runs its default command when the first argument names no other."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command in front, unless help is asked for, a command is named, or one is misspelt."""
        if args and args[0] not in self.commands and args[0] not in {"--help", "-h"}:
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
        help="Fit how a metric scales with N, D and C, and say what follows.",
        epilog=EXAMPLES,
        no_args_is_help=True,
    )
    for command in (law, isoflop, downstream, verdict, predict, simulate, plan):
        group.command(name=command.__name__, no_args_is_help=True)(spread(command))
    app.add_typer(group, name="fit")


def law(rows: Rows, fitting: Law, resampling: Resampling, judging: Judging, budgets: Budgets, output: Output) -> None:
    """Fit a law, and say what follows: optima, curvature, near-optimal range, verdict.

    Exit codes: 0 fitted (also when the fit cannot be trusted: the first line says so); 2 the command or the table was
    wrong; 3 internal error.
    """
    from cdslm_eval.cli.fit_text import law_text
    from cdslm_eval.scaling.document import study_document
    from cdslm_eval.scaling.study import study

    done = study(rows.read(), rows.metric, **fitting.settings(), **resampling.settings(), **judging.settings(), **budgets.settings())
    output.deliver(study_document(done), lambda: law_text(done), _page(done))


def isoflop(rows: Rows, fitting: Law, resampling: Resampling, output: Output) -> None:
    """Fit a parabola in ln N to each budget: N*, D*, r* and curvature from the data alone, and their power laws."""
    from cdslm_eval.cli.fit_text import isoflop_text
    from cdslm_eval.scaling.document import study_document
    from cdslm_eval.scaling.study import study

    done = study(rows.read(), rows.metric, **fitting.settings(), **resampling.settings(), parts=("isoflops",))
    output.deliver(study_document(done), lambda: isoflop_text(done), _page(done))


def downstream(
    rows: Rows,
    fitting: Law,
    resampling: Resampling,
    judging: Judging,
    output: Output,
    loss: Annotated[str, typer.Option("--loss", help="The column of the loss.")] = "loss",
) -> None:
    """Fit a metric directly, through the loss (two-stage) and jointly with it (fused), and compare on held-out rows."""
    if rows.metric == loss:
        raise UsageError(f"--metric {rows.metric!r} is the loss itself; name a metric that depends on it")
    from cdslm_eval.cli.fit_text import downstream_text
    from cdslm_eval.scaling.document import study_document
    from cdslm_eval.scaling.study import study

    done = study(rows.read(), rows.metric, loss=loss, **fitting.settings(), **resampling.settings(), **judging.settings())
    output.deliver(study_document(done), lambda: downstream_text(done), _page(done))


def verdict(rows: Rows, fitting: Law, resampling: Resampling, judging: Judging, output: Output) -> None:
    """Say whether a metric scales, saturates, is flat or worsens, and whether real data's value is reachable."""
    from cdslm_eval.cli.fit_text import verdict_text
    from cdslm_eval.scaling.document import study_document
    from cdslm_eval.scaling.study import study

    done = study(rows.read(), rows.metric, **fitting.settings(), **resampling.settings(), **judging.settings())
    output.deliver(study_document(done), lambda: verdict_text(done), _page(done))


def predict(
    rows: Rows,
    fitting: Law,
    resampling: Resampling,
    output: Output,
    C: Annotated[list[str] | None, typer.Option("--C", help="Budgets in FLOPs: 1e23, or 1e21,1e22,1e23.")] = None,
    N: Annotated[list[str] | None, typer.Option("--N", help="Parameters, such as 7B; with --D.")] = None,
    D: Annotated[list[str] | None, typer.Option("--D", help="Tokens, such as 1.4T; with --N.")] = None,
) -> None:
    """Predict the metric at the optimum of budgets, or for given models, with confidence and prediction intervals."""
    budgets, models, tokens = quantities("--C", C), quantities("--N", N), quantities("--D", D)
    if not budgets and not models:
        raise UsageError("what shall be predicted? Give --C 1e23, or --N 7B --D 1.4T")
    if len(models) != len(tokens):
        raise UsageError(f"--N has {len(models)} values and --D {len(tokens)}; each model needs its tokens")
    from cdslm_eval.cli.fit_text import predictions_text
    from cdslm_eval.scaling.document import predictions_document
    from cdslm_eval.scaling.predictions import predictions

    done = predictions(
        rows.read(), rows.metric, budgets, list(zip(models, tokens, strict=True)), **fitting.settings(), **resampling.settings()
    )
    output.deliver(predictions_document(done), lambda: predictions_text(done), None)
