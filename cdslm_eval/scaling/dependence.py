"""Rows of one training run are no independent observations: which rows are of one run, and how much each counts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.stats import f as f_distribution

from cdslm_eval.scaling.flags import Flag
from cdslm_eval.scaling.table import RunTable

__all__ = ["Dependence", "Runs", "checkpoint_flags", "dependence", "find_runs", "resampled_apart", "runs_of"]

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.intp]
# so many rows of one N and texts are taken for checkpoints of a run; whether they repeat each other is tested
_CHECKPOINTS = 8
_FEWEST_RUNS = 3
_LEVEL = 0.01


@dataclass(frozen=True, slots=True)
class Runs:
    """Which rows are of one run.

    Attributes:
        label: Number of the run of each row, `[rows]`.
        inferred: Whether runs of several rows are inferred, since the table does not name them.
        flags: "unnamed_runs" where several may have been taken for one, or one for several.
    """

    label: Labels
    inferred: bool = False
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True, slots=True)
class Dependence:
    """How much rows of one run repeat each other.

    Attributes:
        run: Number of the run of each row, `[rows]`.
        correlation: Of the residuals of two rows of one run (intraclass), from 0 to 1; 0 where it may be chance.
        share: How much each row counts, `[rows]`, with mean 1: 1 / (1 + (rows of its run - 1) correlation), scaled.
        effective: How many independent rows the rows are worth.
        p: Probability, by chance, of runs that differ so much; NaN where they are too few to be tested.
    """

    run: Labels
    correlation: float
    share: Floats
    effective: float
    p: float = math.nan

    @property
    def runs(self) -> int:
        """How many runs there are."""
        return int(self.run.max()) + 1


def find_runs(table: RunTable) -> Runs:
    """Return the run of each row, as the table names it, else inferred.

    Eight or more unnamed rows of one N, with the same texts in every column, are checkpoints, wherever they are in the
    table; every other row is a run of its own. Where their D falls between stretches of eight rows and more, each
    stretch is a run; else they are one.
    """
    unnamed = np.char.startswith(table.run, "line ")
    run = np.unique(table.run, return_inverse=True)[1].astype(np.intp)
    keys = [table.N.astype(str), *table.labels.values()]
    group = np.unique(np.stack(keys), axis=1, return_inverse=True)[1].reshape(-1)
    inferred, ordered, joined = False, [], []
    for rows in (np.flatnonzero(unnamed & (group == number)) for number in np.unique(group[unnamed])):
        if len(rows) < _CHECKPOINTS:
            continue
        inferred = True
        falls = np.diff(table.D[rows], prepend=0.0) <= 0
        stretches = 1 + int(falls.sum())
        apart = len(rows) >= _CHECKPOINTS * stretches
        if stretches > 1 and apart:
            ordered.append(int(table.line[rows[0]]))
        elif len(np.unique(table.D[rows])) < len(rows):
            joined.append(int(table.line[rows[0]]))
        run[rows] = run.max() + 1 + (np.cumsum(falls) if apart else 0)
    flags = []
    if ordered:
        flags.append(_unnamed(ordered, "share N and texts, and are distinguished by the order of rows alone"))
    if joined:
        flags.append(_unnamed(joined, "share N, texts and tokens, and count as one, since nothing distinguishes them"))
    return Runs(np.unique(run, return_inverse=True)[1].astype(np.intp), inferred, tuple(flags))


def runs_of(table: RunTable) -> Labels:
    """Return the number of each row's run, `[rows]`, as `find_runs` finds it."""
    return find_runs(table).label


def checkpoint_flags(table: RunTable) -> Iterator[Flag]:
    """Flag unnamed rows that a law takes for runs of their own, and that may be checkpoints of one run.

    Args:
        table: The rows that the law is fitted to.
    """
    unnamed, label = np.char.startswith(table.run, "line "), runs_of(table)
    # repeats of one N and D are models of several seeds, not checkpoints
    groups = [
        rows
        for rows in (np.flatnonzero(unnamed & (label == number)) for number in np.unique(label))
        if len(np.unique(table.D[rows])) >= _CHECKPOINTS
    ]
    if groups:
        count, line = sum(map(len, groups)), int(table.line[min(rows[0] for rows in groups)])
        share = "share" if len(groups) == 1 else f"in {len(groups)} groups share"
        yield Flag(
            "unnamed_checkpoints",
            f"{count} rows (from line {line}) {share} N and all texts while D rises: they may be checkpoints of one "
            "run, and are fitted as independent runs; if they are, name their runs in a column run (--columns "
            "run=NAME), and resample with --by run",
            float(count),
            doubt=False,
            scope="table",
        )


def resampled_apart(table: RunTable) -> Iterator[Flag]:
    """Flag rows of one named run whose intervals were made as if they were independent.

    Args:
        table: The rows that were resampled one by one.
    """
    names, counts = np.unique(table.run, return_counts=True)
    if len(names) >= _FEWEST_RUNS and counts.max() > 1:
        shared = int(counts[counts > 1].sum())
        yield Flag(
            "resampled_by_row",
            f"{shared} rows share their run with others ({int((counts > 1).sum())} runs), yet are resampled one by "
            "one: intervals are too narrow unless they are made with --by run",
            float(shared),
            doubt=False,
            scope="table",
        )


def _unnamed(lines: list[int], what: str) -> Flag:
    sentence = f"several runs {what} (from line {lines[0]}); name the runs in a column run"
    return Flag("unnamed_runs", sentence, float(len(lines)), doubt=False, scope="table")


def dependence(residual: Floats, run: Labels) -> Dependence:
    """Return how much rows of one run repeat each other, by the analysis of variance of their residuals.

    Where the variance between runs is no larger than chance allows (F test, 0.01), rows are independent.

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
    p = float(f_distribution.sf(between / max(within, 1e-300), runs - 1, rows - runs))
    if p >= _LEVEL:
        return replace(alone, p=p)
    of_runs = (between - within) / typical
    correlation = of_runs / (of_runs + within)
    share = 1 / (1 + (sizes[run] - 1) * correlation)
    return Dependence(run, correlation, share / share.mean(), float(share.sum()), p)
