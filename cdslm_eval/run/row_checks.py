"""What a measured row must hold: the columns that its metric's statistics read, or the feature that it provides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cdslm_eval.core.store import Outcome, Store
from cdslm_eval.plugin.contract import Measurer, Metric
from cdslm_eval.plugin.host import Host

__all__ = ["drop_unsound_rows", "required_columns", "row_check"]

_LARGEST = 1e300


def required_columns(measurer: Measurer) -> list[str]:
    """Return the names of the columns that every measured row of a measurer has, in order."""
    if measurer.provides:
        return [measurer.provides]
    if isinstance(measurer, Metric):
        return sorted({column for statistic in measurer.statistics.values() for column in statistic.columns})
    return []


def row_check(measurer: Measurer) -> Callable[[Outcome], bool]:
    """Return the function that returns whether an outcome of the store is one that the measurer may have returned.

    A store may come from somebody else, or be damaged: a text where a number belongs would shift the column of all
    clips after it.
    """
    columns = required_columns(measurer)
    is_value = _is_text if measurer.provides == "transcript" else _is_value

    def is_sound(outcome: Outcome) -> bool:
        """Return whether a measured row has every column, each with a value of a kind that statistics read."""
        row = outcome.row
        return outcome.status != "ok" or all(name in row and is_value(row[name]) for name in columns)

    return is_sound


def drop_unsound_rows(store: Store, host: Host) -> int:
    """Delete the rows of a store that lack what their metric reads; return how many there were.

    Rows of metrics that are not installed here, or in another version, are left: reading checks them.

    Args:
        store: Open for writing.
        host: Knows the components.
    """
    dropped = 0
    for (ident,) in store.query("SELECT DISTINCT identity FROM rows"):
        parts = store.identity(ident) or {}
        for kind in ("metric", "recognizer", "transcriber"):
            registered = host.registered(kind).get(str(parts.get("name")))
            if registered is None or registered.component.version != parts.get("version"):
                continue
            try:
                measurer = registered.component(registered.component.Options(**parts.get("options", {})))
            except (TypeError, ValueError):  # options of another time
                continue
            dropped += store.drop_unsound(ident, required_columns(measurer))
    return dropped


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_value(value: Any) -> bool:
    if isinstance(value, list):
        return set(map(type, value)) <= {str}
    if isinstance(value, np.ndarray):
        return value.ndim == 1
    # a comparison, because a whole number of a thousand digits is no float
    return value is None or (isinstance(value, int | float) and abs(value) <= _LARGEST)
