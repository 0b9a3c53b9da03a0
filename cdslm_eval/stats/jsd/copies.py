"""Clips that repeat a clip of the other side: the share of a clip's n-grams that occur in one other clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cdslm_eval.stats.jsd.ngrams import Ints, NgramTable
from cdslm_eval.stats.jsd.plug_in import Floats

__all__ = ["COPY_ORDER", "Copies", "find_copies", "nearest_clips"]

COPY_ORDER = 5
_SHARE = 0.5
_LEAST_WINDOWS = 8
_LEVEL = 0.001


@dataclass(frozen=True, slots=True, eq=False)
class Copies:
    """Which generated clips repeat a clip of the reference.

    Attributes:
        clips: Generated clips, the most alike first.
        originals: The reference clip that each repeats.
        shares: Share of the clip's 5-grams that occur in that one clip, 0..1.
        usual: Share of reference clips that repeat another one as much.
        suspicious: Whether they are more than `usual` explains (binomial, 0.001).
    """

    clips: Ints
    originals: Ints
    shares: Floats
    usual: float
    suspicious: bool


def nearest_clips(
    table: NgramTable, rows: npt.NDArray[np.bool_], columns: npt.NDArray[np.bool_], clusters: Ints
) -> tuple[Floats, Ints]:
    """Return, for each clip of `rows`, the largest share of its 5-grams in one clip of `columns` of another cluster.

    Args:
        table: The n-grams, of order 5 at least.
        rows, columns: Which clips, `[clips]`.
        clusters: Cluster of each clip; clips of one cluster are not looked up in each other.

    Returns:
        The share of each clip of `rows` (NaN without 5-grams), and the clip of the table that has it.
    """
    from scipy import sparse  # listing metrics must not wait for scipy

    order = table.orders[COPY_ORDER - 1]
    chosen = order.gram >= 0
    shape = len(table.lengths), max(1, order.types)
    times = np.ones(int(chosen.sum()), np.float64)
    counts = sparse.coo_array((times, (table.clip[chosen], order.gram[chosen])), shape=shape).tocsr()
    own, other = np.flatnonzero(rows), np.flatnonzero(columns)
    present = counts[other].copy()
    # once each: against a clip that repeats itself a share could exceed 1
    present.data[:] = 1.0
    shared = (counts[own] @ present.T).tocoo()
    # the reference is looked up in itself too, where every clip would be its own copy
    apart = clusters[own[shared.row]] != clusters[other[shared.col]]
    row, column, hits = shared.row[apart], shared.col[apart], shared.data[apart]
    ranked = np.lexsort((hits, row))
    best, places = np.zeros(len(own)), np.zeros(len(own), np.int64)
    best[row[ranked]] = hits[ranked]  # the last write of each row, its largest, stays
    places[row[ranked]] = other[column[ranked]]
    windows: Floats = np.asarray(counts[own].sum(axis=1)).ravel()
    return np.divide(best, windows, out=np.full(len(own), np.nan), where=windows > 0), places


def find_copies(table: NgramTable, clusters: Ints) -> Copies:
    """Return the generated clips of which at least half of the 5-grams occur in one reference clip.

    Clips with under 8 5-grams are left out. Where reference clips of different speakers repeat each other too (they
    read one text), as large a share of the generated clips is usual.

    Args:
        table: The n-grams of both sides, of order 5 at least.
        clusters: Cluster (speaker) of each clip, different numbers on both sides.
    """
    from scipy import stats  # listing metrics must not wait for scipy

    enough = table.lengths - COPY_ORDER + 1 >= _LEAST_WINDOWS
    own, real = ~table.side & enough, table.side & enough
    shares, originals = nearest_clips(table, own, table.side, clusters)
    within, _ = nearest_clips(table, real, table.side, clusters)
    copied = np.flatnonzero(shares >= _SHARE)
    copied = copied[np.argsort(-shares[copied], kind="stable")]
    usual = float((within >= _SHARE).mean()) if len(within) else 0.0
    # none among few reference clips does not mean never: with 0 a single alike clip would be suspicious
    expected = max(usual, 1 / (len(within) + 1))
    tail = float(stats.binom.sf(len(copied) - 1, len(shares), expected)) if len(copied) else 1.0
    first = int((~table.side).sum())
    clips = np.flatnonzero(own)[copied]
    return Copies(clips, originals[copied] - first, shares[copied], usual, tail < _LEVEL)
