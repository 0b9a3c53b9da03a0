"""Rows: which of a table a metric can be fitted on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cdslm_eval.scaling.links import Axis
from cdslm_eval.scaling.table import Excluded, RunTable

__all__ = ["usable_rows"]


def usable_rows(table: RunTable, metric: str, axis: Axis) -> RunTable:
    """Return the rows on which a metric can be fitted; the others are told in `excluded`."""
    y = table.metric(metric)
    missing = ~np.isfinite(y)
    outside = ~missing & ~axis.link.admits(axis.orient(y))
    said = f"on the {axis.link.name} scale" + (f" with bounds {axis.bounds}" if axis.bounds else "")
    kept = table.select(~(missing | outside))
    told = [Excluded(int(table.line[i]), f"{metric} is missing") for i in np.flatnonzero(missing)]
    told += [
        Excluded(int(table.line[i]), f"{metric} = {y[i]:g} cannot be used {said}") for i in np.flatnonzero(outside)
    ]
    return replace(kept, excluded=kept.excluded + tuple(sorted(told, key=lambda one: one.line)))
