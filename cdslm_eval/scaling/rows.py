"""Which rows of a table share a budget, and on which a metric can be fitted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from cdslm_eval.scaling.axis import Axis
from cdslm_eval.scaling.table import Excluded, RunTable

__all__ = ["Budgets", "find_budgets", "usable_rows"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Budgets:
    """Groups of rows of one budget, in the order of C.

    Attributes:
        C: Geometric mean of each group's C, `[budgets]`.
        label: Group of each row, `[rows]`.
        declared: Whether the table names them, or they were found by clustering C.
    """

    C: Floats
    label: npt.NDArray[np.intp]
    declared: bool

    def rows(self, budget: int) -> npt.NDArray[np.intp]:
        """Return the rows of a budget."""
        return np.flatnonzero(self.label == budget)


def find_budgets(table: RunTable, tolerance: float = 0.15) -> Budgets:
    """Return a table's budgets: as its column `isoflop` declares them, else by clustering ln C.

    Clustering cuts the sorted ln C wherever a gap is wider than `tolerance`, and a group that spans over twice that is
    cut on at its widest gap: a continuum of C is cut into slices rather than taken for one budget.

    Args:
        table: The rows.
        tolerance: In ln C, above 0.
    """
    log_c = np.log(table.C)
    declared = bool(len(table)) and bool(np.all(table.isoflop != ""))
    if declared:
        _, label = np.unique(table.isoflop, return_inverse=True)
    else:
        label = np.zeros(len(table), np.intp)
        order = np.argsort(log_c, kind="stable")
        for number, group in enumerate(_slices(log_c[order], tolerance)):
            label[order[group]] = number
    means = (
        np.array([_mean(table.C[label == group]) for group in range(label.max() + 1)]) if len(table) else np.empty(0)
    )
    rank = np.argsort(np.argsort(means, kind="stable"), kind="stable")
    return Budgets(np.sort(means), rank[label].astype(np.intp), declared)


def _mean(budgets: Floats) -> float:
    """Return the geometric mean; equal budgets keep their exact value."""
    return float(budgets[0] if np.ptp(budgets) == 0 else np.exp(np.log(budgets).mean()))


def _slices(ordered: Floats, tolerance: float) -> list[slice]:
    """Return the groups of sorted values."""
    cuts = [0, *(np.flatnonzero(np.diff(ordered) > tolerance) + 1).tolist(), len(ordered)]
    pending = [slice(low, high) for low, high in pairwise(cuts)][::-1]
    done: list[slice] = []
    while pending:
        part = pending.pop()
        values = ordered[part]
        if len(values) > 1 and values[-1] - values[0] > 2 * tolerance:
            widest = part.start + int(np.argmax(np.diff(values))) + 1
            pending += [slice(widest, part.stop), slice(part.start, widest)]
        else:
            done.append(part)
    return done


def usable_rows(table: RunTable, metric: str, axis: Axis) -> RunTable:
    """Return the rows on which a metric can be fitted; the others are listed in `excluded`."""
    y = table.metric(metric)
    missing = ~np.isfinite(y)
    outside = ~missing & ~axis.link.admits(axis.orient(y))
    scale = f"on the {axis.link.name} scale" + (f" with bounds {axis.bounds}" if axis.bounds else "")
    left = table.select(~(missing | outside))
    # a cell that could not be read is missing for a reason that is listed already
    known = {row.line for row in table.excluded if row.reason.startswith(f"{metric}:")}
    lines = [int(line) for line in table.line[missing]]
    reasons = [Excluded(line, f"{metric} is missing") for line in lines if line not in known]
    reasons += [
        Excluded(int(table.line[i]), f"{metric} = {y[i]:g} cannot be used {scale}") for i in np.flatnonzero(outside)
    ]
    return replace(left, excluded=left.excluded + tuple(sorted(reasons, key=lambda row: row.line)))
