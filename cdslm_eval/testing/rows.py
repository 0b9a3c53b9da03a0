"""What the checks demand of rows: declared columns, finite numbers, equality within a tolerance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cdslm_eval.core.store import Outcome
from cdslm_eval.plugin.contract import Failed, Measurer, Metric, Skipped
from cdslm_eval.testing.check import demand

__all__ = ["demand_close", "demand_columns", "demand_finite"]


def demand_columns(measurer: Measurer, row: Mapping[str, Any]) -> None:
    """Demand that a row has the columns that the statistics read."""
    wanted = {measurer.provides}
    if isinstance(measurer, Metric):
        wanted = {column for statistic in measurer.statistics.values() for column in statistic.columns}
    demand(wanted <= set(row), f"{measurer.name} declares {sorted(wanted - set(row))}, but its rows have {sorted(row)}")


def demand_finite(row: Any, what: str) -> None:
    """Demand that what was yielded is a row without NaN or infinity, or an honest `Skipped` or `Failed`."""
    if isinstance(row, Skipped | Failed):
        demand(bool(row.reason.strip()), f"{what}: a {type(row).__name__} without a reason")
        return
    demand(isinstance(row, Mapping), f"{what}: a {type(row).__name__} where a row was wanted")
    for name, value in row.items():
        if isinstance(value, float | np.floating | np.ndarray):
            demand(
                bool(np.isfinite(value).all()), f"{what}: {name} is {value}; use None, Skipped or Failed with a reason"
            )


def demand_close(first: Sequence[Outcome], second: Sequence[Outcome], how: str, relative: float = 1e-4) -> None:
    """Demand that two measurements agree, number by number.

    Args:
        first, second: Outcomes of the same clips.
        how: What was done differently, for the message.
        relative: Tolerance: of a number against 1 or its own size, of a vector against its norm.
    """
    demand(len(first) == len(second), f"{how}: {len(second)} outcomes in place of {len(first)}")
    for number, (one, other) in enumerate(zip(first, second, strict=True)):
        what = f"clip {number} {how}"
        demand(one.status == other.status, f"{what}: {one.status} {one.reason} became {other.status} {other.reason}")
        demand(one.row.keys() == other.row.keys(), f"{what}: columns {sorted(one.row)} became {sorted(other.row)}")
        for name, value in one.row.items():
            same = _close(value, other.row[name], relative)
            demand(same, f"{what}: {name} was {_brief(value)} and became {_brief(other.row[name])}")


def _close(one: Any, other: Any, relative: float) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        left, right = np.asarray(one, float), np.asarray(other, float)
        if left.shape != right.shape:
            return False
        return bool(np.linalg.norm(left - right) <= relative * max(1.0, float(np.linalg.norm(left))))
    if isinstance(one, float | np.floating) and isinstance(other, float | int | np.floating):
        return abs(float(one) - float(other)) <= relative * max(1.0, abs(float(one)))
    if isinstance(one, Sequence) and not isinstance(one, str):
        return list(one) == list(other)
    return bool(one == other)


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
