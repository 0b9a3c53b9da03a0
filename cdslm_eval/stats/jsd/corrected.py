"""The divergence without its finite-sample bias, by two estimators, and the error of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cdslm_eval.stats.jsd.ngrams import Ints, NgramTable
from cdslm_eval.stats.jsd.plug_in import Floats, clustered_variance, influences, jsd
from cdslm_eval.stats.resampling import t_half_width

__all__ = [
    "DRAWS",
    "TRUSTED_FLOOR",
    "Corrected",
    "corrected",
    "grassberger_jsd",
    "interval",
    "total_variance",
    "variance_share",
    "window_counts",
]

DRAWS = 20
TRUSTED_FLOOR = 0.25
"""Above this floor both estimates are off by more than their intervals, so that there is none."""
HOPELESS_FLOOR = 0.95
"""Above this floor (P - F) / (1 - F) divides noise by nearly nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Corrected:
    """The divergence of one order at equal n-gram counts, without its finite-sample bias.

    Attributes:
        order: n.
        phones: Phones that the n-grams of one side span (mean over draws).
        equal: P, the plug-in at that count.
        floor: F, the plug-in between random halves of the pooled clips at that count.
        value: (P - F) / (1 - F); NaN above F = 0.95.
        second: The same divergence by Grassberger's entropies, less its own value between the halves.
        influence: `[clips]`, first-order share of each clip in the error of `value`.
        noise: Variance of `value` between identical sources of these sizes.
        drawn: Variance of `value` due to the random draws.
        reference_share: Share of the reference in the fluctuation behind `noise`, 0..1.
    """

    order: int
    phones: int
    equal: float
    floor: float
    value: float
    second: float
    influence: Floats
    noise: float
    drawn: float
    reference_share: float


def interval(result: Corrected, side: npt.NDArray[np.bool_], clusters: Ints) -> tuple[float, float]:
    """Return the 95 % interval of a corrected value, from the first estimate to the second; NaN above a floor of 0.25.

    Neither estimate is unbiased where n-grams are many and distances large; by how much they disagree is the systematic
    error that the sample itself shows.

    Args:
        result: Both estimates and their errors.
        side: Whether each clip is the reference's.
        clusters: Cluster number of each clip.
    """
    # negated, so that a floor of NaN has no interval either
    if not result.floor <= TRUSTED_FLOOR:
        return float("nan"), float("nan")
    first_order = sum(clustered_variance(result.influence[here], clusters[here]) for here in (~side, side))
    se = float(np.sqrt(total_variance(result.order, first_order, result.noise) + result.drawn))
    # the poorer side limits what is known of the error, however many clusters the other has
    few = min(len(np.unique(clusters[here])) for here in (~side, side))
    ends = sorted((result.value, result.second))
    half = t_half_width(se, few - 1)
    return ends[0] - half, ends[1] + half


def variance_share(result: Corrected, side: npt.NDArray[np.bool_], clusters: Ints) -> float:
    """Return the share of the reference in the variance of a corrected value, 0..1; NaN where it is not known."""
    own, reference = (clustered_variance(result.influence[here], clusters[here]) for here in (~side, side))
    return reference / (own + reference) if own + reference > 0 else float("nan")


def total_variance(n: int, first_order: float, noise: float) -> float:
    """Return the variance of a corrected divergence, or of a difference of two.

    Influences are taken at the sample, whose own fluctuation moves them: they count the second-order part of the
    variance, which is `noise` and at most half of theirs, twice. That holds where the divergence is nearly quadratic,
    with many windows for every n-gram: at n = 1. Above, where most n-grams are rare, influences are rather too small
    under a true difference, and nothing is taken off.

    Args:
        n: The order.
        first_order: Variance of the summed influences.
        noise: Variance between identical sources.

    Source: Efron and Stein (1981), "The Jackknife Estimate of Variance", Annals of Statistics 9, eq. 1.8.
    """
    return first_order - min(noise, first_order / 2) if n == 1 else max(first_order, noise)


def window_counts(lengths: Ints, n: int) -> Ints:
    """Return how many n-grams clips of some lengths have, `[clips]`."""
    return np.maximum(lengths - n + 1, 0)


def corrected(
    table: NgramTable,
    orders: tuple[int, ...],
    rng: np.random.Generator,
    counts: Mapping[int, int] | None = None,
    clusters: Ints | None = None,
) -> dict[int, Corrected]:
    """Return P, F, both corrected values and their errors for each order.

    Args:
        table: The n-grams.
        orders: Which orders.
        rng: Randomness of the draws.
        counts: n-grams of each side by order; by default the smaller side's.
        clusters: Cluster (speaker) number of each clip; by default each is its own. The floor keeps them whole: the
            two sides share no speaker, so neither may the sets that stand for identical sources.
    """
    clusters = np.arange(len(table.lengths)) if clusters is None else clusters
    # one order chooses clips, another splits them: the first alone would tell the sides apart
    shuffles = [(rng.permutation(len(table.lengths)), cluster_order(clusters, rng)) for _ in range(DRAWS)]
    return {n: _corrected(table, n, shuffles, clusters, (counts or {}).get(n)) for n in orders}


def _corrected(
    table: NgramTable, n: int, shuffles: list[tuple[Ints, Ints]], clusters: Ints, count: int | None
) -> Corrected:
    windows = window_counts(table.lengths, n)
    totals = [int(windows[table.side == side].sum()) for side in (False, True)]
    count = min(*totals, count) if count is not None else min(totals)
    draws = [_draw(table, n, windows, shuffle, split, clusters, count) for shuffle, split in shuffles]
    used, phones, equals, floors, seconds, nulls = (np.array(column) for column in zip(*draws, strict=True))
    equal, floor = float(equals.mean()), float(floors.mean())
    # the floor becomes 0 and 1 stays 1: a convention, biased between them, hence the second estimate
    value = (equal - floor) / (1 - floor) if floor <= HOPELESS_FLOOR else float("nan")
    _, influence = influences(table, table.orders[n - 1])
    # bias and spread under identical sources go with 1 / n + 1 / m
    ratio = (1 / totals[0] + 1 / totals[1]) / (2 / used.mean()) if min(totals) and used.mean() else float("nan")
    return Corrected(
        order=n,
        phones=round(float(phones.mean())),
        equal=equal,
        floor=floor,
        value=value,
        second=float((seconds - nulls).mean()),
        influence=influence / (1 - floor) if floor < 1 else influence,
        noise=float(floors.var(ddof=1)) * ratio**2 / (1 - floor) ** 2 if floor < 1 else float("nan"),
        drawn=float((equals - floors).var(ddof=1)) / len(draws) / (1 - floor) ** 2 if floor < 1 else float("nan"),
        reference_share=totals[0] / sum(totals) if sum(totals) else float("nan"),
    )


def _draw(
    table: NgramTable, n: int, windows: Ints, shuffle: Ints, split: Ints, clusters: Ints, count: int
) -> tuple[int, int, float, float, float, float]:
    """Return n-grams and phones a side, P and F as plug-ins, and both by Grassberger's entropies, of one draw."""
    sides = [_limits(windows, shuffle[table.side[shuffle] == side], count) for side in (False, True)]
    # both sides add as many n-grams to the halves: a large reference must not decide the floor alone
    first, second = _split(sides, split, clusters)
    # a cut clip, or a speaker kept whole, leaves one set short: all four sets go down to its count, or few long
    # clips would be held against a floor of fewer n-grams than their own
    even = int(min(first.sum(), second.sum()))
    sets = [_limits(side, shuffle, even) for side in sides] + [_limits(half, split, even) for half in (first, second)]
    # k n-grams of a clip span k + n - 1 phones
    limits = [np.where(taken > 0, taken + n - 1, 0) for taken in sets]
    a, b, c, d = (table.counts(n, limit) for limit in limits)
    return even, int(limits[0].sum()), jsd(a, b), jsd(c, d), grassberger_jsd(a, b), grassberger_jsd(c, d)


def grassberger_jsd(a: npt.NDArray[np.integer], b: npt.NDArray[np.integer]) -> float:
    """Return the divergence in bits of two count vectors of equal sums by Grassberger's entropy estimates.

    Source: Grassberger (2003), "Entropy Estimates from Insufficient Samplings", arXiv:physics/0307138, eq. 27 and 35.
    """
    return _entropy(a + b) - (_entropy(a) + _entropy(b)) / 2


def _entropy(counts: npt.NDArray[np.integer]) -> float:
    from scipy.special import digamma  # listing metrics must not wait for scipy

    total = int(counts.sum())
    if not total:
        return float("nan")
    # most types share a few small counts, so that digamma is needed for few values
    times = np.bincount(counts)
    present = np.flatnonzero(times[1:]) + 1
    sign = np.where(present % 2, -1.0, 1.0)
    g = digamma(present) + sign / 2 * (digamma((present + 1) / 2) - digamma(present / 2))
    return float((np.log(total) - times[present] * present @ g / total) / np.log(2))


def cluster_order(clusters: Ints, rng: np.random.Generator) -> Ints:
    """Return a random order of clips in which the clips of a cluster are adjacent, `[clips]`."""
    order: Ints = rng.permutation(len(clusters))
    names, numbers = np.unique(clusters, return_inverse=True)
    if len(names) == len(clusters):
        return order
    return order[np.argsort(rng.permutation(len(names))[numbers[order]], kind="stable")]


def _split(sides: list[Ints], order: Ints, clusters: Ints) -> tuple[Ints, Ints]:
    """Split the clips of both sides into two sets with half of each side, no cluster in both.

    Were the pool split without regard to sides, sets of few speakers would differ by which system's they hold.
    """
    halves = [_halve(side, order, clusters) for side in sides]
    # crosswise: what a cut clip costs the second half of a side, it costs both sets
    return halves[0][0] + halves[1][1], halves[0][1] + halves[1][0]


def _halve(pool: Ints, order: Ints, clusters: Ints) -> tuple[Ints, Ints]:
    used = order[pool[order] > 0]
    count = int(pool.sum()) // 2
    # no cluster is numbered -1, so that the last one ends too
    ends = np.flatnonzero(np.diff(clusters[used], append=-1))
    if len(ends) == len(used):
        first = _limits(pool, order, count)
        return first, _limits(np.where(first > 0, 0, pool), order, count)
    # whole clusters: cut at the end of the cluster that lies nearest to the middle
    cut = int(ends[np.argmin(np.abs(np.cumsum(pool[used])[ends] - count))]) + 1
    first = np.zeros_like(pool)
    first[used[:cut]] = pool[used[:cut]]
    return first, pool - first


def _limits(windows: Ints, order: Ints, count: int) -> Ints:
    """Return how many n-grams of each clip to take so that clips in `order` fill `count`, the last one cut."""
    before = np.cumsum(windows[order]) - windows[order]
    limits = np.zeros(len(windows), np.int64)
    limits[order] = np.clip(count - before, 0, windows[order])
    return limits
