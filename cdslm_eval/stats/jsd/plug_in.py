"""The plug-in divergence, and the influence of every clip on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cdslm_eval.stats.jsd.ngrams import Ints, NgramTable, Order

__all__ = ["Floats", "clustered_se", "clustered_variance", "group_clips", "influences", "jsd", "plug_in", "slopes"]

Floats = npt.NDArray[np.float64]


def jsd(a: npt.NDArray[np.integer], b: npt.NDArray[np.integer]) -> float:
    """Return the Jensen-Shannon divergence of two count vectors in bits, without smoothing; NaN if one is empty.

    Args:
        a, b: Counts `[types]` of the same types.

    Source: Lin (1991), "Divergence measures based on the Shannon entropy", eq. 4.1 with equal weights.
    """
    return _jsd(a, b, float(a.sum()), float(b.sum()))


def _jsd(a: npt.NDArray[np.integer], b: npt.NDArray[np.integer], total_a: float, total_b: float) -> float:
    if total_a == 0 or total_b == 0:
        return float("nan")
    # a type that only one side has adds half its probability, so logarithms are needed for shared types only
    both = np.flatnonzero((a > 0) & (b > 0))
    p, q = a[both] / total_a, b[both] / total_b
    m = (p + q) / 2
    shared = float(p @ np.log2(p / m) + q @ np.log2(q / m)) / 2
    return min(1.0, max(0.0, 1.0 - float(p.sum() + q.sum()) / 2 + shared))


def clustered_se(sums: npt.NDArray[Any], windows: npt.NDArray[Any], clusters: Ints) -> float:
    """Return the standard error of a ratio of sums over clips, clustered (linearised ratio estimator).

    Args:
        sums, windows: Numerator and denominator per clip, `[clips]`.
        clusters: Cluster number of each clip, `[clips]`.
    """
    total = windows.sum()
    # clips differ in length: a mean of their own rates would be another quantity
    residuals = np.bincount(clusters, weights=sums - sums.sum() / total * windows)
    used = np.bincount(clusters, weights=windows) > 0
    count = int(used.sum())
    if count < 2:
        return float("nan")
    return float(np.sqrt(count / (count - 1) * np.sum(residuals[used] ** 2)) / total)


def plug_in(table: NgramTable, order: Order, clusters: Ints) -> tuple[float, float]:
    """Return the plug-in divergence of all clips and its standard error by the delta method, clustered."""
    value, influence = influences(table, order)
    if np.isnan(value):
        return value, value
    variance = sum(clustered_variance(influence[here], clusters[here]) for here in (~table.side, table.side))
    return value, float(np.sqrt(variance))


def influences(table: NgramTable, order: Order) -> tuple[float, Floats]:
    """Return the plug-in divergence of all clips, and the first-order share of each clip in its error, `[clips]`."""
    a = table.counts_of(order, np.where(table.side, 0, table.lengths))
    b = table.counts_of(order, np.where(table.side, table.lengths, 0))
    value = jsd(a, b)
    influence = np.zeros(len(table.lengths))
    if np.isnan(value):
        return value, influence
    generated, reference = slopes(a, b)
    chosen = order.gram >= 0
    clips, grams = table.clip[chosen], order.gram[chosen]
    slope = np.where(table.side[clips], reference[grams], generated[grams])
    sums = np.bincount(clips, weights=slope, minlength=len(table.lengths))
    windows = np.bincount(clips, minlength=len(table.lengths)).astype(float)
    for side in (False, True):
        here = table.side == side
        total = windows[here].sum()
        influence[here] = (sums[here] - sums[here].sum() / total * windows[here]) / total
    return value, influence


def slopes(a: npt.NDArray[np.integer], b: npt.NDArray[np.integer]) -> tuple[Floats, Floats]:
    """Return what an n-gram of each type adds to the plug-in divergence to first order, of both sides, `[types]`.

    Args:
        a, b: Counts `[types]` of the same types, neither empty.
    """
    p, q = a / a.sum(), b / b.sum()
    # log 0 is of types that a side has not, whose slope no window of that side looks up
    with np.errstate(divide="ignore"):
        return np.log2(2 * p / (p + q)) / 2, np.log2(2 * q / (p + q)) / 2


def clustered_variance(influence: Floats, clusters: Ints) -> float:
    """Return the variance of a sum of influences `[clips]` over independent clusters; NaN with under 2 clusters."""
    _, numbers = np.unique(clusters, return_inverse=True)
    sums = np.bincount(numbers, weights=influence)
    return float(len(sums) / (len(sums) - 1) * np.sum(sums**2)) if len(sums) > 1 else float("nan")


def group_clips(clusters: Ints, side: npt.NDArray[np.bool_], rng: np.random.Generator, groups: int) -> Ints:
    """Deal the clusters of each side into groups of nearly equal number; return the group of each clip, `[clips]`."""
    group = np.zeros(len(clusters), np.int64)
    for is_reference in (False, True):
        present, inverse = np.unique(clusters[side == is_reference], return_inverse=True)
        group[side == is_reference] = rng.permutation(np.arange(len(present)) % groups)[inverse]
    return group
