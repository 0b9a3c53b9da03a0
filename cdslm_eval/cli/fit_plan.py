"""`cdslm-eval fit simulate` and `fit plan`: tables drawn from a known law, and how many runs a question needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cdslm_eval.cli import common
from cdslm_eval.cli.fit_options import JsonToOption, deliver
from cdslm_eval.cli.fit_values import pairs, quantities
from cdslm_eval.core.errors import UsageError

if TYPE_CHECKING:
    from cdslm_eval.scaling.law import Law
    from cdslm_eval.scaling.simulate import Plan, PlanIntervals

__all__ = ["plan", "simulate"]

# Besiroglu et al., arXiv 2404.10102, table 1: what Hoffmann et al.'s runs give under a careful fit
CHINCHILLA = {"E": "1.8172", "A": "482.01", "B": "2085.43", "alpha": "0.3478", "beta": "0.3658"}


@dataclass(frozen=True, slots=True)
class Planned:
    """A law that is assumed true, and the runs that would be trained."""

    law: Annotated[
        list[str] | None,
        typer.Option("--law", help="Its parameters: E=1.8,A=480,B=2100,alpha=0.35,beta=0.37; default: Chinchilla's."),
    ] = None
    form: Annotated[str, typer.Option("--form", help="chinchilla, gamma, shared or power.")] = "chinchilla"
    budgets: Annotated[
        list[str] | None, typer.Option("--budgets", help="C of each budget in FLOPs: 1e18,3e18,1e19,3e19,1e20.")
    ] = None
    sizes: Annotated[int, typer.Option("--sizes", min=1, help="Models per budget.")] = 9
    width: Annotated[float, typer.Option("--width", min=1.0, help="Largest N over smallest N of a budget.")] = 16.0
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Runs per model.")] = 1
    noise: Annotated[
        float, typer.Option("--noise", min=0.0, help="Standard deviation of a run, relative to the metric.")
    ] = 0.005
    k: Annotated[float, typer.Option("--k", min=1e-9, help="FLOPs per parameter and token: C = k N D.")] = 6.0
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the noise.")] = 0

    def truth(self) -> Law:
        """Return the law."""
        from cdslm_eval.scaling.law import Law

        parameters = pairs("--law", self.law)
        if not parameters and self.form != "chinchilla":
            raise UsageError(f"--form {self.form} needs its parameters: --law E=..,A=..,alpha=..")
        try:
            values = {name: float(value) for name, value in (parameters or CHINCHILLA).items()}
        except ValueError as error:
            raise UsageError(f"--law {','.join(self.law or ())!r}: {error}") from error
        return Law.of(self.form, k=self.k, axis=None, **values)

    def plan(self) -> Plan:
        """Return the runs."""
        from cdslm_eval.scaling.simulate import Plan

        budgets = quantities("--budgets", self.budgets) or [1e18, 3e18, 1e19, 3e19, 1e20]
        return Plan(tuple(budgets), self.sizes, self.width, self.repeats)


def simulate(
    planned: Planned,
    to: Annotated[str, typer.Argument(help="A .csv or .json file, or - for CSV on stdout.")] = "-",
    metric: Annotated[str, typer.Option("--metric", "-m", help="Name of the metric's column.")] = "loss",
) -> None:
    """Draw a table of runs from a known law with noise, to try a study out."""
    from cdslm_eval.cli.tables import records_csv
    from cdslm_eval.scaling.simulate import simulate as draw

    table = draw(planned.truth(), planned.plan(), planned.noise, planned.seed, metric=metric)
    records = table.to_records()
    if to == "-" or to.lower().endswith(".csv"):
        common.write_text(to, records_csv(records))
    elif to.lower().endswith(".json"):
        common.write_json(to, records)
    else:
        raise UsageError(f"{to}: a simulated table goes to .csv or .json")
    if to != "-":
        common.note(f"{len(records)} runs, {planned.plan().flops:.3g} FLOPs: {to}")


def plan(
    planned: Planned,
    simulations: Annotated[int, typer.Option("--simulations", min=20, help="Tables that are drawn and fitted.")] = 300,
    level: Annotated[float, typer.Option("--level", min=0.5, max=0.999, help="Of the intervals.")] = 0.95,
    want: Annotated[
        str | None, typer.Option("--want", help="Add repeats until an interval is this narrow: alpha=0.05.")
    ] = None,
    json_to: JsonToOption = None,
) -> None:
    """Report how well a plan of runs would determine a law, or how many runs that takes, before any is trained."""
    from cdslm_eval.results.numbers import to_json
    from cdslm_eval.scaling.simulate import plan_intervals, plan_runs

    settings: dict[str, Any] = {"simulations": simulations, "seed": planned.seed, "level": level}
    if want is None:
        intervals = plan_intervals(planned.truth(), planned.plan(), planned.noise, **settings)
    else:
        name, width = _wanted(want)
        intervals = plan_runs(
            planned.truth(),
            planned.plan(),
            planned.noise,
            name,
            width,
            progress=lambda trial: common.note(f"{trial.plan.runs} runs: {name} within {trial.width(name):.3g}"),
            **settings,
        )
    deliver(to_json(_document(intervals, planned.noise)), lambda: _text(intervals, planned.noise), json_to)


def _wanted(text: str) -> tuple[str, float]:
    name, _, width = text.partition("=")
    try:
        return name.strip(), float(width)
    except ValueError as error:
        raise UsageError(f"--want {text!r}: a parameter and the width of its interval, such as alpha=0.05") from error


def _document(intervals: PlanIntervals, noise: float) -> dict[str, Any]:
    return {
        "plan": intervals.plan,
        "runs": intervals.plan.runs,
        "flops": intervals.plan.flops,
        "noise": noise,
        "level": intervals.level,
        "converged": intervals.converged,
        "truth": dict(intervals.truth),
        "intervals": {name: intervals.interval(name) for name in intervals.truth},
        "widths": {name: intervals.width(name) for name in intervals.truth},
        "bias": {name: intervals.bias(name) for name in intervals.truth},
        "ratio_sign_known": intervals.sign_known if "ratio_exponent" in intervals.truth else None,
    }


def _text(intervals: PlanIntervals, noise: float) -> str:
    from cdslm_eval.cli.fit_text import table_text
    from cdslm_eval.scaling.output.text import View, between, plain

    budgets = intervals.plan.budgets
    first = (
        f"{intervals.plan.runs} runs at {len(budgets)} budgets from {min(budgets):.3g} to {max(budgets):.3g} FLOPs, "
        f"{intervals.plan.flops:.3g} FLOPs in all, each run with a noise of {noise:g}."
    )
    rows = tuple(
        (
            name,
            plain(intervals.truth[name], 5),
            between(*intervals.interval(name)),
            plain(intervals.width(name), 3),
            f"{intervals.bias(name):+.2g}",
        )
        for name in intervals.truth
    )
    view = View("Estimates from such tables", ("", "truth", f"{100 * intervals.level:g} %", "width", "bias"), rows)
    blocks = [first, table_text(view)]
    if "ratio_exponent" in intervals.truth:
        blocks.append(f"r* = D*/N* would have the right sign in {intervals.sign_known:.0%} of such tables.")
    if intervals.converged < 1:
        blocks.append(f"{1 - intervals.converged:.1%} of the fits reached no optimum.")
    return "\n\n".join(blocks) + "\n"
