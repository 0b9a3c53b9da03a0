"""The plug-in divergence, its floor at a sample size, and the value with the floor taken out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cdslm_eval.stats.jsd.ngrams import Ints, NgramTable, Order

__all__ = ["Corrected", "cluster_order", "clustered_se", "corrected", "group_clips", "jsd", "plug_in"]

GROUPS = 10
DRAWS = 10
_JACKKNIFE_DRAWS = 5
HOPELESS_FLOOR = 0.95
"""Above this floor (P - F) / (1 - F) divides noise by nearly nothing."""

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
    residuals = np.bincount(clusters, weights=sums - sums.sum() / total * windows)
    used = np.bincount(clusters, weights=windows) > 0
    count = int(used.sum())
    if count < 2:
        return float("nan")
    return float(np.sqrt(count / (count - 1) * np.sum(residuals[used] ** 2)) / total)


def plug_in(table: NgramTable, order: Order, clusters: Ints) -> tuple[float, float]:
    """Return the plug-in divergence of all clips and its standard error by the delta method, clustered."""
    a = table.counts_of(order, np.where(table.side, 0, table.lengths))
    b = table.counts_of(order, np.where(table.side, table.lengths, 0))
    value = jsd(a, b)
    if np.isnan(value):
        return value, value
    p, q = a / a.sum(), b / b.sum()
    with np.errstate(divide="ignore"):
        slope_p, slope_q = np.log2(2 * p / (p + q)) / 2, np.log2(2 * q / (p + q)) / 2
    gram = order.gram
    variance = 0.0
    for side, slope in ((False, slope_p), (True, slope_q)):
        chosen = (gram >= 0) & (table.side[table.clip] == side)
        clips = table.clip[chosen]
        sums = np.bincount(clips, weights=slope[gram[chosen]], minlength=len(table.lengths))
        windows = np.bincount(clips, minlength=len(table.lengths)).astype(float)
        variance += clustered_se(sums, windows, clusters) ** 2
    return value, float(np.sqrt(variance))


@dataclass(frozen=True, slots=True)
class Corrected:
    """The floor-corrected divergence at equal phone counts.

    Attributes:
        phones: Phones on each side.
        equal: P, the plug-in at that count.
        floor: F, the plug-in between random halves of the pooled clips at that count.
        value: (P - F) / (1 - F); NaN above F = 0.95.
        replicates: `[groups]`, the value with one group of clips left out of both sides.
    """

    phones: int
    equal: float
    floor: float
    value: float
    replicates: Floats


def group_clips(clusters: Ints, side: npt.NDArray[np.bool_], rng: np.random.Generator, groups: int = GROUPS) -> Ints:
    """Deal the clusters of each side into groups of nearly equal number; return the group of each clip, `[clips]`."""
    group = np.zeros(len(clusters), np.int64)
    for one in (False, True):
        present, inverse = np.unique(clusters[side == one], return_inverse=True)
        group[side == one] = rng.permutation(np.arange(len(present)) % groups)[inverse]
    return group


def corrected(
    table: NgramTable,
    orders: tuple[int, ...],
    group: Ints,
    rng: np.random.Generator,
    phones: int | None = None,
    clusters: Ints | None = None,
) -> dict[int, Corrected]:
    """Return P, F and the corrected value of each order, with delete-a-group replicates.

    The same random orders of clips serve the whole sample and every replicate: a jackknife multiplies
    Monte-Carlo noise that is not shared.

    Args:
        table: The n-grams.
        orders: Which orders.
        group: Group of each clip; equal numbers on both sides are left out together.
        rng: Randomness of the draws.
        phones: Phone count of each side; by default the smaller side's.
        clusters: Cluster (speaker) number of each clip; by default each is its own. The floor keeps them whole: the
            two sides share no speaker, so neither may the sets that stand for identical sources.
    """
    clusters = np.arange(len(table.lengths)) if clusters is None else clusters
    # one order chooses clips, another splits them: the first alone would tell the sides apart
    shuffles = [(rng.permutation(len(table.lengths)), cluster_order(clusters, rng)) for _ in range(DRAWS)]
    whole = _draws(table, orders, np.zeros(len(table.lengths), bool), shuffles, clusters, phones)
    names = np.unique(group)
    left_out = []
    if min(len(np.unique(group[table.side])), len(np.unique(group[~table.side]))) >= 3:
        share = 1 - 1 / len(names)
        count = None if phones is None else int(phones * share)
        left_out = [
            _draws(table, orders, group == name, shuffles[:_JACKKNIFE_DRAWS], clusters, count) for name in names
        ]
    found = {}
    for n in orders:
        phones_used, equal, floor = whole[n]
        # a replicate may lie just above the limit that the whole sample lies just under
        replicates = np.array([_correct(one[n][1], one[n][2], limit=0.9999) for one in left_out])
        found[n] = Corrected(phones_used, equal, floor, _correct(equal, floor), replicates)
    return found


def _correct(equal: float, floor: float, limit: float = HOPELESS_FLOOR) -> float:
    return (equal - floor) / (1 - floor) if floor <= limit else float("nan")


def _draws(
    table: NgramTable,
    orders: tuple[int, ...],
    out: npt.NDArray[np.bool_],
    shuffles: list[tuple[Ints, Ints]],
    clusters: Ints,
    phones: int | None,
) -> dict[int, tuple[int, float, float]]:
    """Return (phones per side, P, F) of each order, averaged over draws, with some clips left out."""
    lengths = np.where(out, 0, table.lengths)
    count = int(min(lengths[table.side].sum(), lengths[~table.side].sum(), phones or np.inf))
    equal: dict[int, list[float]] = {n: [] for n in orders}
    floor: dict[int, list[float]] = {n: [] for n in orders}
    used: list[int] = []
    for shuffle, split in shuffles:
        sides = [_limits(lengths, shuffle[table.side[shuffle] == one], count) for one in (False, True)]
        # both sides give as many phones to the pool: a large reference must not decide the floor alone
        pool = sides[0] + sides[1]
        first, second = _split(pool, split, clusters, count)
        # a cut clip, or a speaker kept whole, leaves one set short: all four sets go down to its count, or few long
        # clips would be held against a floor of fewer phones than their own
        even = int(min(first.sum(), second.sum()))
        sides = [_limits(side, shuffle, even) for side in sides]
        first, second = _limits(first, split, even), _limits(second, split, even)
        used.append(even)
        for n in orders:
            equal[n].append(jsd(table.counts(n, sides[0]), table.counts(n, sides[1])))
            floor[n].append(jsd(table.counts(n, first), table.counts(n, second)))
    return {n: (round(np.mean(used)), float(np.mean(equal[n])), float(np.mean(floor[n]))) for n in orders}


def cluster_order(clusters: Ints, rng: np.random.Generator) -> Ints:
    """Return a random order of clips in which the clips of a cluster are adjacent, `[clips]`."""
    order: Ints = rng.permutation(len(clusters))
    names, numbers = np.unique(clusters, return_inverse=True)
    if len(names) == len(clusters):
        return order
    return order[np.argsort(rng.permutation(len(names))[numbers[order]], kind="stable")]


def _split(pool: Ints, order: Ints, clusters: Ints, count: int) -> tuple[Ints, Ints]:
    """Split pooled clips into two sets of about `count` phones, no cluster in both."""
    used = order[pool[order] > 0]
    ends = np.flatnonzero(np.diff(clusters[used], append=-1))
    if len(ends) == len(used):
        first = _limits(pool, order, count)
        return first, _limits(np.where(first > 0, 0, pool), order, count)
    # whole clusters: cut at the end of the cluster that lies nearest to the middle
    cut = int(ends[np.argmin(np.abs(np.cumsum(pool[used])[ends] - count))]) + 1
    first = np.zeros_like(pool)
    first[used[:cut]] = pool[used[:cut]]
    return first, pool - first


def _limits(lengths: Ints, order: Ints, phones: int) -> Ints:
    """Return how many phones of each clip to take so that clips in `order` fill `phones`, the last one cut."""
    before = np.cumsum(lengths[order]) - lengths[order]
    limits = np.zeros(len(lengths), np.int64)
    limits[order] = np.clip(phones - before, 0, lengths[order])
    return limits
