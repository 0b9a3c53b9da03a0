"""The n-grams that contribute most to a divergence, and the clips that contain them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cdslm_eval.stats.jsd.ngrams import NgramTable

__all__ = ["NgramShare", "contributions"]


@dataclass(frozen=True, slots=True)
class NgramShare:
    """An n-gram's part in a divergence.

    Attributes:
        ngram: Its phones.
        generated, reference: Its probability on each side.
        bits: Its contribution to the plug-in divergence.
        clips: Clips that hold it most often: of the generated side where it is over-used, else of the reference.
    """

    ngram: tuple[str, ...]
    generated: float
    reference: float
    bits: float
    clips: tuple[int, ...]


def contributions(
    table: NgramTable, n: int, count: int = 10, examples: int = 3
) -> tuple[list[NgramShare], list[NgramShare]]:
    """Return the most over-used and the most under-used n-grams, by contribution.

    Only n-grams whose counts differ beyond chance are listed: a log-likelihood ratio above the chi-square
    quantile of 0.05 divided by the number of n-grams (Dunning 1993; Bonferroni).

    Args:
        table: The n-grams of both sides.
        n: The order.
        count: How many to return of each kind, at most.
        examples: Clips per n-gram, at most.
    """
    from scipy import stats  # listing metrics must not wait for scipy

    a = table.counts(n, np.where(table.side, 0, table.lengths))
    b = table.counts(n, np.where(table.side, table.lengths, 0))
    if not a.sum() or not b.sum():
        return [], []
    p, q = a / a.sum(), b / b.sum()
    bits = (_xlog(p, (p + q) / 2) + _xlog(q, (p + q) / 2)) / 2 / np.log(2)
    pooled = (a + b) / (a.sum() + b.sum())
    g2 = 2 * (_xlog(a, a.sum() * pooled) + _xlog(b, b.sum() * pooled))
    sure = g2 > stats.chi2.isf(0.05 / len(g2), 1)
    found: list[list[NgramShare]] = []
    for over in (True, False):
        chosen = np.flatnonzero(sure & ((p > q) == over))
        best = chosen[np.argsort(-bits[chosen], kind="stable")[:count]]
        found.append(
            [
                NgramShare(
                    table.ngram(n, int(k)),
                    float(p[k]),
                    float(q[k]),
                    float(bits[k]),
                    _clips(table, n, int(k), over, examples),
                )
                for k in best
            ]
        )
    return found[0], found[1]


def _xlog(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return x ln(x / y), 0 where x is 0."""
    out = np.zeros(len(x))
    positive = x > 0
    out[positive] = x[positive] * np.log(x[positive] / y[positive])
    return out


def _clips(table: NgramTable, n: int, kind: int, over: bool, examples: int) -> tuple[int, ...]:
    where = table.clip[table.orders[n - 1].gram == kind]
    where = where[table.side[where] != over]
    clips, times = np.unique(where, return_counts=True)
    # a table numbers the reference's clips behind the generated ones
    first = int(np.argmax(table.side)) if not over else 0
    return tuple(int(clip) - first for clip in clips[np.argsort(-times, kind="stable")[:examples]])
