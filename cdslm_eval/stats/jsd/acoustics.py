"""Divergences that a channel alone makes of real speech, between halves of the reference that share no speaker."""

from __future__ import annotations

import numpy as np

from cdslm_eval.results.channel import Interval
from cdslm_eval.stats.clusters import Clusters, Ints
from cdslm_eval.stats.jsd.corrected import corrected, interval
from cdslm_eval.stats.jsd.ngrams import NgramTable, PhoneSequences
from cdslm_eval.stats.sample import Sample

__all__ = ["between_halves", "corrected_interval"]

_LEAST_CLUSTERS = 6
"""Halves of fewer speakers leave no jackknife: then clips are dealt to the halves, whoever speaks."""


def corrected_interval(
    a: tuple[PhoneSequences, Ints],
    b: tuple[PhoneSequences, Ints],
    orders: tuple[int, ...],
    seed: int = 0,
    phones: int | None = None,
) -> dict[int, Interval]:
    """Return the corrected divergence of two sets with its 95 % interval, for each order.

    With the same seed and sets of under 200,000 phones it is that of `phoneme_jsd`.

    Args:
        a, b: Phone sequences, and the cluster (speaker) number of each clip.
        orders: Values of n.
        seed: Randomness of draws.
        phones: n-grams a side at most; by default what the smaller side has.
    """
    if min(a[0].offsets[-1], b[0].offsets[-1]) == 0:
        return dict.fromkeys(orders, Interval())
    rng = np.random.default_rng([seed, 0x6A7364])
    table = NgramTable(a[0], b[0], orders=max(orders))
    # equal numbers on both sides would pass for one speaker, whom the floor keeps whole
    clusters = np.concatenate([a[1], b[1] + a[1].max(initial=-1) + 1])
    counts = None if phones is None else dict.fromkeys(orders, phones)
    divergences = corrected(table, orders, rng, counts, clusters)
    return {
        order: Interval(divergence.value, *interval(divergence, table.side, clusters))
        for order, divergence in divergences.items()
    }


def between_halves(
    first: Sample,
    second: Sample,
    reference: Sample,
    column: str,
    orders: tuple[int, ...],
    seed: int = 0,
    phones: int | None = None,
) -> dict[int, Interval]:
    """Return the corrected divergence of one derived set of the reference from another, for each order.

    Half of the speakers of the first are held against the other half of the second, then the halves change places;
    both values are averaged, and so are the ends of their intervals, which is careful.

    Args:
        first, second: Rows of derived sets, or of the reference itself; their clips have its keys.
        reference: Rows of the reference, whose clusters are dealt to the halves.
        column: The sequence column.
        orders: Values of n.
        seed: Randomness of halves and draws.
        phones: n-grams a side at most.
    """
    clusters = reference.clusters if reference.clusters.count >= _LEAST_CLUSTERS else Clusters.alone(len(reference))
    of_key = dict(zip(reference.keys, clusters.numbers.tolist(), strict=True))
    # a speaker on both sides would make them alike and hide part of what the channel does
    in_first = np.random.default_rng([seed, 0x68616C66]).permutation(clusters.count) < clusters.count / 2
    directions = [
        corrected_interval(_half(first, column, of_key, own), _half(second, column, of_key, ~own), orders, seed, phones)
        for own in (in_first, ~in_first)
    ]
    return {order: _mean([intervals[order] for intervals in directions]) for order in orders}


def _half(sample: Sample, column: str, of_key: dict[str, int], chosen: np.ndarray) -> tuple[PhoneSequences, Ints]:
    """Return the phones of the clips whose cluster is chosen, and the cluster of each."""
    keys = sample.keys
    rows = np.array([row for row, key in enumerate(keys) if key in of_key and chosen[of_key[key]]], np.int64)
    numbers = np.array([of_key[keys[row]] for row in rows], np.int64)
    return sample.sequences[column].take(rows), np.unique(numbers, return_inverse=True)[1].astype(np.int64)


def _mean(intervals: list[Interval]) -> Interval:
    ends = np.mean([(interval.value, interval.low, interval.high) for interval in intervals], axis=0)
    return Interval(*map(float, ends))
