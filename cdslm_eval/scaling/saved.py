"""A fit's JSON as a source of predictions: it holds the runs and the settings, which give the same law again."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling.fit import LawFit
from cdslm_eval.scaling.study import Settings
from cdslm_eval.scaling.table import RunTable

__all__ = ["Saved", "read_saved", "saved_runs"]

_COLUMNS = ("N", "D", "C", "run", "split", "weight", "isoflop")


@dataclass(frozen=True, eq=False)
class Saved:
    """What a fit's JSON holds.

    Attributes:
        table: The runs.
        metric: The metric that was fitted.
        settings: Of the fit.
        law: The parameters that were found.
    """

    table: RunTable
    metric: str
    settings: Settings
    law: Mapping[str, Any]

    def drift(self, fit: LawFit) -> str:
        """Return how the law that these runs give now differs from the one in the file, or ""."""
        for name, value in fit.parameters.items():
            told = self.law.get(name)
            if told is None or not math.isclose(told, value, rel_tol=1e-5, abs_tol=1e-9):
                return f"{self.table.source} says {name} = {told}; this version finds {value:.6g} from the same runs"
        return ""


def saved_runs(table: RunTable) -> list[dict[str, Any]]:
    """Return the runs as a fit's JSON holds them, each with its line in the table it came from."""
    return [{"line": line, **row} for line, row in zip(table.line.tolist(), table.to_records(), strict=True)]


def read_saved(path: Path) -> Saved | None:
    """Return what a fit's JSON holds, or None where the file is something else.

    Args:
        path: Any file.

    Raises:
        UsageError: It is a fit's JSON, but was changed or holds no law or no runs.
    """
    if path.suffix != ".json" or not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return None  # reading it as a table says what is wrong with it
    if not isinstance(document, dict) or not {"law", "settings", "headline"} <= set(document):
        return None
    try:
        return _saved(path, document)
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: not whole as a fit's JSON ({error}); fit again, or give the table") from error


def _saved(path: Path, document: Mapping[str, Any]) -> Saved:
    if document["law"] is None:
        raise UsageError(f"{path}: no law was fitted: {document['headline']}")
    told = document["settings"]
    records = [
        (int(row["line"]), {name: one for name, one in row.items() if name != "line"}) for row in document["runs"]
    ]
    columns = {name: name for name in _COLUMNS}
    table = RunTable.from_records(records, columns=columns, k=told["k"], source=str(path))
    if table.digest != told["digest"]:
        raise UsageError(f"{path}: the runs in it are not those that were fitted; fit again, or give the table")
    known = {one.name: told[one.name] for one in dataclasses.fields(Settings)}
    known |= {"bounds": None if known["bounds"] is None else tuple(known["bounds"]), "budgets": tuple(known["budgets"])}
    return Saved(table, told["metric"], Settings(**known), document["law"])
