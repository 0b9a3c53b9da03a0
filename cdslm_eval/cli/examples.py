"""One example per command, which tests run, and the groups that `--help` shows options in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption
from typer.models import CommandInfo

__all__ = ["EXAMPLES", "add_examples", "command_infos"]

EXAMPLES: Mapping[str, str] = {
    "score": "cdslm-eval score a=samples/model-a b=samples/model-b -r real --out report",
    "compare": "cdslm-eval compare samples/model-a samples/model-b -r real --out page",
    "run": "cdslm-eval run suite.toml --junit gates.xml --out leaderboard",
    "record": "cdslm-eval record released",
    "merge": "cdslm-eval merge all.cdslm part1.cdslm part2.cdslm",
    "rerun": "cdslm-eval rerun report/result.json",
    "generate": "cdslm-eval generate noise --prompts real --out samples/noise --count 4",
    "make-pairs": "cdslm-eval make-pairs real --prefix 200ms --out pairs",
    "preference": "cdslm-eval preference stationary --pairs pairs",
    "split-channels": "cdslm-eval split-channels talks --out channels",
    "export": "cdslm-eval export values.csv",
    "ladder": "cdslm-eval ladder plan.toml --dry-run --tflops 40",
    "demo": "cdslm-eval demo --out demo",
    "bench": "cdslm-eval bench --metrics signal --seconds 1",
    "plugins": "cdslm-eval plugins --markdown",
    "metrics": "cdslm-eval metrics --json",
    "recognizers": "cdslm-eval recognizers",
    "transcribers": "cdslm-eval transcribers",
    "generators": "cdslm-eval generators",
    "executors": "cdslm-eval executors",
    "pairs": "cdslm-eval pairs samples/model-a",
    "doctor": "cdslm-eval doctor --strict",
    "cite": "cdslm-eval cite pjsd",
    "new-plugin": "cdslm-eval new-plugin breathiness",
    "store info": "cdslm-eval store info",
    "store estimate": "cdslm-eval store estimate --metrics signal",
    "store prune": "cdslm-eval store prune --older-than 90 --dry-run",
    "store verify": "cdslm-eval store verify",
    "fit law": "cdslm-eval fit law runs.csv --metric loss --C 1e23",
    "fit isoflop": "cdslm-eval fit isoflop runs.csv --metric loss",
    "fit downstream": "cdslm-eval fit downstream runs.csv -m mos --bounds 1,5 --better higher",
    "fit verdict": "cdslm-eval fit verdict runs.csv --metric loss --baseline 1.9 --noise 0.01",
    "fit predict": "cdslm-eval fit predict runs.csv --C 1e23",
    "fit power-law": "cdslm-eval fit power-law optima.csv --x C --y n_star",
    "fit simulate": "cdslm-eval fit simulate runs.csv --noise 0.005",
    "fit plan": "cdslm-eval fit plan --budgets 1e18,1e19,1e20",
}
"""Command -> a command line as a reader would type it."""

_PANELS: Mapping[str, tuple[str, ...]] = {
    "What is measured": (
        *("reference", "metrics", "recognizer", "transcriber", "prompts", "count", "seconds", "channel"),
        *("speakers_from", "unpaired", "allow_truncated", "ignore_columns", "only", "against", "shard"),
    ),
    "What is written": (
        *("out", "json_to", "as_json", "format_as", "csv_raw", "private_paths", "junit", "markdown", "annotations"),
    ),
    "How it runs": (
        *("store", "jobs", "device", "executor", "seed", "time_limit", "memory_limit", "keep_failures", "rehash"),
        "allow_outside",
    ),
    "When it fails": ("fail_budget", "strict"),
}
_FIT_PANELS: Mapping[str, tuple[str, ...]] = {
    "Rows": (
        *("metric", "columns", "ignore_columns", "where", "exclude", "test", "k", "compute", "systems", "value"),
        *("loss_rows", "metric_rows", "group", "against", "window"),
    ),
    "Law": (
        *("law", "form", "estimator", "delta", "delta_absolute", "link", "bounds", "better", "loss", "loss_link"),
        *("maps", "curve", "degree"),
    ),
    "Intervals": ("level", "replicates", "by", "seed"),
    "Budgets and models": (
        *("C", "N", "D", "at", "serve", "baseline", "noise", "budgets", "sizes", "width", "repeats", "simulations"),
        "want",
    ),
    "What is written": ("out", "figure", "json_to"),
}
# a panel of one or two options is harder to read than a plain list
_LEAST_OPTIONS = 6
_OTHER = "Other options"


class _Grouped(TyperCommand):
    """A command whose help shows its options in panels."""

    panels = _PANELS

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        shown = [parameter for parameter in self.params if isinstance(parameter, TyperOption)]
        if len(shown) < _LEAST_OPTIONS:
            return
        panel_of = {name: panel for panel, names in self.panels.items() for name in names}
        for parameter in shown:
            parameter.rich_help_panel = panel_of.get(parameter.name or "", _OTHER)
        # help lists panels in the order of their first option
        order = {name: number for number, name in enumerate(panel_of)}
        last = len(order)
        self.params.sort(
            key=lambda parameter: order.get(parameter.name or "", last if isinstance(parameter, TyperOption) else -1)
        )


class _GroupedFit(_Grouped):
    """A command of `fit`, whose options have other groups."""

    panels = _FIT_PANELS


def command_infos(app: typer.Typer, path: tuple[str, ...] = ()) -> Iterator[tuple[str, CommandInfo]]:
    """Yield every command of an application as ("fit law", its entry)."""
    for info in app.registered_commands:
        yield " ".join((*path, info.name or "")), info
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from command_infos(group.typer_instance, (*path, str(group.name or group.typer_instance.info.name)))


def add_examples(app: typer.Typer) -> None:
    """Put the example of each command below its help, and its options into groups."""
    for name, info in command_infos(app):
        info.cls = _GroupedFit if name.startswith("fit ") else _Grouped
        # a command without an example is a failing test, and no reason to break every other command
        if example := EXAMPLES.get(name):
            info.epilog = f"Example:\n\n\b\n  {example}"
