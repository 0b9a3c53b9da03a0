"""Whether generated clips share more n-grams with the reference than reference clips share with each other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cdslm_eval.stats.jsd.ngrams import NgramTable
from cdslm_eval.stats.jsd.plug_in import clustered_se

__all__ = ["Overlap", "overlap"]


@dataclass(frozen=True, slots=True)
class Overlap:
    """Sharing of n-grams with one half of the reference.

    Attributes:
        order: n.
        generated: Share of the generated clips' n-grams that occur in that half.
        reference: The same of the reference's other half: what unrelated real speech shares.
        excess: Their difference.
        se: Its standard error, clustered by clip.
        suspicious: Excess beyond 3 standard errors and 0.05: the reference may have been trained on.
    """

    order: int
    generated: float
    reference: float
    excess: float
    se: float
    suspicious: bool


def overlap(table: NgramTable, n: int = 5, seed: int = 0) -> Overlap | None:
    """Compare how much both sides share with a random half of the reference; None where there is too little to tell.

    Args:
        table: The n-grams of both sides.
        n: The order; long n-grams are rarely shared by chance.
        seed: Which half.
    """
    rng = np.random.default_rng([seed, 0x6F766C])
    clips = np.flatnonzero(table.side)
    half = np.zeros(len(table.lengths), bool)
    half[rng.permutation(clips)[: len(clips) // 2]] = True
    known = table.counts(n, np.where(half, table.lengths, 0)) > 0
    gram = table.orders[n - 1].gram
    chosen = gram >= 0
    owner = table.clip[chosen]
    hits = np.bincount(owner, weights=known[gram[chosen]], minlength=len(half))
    windows = np.bincount(owner, minlength=len(half)).astype(float)
    shares, errors = [], []
    for side in (~table.side, table.side & ~half):
        if windows[side].sum() == 0 or np.count_nonzero(windows[side]) < 3:
            return None
        shares.append(float(hits[side].sum() / windows[side].sum()))
        errors.append(clustered_se(hits[side], windows[side], np.arange(int(side.sum()))))
    # of very many clips a trivial excess is beyond 3 standard errors, hence a second limit
    excess, se = shares[0] - shares[1], math.hypot(*errors)
    return Overlap(n, shares[0], shares[1], excess, se, excess > 3 * se and excess > 0.05)
