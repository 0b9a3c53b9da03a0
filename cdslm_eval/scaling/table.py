"""RunTable: rows of (N parameters, D tokens, C FLOPs, metric values) with declared conventions; what fits read."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UnknownNameError, UsageError, did_you_mean
from cdslm_eval.core.records import Record, read_records, without_columns
from cdslm_eval.scaling.columns import Columns, build, matches
from cdslm_eval.scaling.cost import Cost, fit_cost

if TYPE_CHECKING:
    import pandas as pd

    from cdslm_eval.core.store import Store
    from cdslm_eval.plugin.contract import GeneratorInfo

__all__ = ["ComputeCheck", "Excluded", "RunTable"]

Floats = npt.NDArray[np.float64]
_SETTINGS = frozenset(
    {"seed", "step", "steps", "epoch", "epochs", "index", "id", "lr", "learning_rate", "batch_size", "layers",
     "n_layers", "heads", "n_heads", "width", "depth", "d_model"}
)  # fmt: skip
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Excluded:
    """A row that is not used.

    Attributes:
        line: Its line in the file, or its number from 1 where there are no lines.
        reason: Why.
    """

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class ComputeCheck:
    """How well C = k N D, or k N^p D^q, holds in a table.

    Attributes:
        cost: The relation that the table declares, or that was fitted to it.
        measured: Median of C / (N D).
        spread: Largest |ln(C / cost)| over the rows: 0 where the relation is exact.
        drift: Slope of ln(C / (N D)) in ln N: 0 where k does not change with the size of the model.
        typical: Median |ln(C / cost)|.
        derived: The column that was computed by the relation, so that it cannot be checked: "C", "D", "N" or "".
        stated: How many rows state C, where the others' C was computed by the relation; None where all do.
    """

    cost: Cost
    measured: float
    spread: float
    drift: float
    derived: str
    typical: float = 0.0
    stated: int | None = None

    @property
    def declared(self) -> float:
        """The k of the relation."""
        return self.cost.k

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        if self.derived:
            return f"{self.derived} is computed as C = {self.cost}"
        over = "" if self.stated is None else f" over the {self.stated} rows that state C"
        if self.spread < 0.01:
            return f"C = {self.cost} holds within {np.expm1(self.spread):.2%}{over}"
        if not self.cost.plain:
            return (
                f"C = {self.cost}, fitted to the rows, misses{over} by {np.expm1(self.typical):.1%} in the median and "
                f"up to {np.expm1(self.spread):.0%}; optima under a budget C use it"
            )
        return (
            f"C = {self.cost} misses{over} by up to {np.expm1(self.spread):.0%} (median C / ND = {self.measured:.4g}, "
            f"changing as N^{self.drift:.2f}); optima under a budget C use k = {self.declared:g}, or C = k N^p D^q "
            "with --compute fitted"
        )


@dataclass(frozen=True, eq=False)
class RunTable:
    """Training runs and what became of them; immutable.

    Attributes:
        N, D, C: Parameters, training tokens, training FLOPs, `[rows]`, all above 0.
        metrics: Name -> values `[rows]`, NaN where a run has none.
        weight: Weight of each row in fits, `[rows]`, above 0.
        run: Which run each row is of, `[rows]`: rows of one run are resampled together.
        split: "train" (fitted) or "test" (predicted only), `[rows]`.
        isoflop: Declared budget of each row, or "", `[rows]`.
        line: Line of each row in its file, `[rows]`.
        computed: Whether a row's C was missing and follows from the cost, `[rows]`, so that it measures no cost.
        labels: Name -> texts `[rows]`: columns that hold no numbers.
        cost: C = k N D, or k N^p D^q, by which optima under a budget C are found.
        derived: The column that was computed by that relation, or "".
        conventions: What N counts, what a token is, how C is computed, and whatever else a reader must know.
        excluded: Rows that are not used.
        notes: Sentences that a reader must know.
        source: Where the rows came from.
    """

    N: Floats
    D: Floats
    C: Floats
    metrics: Mapping[str, Floats]
    weight: Floats
    run: npt.NDArray[np.str_]
    split: npt.NDArray[np.str_]
    isoflop: npt.NDArray[np.str_]
    line: npt.NDArray[np.int64]
    labels: Mapping[str, npt.NDArray[np.str_]] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    derived: str = ""
    conventions: Mapping[str, str] = field(default_factory=dict)
    excluded: tuple[Excluded, ...] = ()
    notes: tuple[str, ...] = ()
    source: str = "memory"
    computed: Bools = field(default_factory=lambda: np.zeros(0, bool))

    def __post_init__(self) -> None:
        if not len(self.computed):
            object.__setattr__(self, "computed", np.zeros(len(self.N), bool))

    @classmethod
    def read(
        cls,
        path: Path | str,
        *,
        columns: Mapping[str, str] | None = None,
        k: float = 6.0,
        conventions: Mapping[str, str] | None = None,
        ignore_columns: Sequence[str] = (),
    ) -> RunTable:
        """Read a `.csv`, `.tsv`, `.json`, `.jsonl` or `.parquet` file.

        Args:
            path: The file.
            columns: Which column holds what: keys "N", "D", "C", "weight", "run", "split", "isoflop"; what is not named
                is found by its usual names. Every other column of numbers is a metric.
            k: The k of C = k N D, by which the one of N, D, C that is absent is computed.
            conventions: What N counts ("non-embedding"), what a token is, how C is computed.
            ignore_columns: Patterns of columns that are passed over, such as "wall_*".

        Raises:
            UsageError: The file is broken, two of N, D and C are not there, or no row can be used.
        """
        records = read_records(path)
        if ignore_columns:
            records = [(line, without_columns(row, ignore_columns)) for line, row in records]
        return cls.from_records(records, columns=columns, k=k, conventions=conventions, source=str(path))

    @classmethod
    def from_records(
        cls,
        records: Iterable[Mapping[str, Any] | Record],
        *,
        columns: Mapping[str, str] | None = None,
        k: float = 6.0,
        conventions: Mapping[str, str] | None = None,
        source: str = "memory",
    ) -> RunTable:
        """Make a table of mappings, or of (line, mapping) pairs; arguments as in `read`."""
        rows: list[Record] = [row if isinstance(row, tuple) else (number, row) for number, row in enumerate(records, 1)]
        if not (math.isfinite(k) and k > 0):
            raise UsageError(f"k of C = k N D must be above 0, not {k}")
        built = build(rows, Columns.find(rows, columns or {}, source), k, source)
        return cls(
            **built.arrays,
            cost=Cost(float(k)),
            derived=built.derived,
            conventions={**built.conventions, **(conventions or {})},
            excluded=tuple(Excluded(*row) for row in built.excluded),
            notes=tuple(built.notes),
            source=source,
        )

    @classmethod
    def from_pandas(cls, frame: pd.DataFrame, **settings: Any) -> RunTable:
        """Make a table of a data frame, its rows numbered from 1; settings as in `from_records`."""
        return cls.from_records(
            [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")],
            **{"source": "data frame", **settings},
        )

    @classmethod
    def from_store(
        cls,
        store: Store,
        systems: Mapping[str, GeneratorInfo | Mapping[str, Any]] | Path | str,
        *,
        run: int | None = None,
        value: str = "value",
        **settings: Any,
    ) -> RunTable:
        """Make a table of the estimates that a store keeps, one row per system.

        Args:
            store: An open store.
            systems: N, D and C of each system, which the store does not know: `GeneratorInfo` or mappings by name, or a
                table file with a column `system`.
            run: Number of the scoring run; None takes the last.
            value: Which number of an estimate is the metric: "value", "corrected" or "held_out".
            **settings: As in `from_records`.

        Raises:
            UsageError: The store holds no such run, or no system of it is described.
        """
        from cdslm_eval.scaling.table_store import store_records

        records = store_records(store, systems, run, value)
        return cls.from_records(records, **{"source": str(store.path), **settings})

    @property
    def k(self) -> float:
        """The k of its cost."""
        return self.cost.k

    def __len__(self) -> int:
        return len(self.N)

    def __repr__(self) -> str:
        return f"<RunTable {self.source}: {len(self)} rows, {', '.join(self.metrics)}>"

    def metric(self, name: str) -> Floats:
        """Return a metric's values, `[rows]`.

        Raises:
            UnknownNameError: The table has no such metric.
        """
        if name in self.metrics and name not in self.metric_names:
            raise UsageError(
                f"{self.source}: {name!r} is a setting of the runs, not a metric; the metrics are "
                f"{', '.join(self.metric_names) or 'none'}"
            )
        if name not in self.metrics:
            raise UnknownNameError("metric column", name, self.metric_names, self._nearest(name))
        return self.metrics[name]

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Columns of numbers that may be results: not a seed, a step or another setting of the runs."""
        return tuple(name for name in self.metrics if name.lower() not in _SETTINGS)

    def _nearest(self, name: str) -> str:
        """Return a suggestion for a metric of which a part of the name was written, or ""."""
        near = sorted((known for known in self.metric_names if name.lower() in known.lower()), key=len)
        exact = did_you_mean(name, self.metric_names)
        return f"Did you mean {near[0]!r}?" if near and not exact else ""

    def select(self, keep: Bools | npt.NDArray[np.intp] | Sequence[int], reason: str = "") -> RunTable:
        """Return the table of some of its rows; with a reason, those that leave are listed in `excluded`.

        Args:
            keep: A mask `[rows]`, or row numbers from 0, which may repeat.
            reason: Why the others leave.
        """
        chosen = np.asarray(keep)
        rows = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.intp)
        left = np.setdiff1d(np.arange(len(self)), rows) if reason else np.empty(0, np.intp)
        arrays = {name: getattr(self, name)[rows] for name in _ROWS}
        return replace(
            self,
            **arrays,
            computed=self.computed[rows],
            metrics={name: values[rows] for name, values in self.metrics.items()},
            labels={name: values[rows] for name, values in self.labels.items()},
            excluded=self.excluded + tuple(Excluded(int(self.line[i]), reason) for i in left),
        )

    def excluding(self, *rules: str) -> RunTable:
        """Return the table without the rows that a rule names.

        Args:
            *rules: "loss>3.4", "C<=1e18", "run=small-3", "line=5,7-9", "highest:loss:5" or "lowest:N:3" (with ties).

        Raises:
            UsageError: A rule cannot be read.
        """
        table = self
        for rule in rules:
            table = table.select(~matches(table._columns, rule), f"excluded by {rule!r}")
        return table

    def only(self, *rules: str) -> RunTable:
        """Return the table of the rows that every rule matches (rules as in `excluding`), without a list."""
        table = self
        for rule in rules:
            table = table.select(matches(table._columns, rule))
        return table

    def labels_of(self, columns: str) -> npt.NDArray[np.str_]:
        """Return the text of a column in every row, or of several ("dataset,decay") joined by "/", `[rows]`.

        Raises:
            UnknownNameError: The table has no such column.
        """
        texts = []
        for name in (part.strip() for part in columns.split(",")):
            if name not in self._columns or (name in _ROWS and name not in {"run", "isoflop", "split"}):
                known = [key for key in self._columns if key not in _ROWS or key in {"run", "isoflop", "split"}]
                raise UnknownNameError("column of groups", name, known)
            values = self._columns[name]
            texts.append([value if isinstance(value, str) else f"{value:g}" for value in values.tolist()])
        return np.array(["/".join(parts) for parts in zip(*texts, strict=True)], dtype=str)

    @property
    def _columns(self) -> dict[str, npt.NDArray[Any]]:
        return {name: getattr(self, name) for name in _ROWS} | {**self.labels, **self.metrics}

    def compute_check(self) -> ComputeCheck:
        """Return how well C = k N D holds over the rows that state C."""
        if not len(self):
            return ComputeCheck(self.cost, math.nan, math.nan, math.nan, self.derived)
        stated = ~self.computed
        # rows that were all computed check nothing
        derived, stated = (self.derived, stated) if stated.any() else ("C", ~stated)
        log_n, log_d, log_c = np.log(self.N[stated]), np.log(self.D[stated]), np.log(self.C[stated])
        ratio, gap = log_c - log_n - log_d, np.abs(log_c - self.cost.log_flops(log_n, log_d))
        x = log_n - log_n.mean()
        drift = float(x @ ratio / (x @ x)) if x @ x > 1e-12 else 0.0
        measured, typical = float(np.exp(np.median(ratio))), float(np.median(gap))
        count = None if stated.all() else int(stated.sum())
        return ComputeCheck(self.cost, measured, float(gap.max()), drift, derived, typical, count)

    def costing(self, cost: Cost | None = None) -> RunTable:
        """Return the table with another relation of C to N and D; a C that was missing follows from it.

        Args:
            cost: The relation; None fits C = k N^p D^q to the train rows that state C.

        Raises:
            UsageError: C was computed from N and D, so that there is nothing to fit.
        """
        if cost is not None:
            C = np.where(self.computed, cost.flops(self.N, self.D), self.C)
            return replace(self, cost=cost, C=C, conventions=self._conventions_of(cost))
        if self.derived:
            raise UsageError(
                f"{self.source}: {self.derived} is computed as C = {self.cost}, so no other cost can be fitted; give "
                "N, D and C, or FLOPs per token, of each run"
            )
        stated = (self.split == "train") & ~self.computed
        if not stated.any():
            raise UsageError(f"{self.source}: no train row states C, so no cost can be fitted; give C of some of them")
        return self.costing(fit_cost(self.N[stated], self.D[stated], self.C[stated]))

    def _conventions_of(self, cost: Cost) -> dict[str, str]:
        """Return the conventions under another cost: a note on computed C names the cost it was computed by."""
        before = f"computed as {self.cost} in "
        return {
            name: f"computed as {cost} in {text.removeprefix(before)}" if text.startswith(before) else text
            for name, text in self.conventions.items()
        }

    @property
    def digest(self) -> str:
        """SHA-256 over the numbers, runs and splits of the rows in use, and k."""
        hasher = hashlib.sha256((repr(self.k) if self.cost.plain else repr(self.cost)).encode())
        for name in sorted(_ROWS):
            values = getattr(self, name)
            hasher.update(name.encode() + b"\0")
            hasher.update("\0".join(values.tolist()).encode() if values.dtype.kind == "U" else values.tobytes())
        for name in sorted(self.metrics):
            hasher.update(name.encode() + b"\0" + self.metrics[name].tobytes())
        return hasher.hexdigest()

    def to_records(self) -> list[dict[str, Any]]:
        """Return the rows as mappings that `from_records` reads back; a C that was computed is None, as it was read."""
        plain = {name: getattr(self, name).tolist() for name in ("N", "D", "C", "run", "split", "weight", "isoflop")}
        plain["C"] = [None if blank else C for C, blank in zip(plain["C"], self.computed.tolist(), strict=True)]
        plain |= {name: values.tolist() for name, values in {**self.labels, **self.metrics}.items()}
        return [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]


_ROWS = ("N", "D", "C", "weight", "run", "split", "isoflop", "line")
