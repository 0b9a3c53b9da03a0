"""Options that the commands of `cdslm-eval fit` share, and what they become: a table, a law spec, files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cdslm_eval.cli import common
from cdslm_eval.cli.fit_values import bounds, pairs
from cdslm_eval.core.errors import UsageError

if TYPE_CHECKING:
    from cdslm_eval.scaling.frontier import Resampling
    from cdslm_eval.scaling.law import LawSpec
    from cdslm_eval.scaling.table import RunTable

__all__ = [
    "BudgetsOption",
    "EpsilonOption",
    "Fitting",
    "Grouping",
    "Intervals",
    "JsonToOption",
    "Judging",
    "Output",
    "Rows",
    "Through",
    "deliver",
]


@dataclass(frozen=True, slots=True)
class Rows:
    """Which rows are fitted."""

    runs: Annotated[
        str,
        typer.Argument(metavar="RUNS", help="CSV, TSV, JSON, JSONL or parquet, a row per run; or a store of scores."),
    ]
    metric: Annotated[str, typer.Option("--metric", "-m", help="The column that is fitted.")] = "loss"
    columns: Annotated[
        list[str] | None,
        typer.Option("--columns", help="N='Model Size',C=flops; also D, F (FLOPs per token), weight, run, split."),
    ] = None
    ignore_columns: Annotated[
        str, typer.Option("--ignore-columns", help="Columns that are passed over: A,B or patterns such as wall_*.")
    ] = ""
    where: Annotated[
        list[str] | None, typer.Option("--where", help="Keep rows of which all hold: decay=cosine, N<7B.")
    ] = None
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", help="Drop rows: loss>3.4, line=5,7-9, highest:loss:5.")
    ] = None
    test: Annotated[
        list[str] | None, typer.Option("--test", help="Hold rows out, fit without them, predict them: C>1e21.")
    ] = None
    k: Annotated[float, typer.Option("--k", min=1e-9, help="FLOPs per parameter and token: C = k N D.")] = 6.0
    compute: Annotated[
        str,
        typer.Option(
            "--compute", help="C under a budget: kND (with --k), or fitted: C = k N^p D^q, fitted to measured C."
        ),
    ] = "kND"
    systems: Annotated[
        str | None, typer.Option("--systems", help="N, D, C of each system of a store: a table with a column system.")
    ] = None
    value: Annotated[
        str, typer.Option("--value", help="Which number of a store's estimates: value, corrected or held_out.")
    ] = "value"

    def __post_init__(self) -> None:
        if self.compute not in {"kND", "fitted"}:
            raise UsageError(f"--compute {self.compute!r}: use kND or fitted")

    def read(self) -> RunTable:
        """Read the table and choose its rows; a rule that matches nothing is reported."""
        table = self._open()
        for rule in self.where or ():
            left = table.only(rule)
            if not len(left):
                raise UsageError(f"--where {rule!r}: none of {len(table)} rows matches")
            table = left
        for rule in self.exclude or ():
            left = table.excluding(rule)
            if len(left) == len(table):
                common.note(f"note: --exclude {rule!r} matches no row")
            table = left
        table = self._split(table) if self.test else table
        return table.costing() if self.compute == "fitted" else table

    def _open(self) -> RunTable:
        from cdslm_eval.scaling.table import RunTable

        columns = pairs("--columns", self.columns)
        if Path(self.runs).suffix != ".cdslm":
            ignored = common.listed(self.ignore_columns)
            return RunTable.read(self.runs, columns=columns, k=self.k, ignore_columns=ignored)
        from cdslm_eval.core.store import Store

        if self.systems is None:
            raise UsageError(f"{self.runs}: a store holds no N, D and C; use --systems SYSTEMS.csv")
        with Store(Path(self.runs), read_only=True) as store:
            return RunTable.from_store(store, self.systems, value=self.value, columns=columns, k=self.k)

    def _split(self, table: RunTable) -> RunTable:
        import numpy as np

        split = np.array(table.split, dtype="U5")
        for rule in self.test or ():
            matched = table.only(rule)
            if not len(matched):
                raise UsageError(f"--test {rule!r} matches none of {len(table)} rows")
            split[np.isin(table.line, matched.line)] = "test"
        return dataclasses.replace(table, split=split)


@dataclass(frozen=True, slots=True)
class Fitting:
    """What is fitted, and how."""

    law: Annotated[
        str,
        typer.Option(
            "--law", help="chinchilla, gamma, shared, power, or the law of a plugin, with options: NAME:key=value."
        ),
    ] = "chinchilla"
    estimator: Annotated[
        str, typer.Option("--estimator", help="huber, lad (least absolute deviations) or least_squares.")
    ] = "huber"
    delta: Annotated[
        float,
        typer.Option(
            "--delta",
            help="Huber's delta on the scale of the link; identity: a multiple of the median |metric|.",
        ),
    ] = 1e-3
    delta_absolute: Annotated[
        float | None,
        typer.Option(
            "--delta-absolute",
            help="Huber's delta in the metric's own units, in place of --delta; needs --link identity.",
        ),
    ] = None
    link: Annotated[
        str | None,
        typer.Option(
            "--link", help="Scale of residuals: log, identity or logit. Default: logit with --bounds, else log."
        ),
    ] = None
    bounds: Annotated[
        str | None, typer.Option("--bounds", help="Values the metric cannot leave: 1,5 for a MOS, 0,1 for a share.")
    ] = None
    better: Annotated[str, typer.Option("--better", help="Which way the metric improves: lower or higher.")] = "lower"

    def spec(self, default: str = "log") -> LawSpec:
        """Return the law and how it is fitted.

        Args:
            default: Link of a metric that has no bounds and falls.
        """
        from cdslm_eval.scaling.law import LawSpec

        spec = LawSpec(
            form=self.law,
            estimator=self.estimator,
            delta=self.delta,
            delta_absolute=self.delta_absolute,
            link=self.link or "",
            bounds=bounds(self.bounds),
            better=self.better,
        )
        spec = dataclasses.replace(spec, link=spec.linked(default))
        if self.delta_absolute is not None and spec.link != "identity":
            raise UsageError(
                f"--delta-absolute is in the metric's units, and residuals are on the {spec.link} scale; "
                "use --link identity"
            )
        return spec


@dataclass(frozen=True, slots=True)
class Intervals:
    """How intervals are made."""

    level: Annotated[float, typer.Option("--level", min=0.5, max=0.999, help="Of every interval.")] = 0.95
    replicates: Annotated[int, typer.Option("--replicates", min=0, help="Of the bootstrap; 0: no intervals.")] = 1000
    by: Annotated[str, typer.Option("--by", help="What is resampled: row, run, isoflop, or a column.")] = "row"
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the bootstrap.")] = 0

    def resampling(self) -> Resampling:
        """Return the options of the bootstrap."""
        from cdslm_eval.scaling.frontier import Resampling

        return Resampling(**dataclasses.asdict(self))


EpsilonOption = Annotated[
    list[str] | None,
    typer.Option(
        "--epsilon",
        help="How far from the optimum widths are measured: 1% of its value, or 0.01 in the metric's units; repeat, or "
        "separate by commas. Default: 0.1%,1%,5%,0.01.",
    ),
]


@dataclass(frozen=True, slots=True)
class Judging:
    """Options of a verdict."""

    baseline: Annotated[
        float | None, typer.Option("--baseline", help="The metric's value on real data: is it within reach?")
    ] = None
    noise: Annotated[
        float | None, typer.Option("--noise", help="Standard deviation of the metric between runs alike.")
    ] = None


@dataclass(frozen=True, slots=True)
class Grouping:
    """Groups of rows that are fitted each and compared."""

    group: Annotated[
        str | None,
        typer.Option(
            "--group",
            help="Fit the rows of each text of this column (or of several: dataset,decay) by themselves and jointly, "
            "and compare the compute that they need.",
        ),
    ] = None
    against: Annotated[
        str | None, typer.Option("--against", help="The group that the others are compared with; default: the first.")
    ] = None

    compare_at: Annotated[
        list[str] | None,
        typer.Option(
            "--compare-at",
            help="Values of the metric at which the compute of groups is compared: 2.5,2.8. Default: three within the "
            "data.",
        ),
    ] = None

    def __post_init__(self) -> None:
        for name, value in (("--against", self.against), ("--compare-at", self.compare_at)):
            if value is not None and self.group is None:
                raise UsageError(f"{name} is for groups: name their column with --group COLUMN")


@dataclass(frozen=True, slots=True)
class Through:
    """How a metric is fitted through the loss."""

    loss: Annotated[str, typer.Option("--loss", help="The column of the loss.")] = "loss"
    loss_link: Annotated[
        str, typer.Option("--loss-link", help="Scale of the residuals of the loss: log or identity.")
    ] = "log"
    maps: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="Map from loss to metric: line, straight, exponential, power, sigmoid, bounded-sigmoid, spline; "
            "repeat for several. Default: the best of these, by held-out error and AICc. By name alone: ideal-sigmoid, "
            "for losses of which 0 is perfect.",
        ),
    ] = None
    loss_rows: Annotated[
        list[str] | None,
        typer.Option("--loss-rows", help="Rows for the law of the loss, by rules as in --where of which any holds."),
    ] = None
    metric_rows: Annotated[
        list[str] | None,
        typer.Option("--metric-rows", help="Rows for the map, such as checkpoints, by rules of which any holds."),
    ] = None

    def options(self) -> dict[str, Any]:
        """Return the options of `compare_downstream`."""
        return {
            "loss_link": self.loss_link,
            "maps": tuple(self.maps or ()),
            "loss_rows": tuple(self.loss_rows or ()),
            "metric_rows": tuple(self.metric_rows or ()),
        }


JsonToOption = Annotated[str | None, typer.Option("--json", help="Write full-precision JSON to this file, or - .")]
BudgetsOption = Annotated[
    list[str] | None, typer.Option("--C", help="Budgets in FLOPs whose optimum is reported: 1e23, or 1e21,1e22.")
]


@dataclass(frozen=True, slots=True)
class Output:
    """Where results go."""

    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write figures (SVG, PNG, PDF), fit.json and one HTML page into this folder."),
    ] = None
    figure: Annotated[
        list[str] | None,
        typer.Option(
            "--figure",
            help="Write these figures alone into the folder of --out: paper (isoFLOPs and curvature side by side), "
            "isoflop, optima, curvature, near-optimal, residuals, predicted, rollout, metric-loss, ladder (the loss "
            "against compute, and the metric against the loss), bootstrap; with --group families (all groups side by "
            "side).",
        ),
    ] = None
    json_to: JsonToOption = None

    def __post_init__(self) -> None:
        if self.figure and self.out is None:
            raise UsageError("--figure writes files: name their folder with --out DIR")


def deliver(document: dict[str, Any], text: Callable[[], str], json_to: str | None) -> None:
    """Write the JSON to its destination, and print the text unless JSON goes to stdout."""
    if json_to is not None:
        common.write_json(json_to, document)
    if json_to != "-":
        common.write_text("-", text())
