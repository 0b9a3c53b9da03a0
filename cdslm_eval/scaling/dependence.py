"""Rows of one training run are no independent observations: which rows are of one run, and how much each counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cdslm_eval.scaling.table import RunTable

__all__ = ["Dependence", "dependence", "runs_of"]

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.intp]
_CHECKPOINTS = 10  # so many rows of one N in a row, D rising, are checkpoints of a run rather than runs of one size
_FEWEST_RUNS = 3


@dataclass(frozen=True, slots=True)
class Dependence:
    """How much rows of one run repeat each other.

    Attributes:
        run: Number of the run of each row, `[rows]`.
        correlation: Of the residuals of two rows of one run (intraclass), from 0 to 1.
        share: How much each row counts, `[rows]`, with mean 1: 1 / (1 + (rows of its run - 1) correlation), scaled.
        effective: How many independent rows the rows are worth.
    """

    run: Labels
    correlation: float
    share: Floats
    effective: float

    @property
    def runs(self) -> int:
        """How many runs there are."""
        return int(self.run.max()) + 1


def runs_of(table: RunTable) -> Labels:
    """Return the number of each row's run, `[rows]`.

    Runs are those of the table where it names them. Else ten or more consecutive rows of one N, with the same texts in
    every column and rising D, are checkpoints of one run, and every other row is a run of its own.
    """
    named = np.char.startswith(table.run, "line ")
    run = np.unique(table.run, return_inverse=True)[1].astype(np.intp)
    starts = [True]
    texts = list(table.labels.values())
    for row in range(1, len(table)):
        continues = (
            named[row]
            and named[row - 1]
            and table.N[row] == table.N[row - 1]
            and table.D[row] > table.D[row - 1]
            and all(text[row] == text[row - 1] for text in texts)
        )
        starts.append(not continues)
    stretch = np.cumsum(starts) - 1
    long = np.bincount(stretch)[stretch] >= _CHECKPOINTS
    run[long & named] = int(run.max()) + 1 + stretch[long & named]
    return np.unique(run, return_inverse=True)[1].astype(np.intp)


def dependence(residual: Floats, run: Labels) -> Dependence:
    """Return how much rows of one run repeat each other, by the analysis of variance of their residuals.

    Args:
        residual: `[rows]`, of a curve flexible enough that what rows of one run share is not its misfit.
        run: Number of each row's run, `[rows]`.

    Source: Kish, "Survey Sampling" (1965), section 5.4 (design effect); Donner (1986) for groups of unequal size.
    """
    rows, sizes = len(residual), np.bincount(run)
    runs = len(sizes)
    alone = Dependence(run, 0.0, np.ones(rows), float(rows))
    if runs < _FEWEST_RUNS or rows - runs < runs:
        return alone
    means = np.bincount(run, residual) / sizes
    between = float(np.sum(sizes * (means - residual.mean()) ** 2)) / (runs - 1)
    within = float(np.sum((residual - means[run]) ** 2)) / (rows - runs)
    typical = (rows - float(np.sum(sizes**2)) / rows) / (runs - 1)
    of_runs = max(0.0, (between - within) / typical)
    if of_runs == 0:
        return alone
    correlation = of_runs / (of_runs + within)
    share = 1 / (1 + (sizes[run] - 1) * correlation)
    return Dependence(run, correlation, share / share.mean(), float(share.sum()))
