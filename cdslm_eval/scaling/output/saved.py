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
from cdslm_eval.scaling.cost import Cost
from cdslm_eval.scaling.fit import LawFit
from cdslm_eval.scaling.frontier import Resampling
from cdslm_eval.scaling.law import LawSpec
from cdslm_eval.scaling.table import RunTable

__all__ = ["Saved", "read_saved", "saved_runs"]

_COLUMNS = ("N", "D", "C", "run", "split", "weight", "isoflop")


@dataclass(frozen=True, eq=False)
class Saved:
    """Contents of a fit's JSON.

    Attributes:
        table: The runs.
        metric: The metric that was fitted.
        spec, resampling: Of the fit.
        law: Its parameters.
    """

    table: RunTable
    metric: str
    spec: LawSpec
    resampling: Resampling
    law: Mapping[str, Any]

    def drift(self, fit: LawFit) -> str:
        """Return how the law fitted to these runs now differs from the one in the file, or ""."""
        for name, value in fit.parameters.items():
            saved = self.law.get(name)
            if saved is None or not math.isclose(saved, value, rel_tol=1e-5, abs_tol=1e-9):
                return f"{self.table.source} has {name} = {saved}; this version finds {value:.6g} from the same runs"
        return ""


def saved_runs(table: RunTable) -> list[dict[str, Any]]:
    """Return the runs as a fit's JSON holds them, each with its line in the table it came from."""
    return [{"line": line, **row} for line, row in zip(table.line.tolist(), table.to_records(), strict=True)]


def read_saved(path: Path) -> Saved | None:
    """Return the contents of a fit's JSON, or None where the file is something else.

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
        return None  # reading it as a table reports what is wrong with it
    if not isinstance(document, dict) or not {"law", "settings", "headline"} <= set(document):
        return None
    try:
        return _saved(path, document)
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: not whole as a fit's JSON ({error}); fit again, or use the table") from error


def _saved(path: Path, document: Mapping[str, Any]) -> Saved:
    if document["law"] is None:
        raise UsageError(f"{path}: no law was fitted: {document['headline']}")
    options = document["settings"]
    records = [(int(row["line"]), {name: v for name, v in row.items() if name != "line"}) for row in document["runs"]]
    columns = {name: name for name in _COLUMNS}
    table = RunTable.from_records(records, columns=columns, k=options["k"], source=str(path))
    # files of before a fitted cost have k alone
    table = table.costing(Cost(**options.get("cost", {"k": options["k"]})))
    if table.digest != options["digest"]:
        raise UsageError(f"{path}: its runs are not those that were fitted; fit again, or use the table")
    # an option that is newer than the file had its default
    known = {field.name: options.get(field.name, field.default) for field in dataclasses.fields(LawSpec)}
    known["bounds"] = None if known["bounds"] is None else tuple(known["bounds"])
    resampling = Resampling(**{field.name: options[field.name] for field in dataclasses.fields(Resampling)})
    return Saved(table, options["metric"], LawSpec(**known), resampling, document["law"])
