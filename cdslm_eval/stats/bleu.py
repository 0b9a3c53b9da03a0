"""How much sequences repeat themselves and each other: auto-BLEU, self-BLEU and their geometric mean, VERT.

Source: Lakhotia et al. (2021), "On Generative Spoken Language Modeling from Raw Audio" (arXiv 2102.01192), section 3;
self-BLEU after Zhu et al. (2018), "Texygen" (arXiv 1802.01886). Geometric means over the orders 1 to n, and no brevity
penalty, as in the published code of the former.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cdslm_eval.stats.sample import Sample
from cdslm_eval.stats.set_statistic import SetStatistic

__all__ = ["SelfBleu", "Vert", "auto_bleu", "self_bleu"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def auto_bleu(words: Sequence[Hashable], order: int = 2) -> float:
    """Return how much a sequence repeats itself, 0..1: geometric mean over n of the share of repeated n-grams.

    An n-gram is repeated when it also occurs before it or behind it, not overlapping it.

    Args:
        words: The sequence.
        order: Largest n, as 2 in "auto-BLEU-2".

    Returns:
        0 for a sequence of fewer than 2 words, and for one too short for an n-gram of some order.

    Example:
        >>> auto_bleu("yes yes no".split(), order=1)
        0.6666666666666666
    """
    product = 1.0
    for n in range(1, order + 1):
        grams = [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]
        if len(words) < 2 or not grams:
            return 0.0
        # no occurrence lies further off than the first or the last, so these two tell whether any does not overlap
        first: dict[tuple[Hashable, ...], int] = {}
        last: dict[tuple[Hashable, ...], int] = {}
        for at, gram in enumerate(grams):
            first.setdefault(gram, at)
            last[gram] = at
        repeated = sum(at - first[gram] >= n or last[gram] - at >= n for at, gram in enumerate(grams))
        product *= repeated / len(grams)
    return float(product ** (1 / order))


def self_bleu(codes: Ints, offsets: Ints, order: int = 2) -> Floats:
    """Return how much each sequence of a set repeats the others, 0..1: its BLEU with all others as references.

    An n-gram counts as often as it occurs in the sequence, but not more often than in the other sequence that has it
    most. For each n-gram the two largest counts are kept with their owner, so all sequences are scored in one pass.

    Args:
        codes: Words as integers, `[words]`, sequence after sequence.
        offsets: Where each sequence starts, and the end, `[sequences + 1]`.
        order: Largest n.

    Returns:
        float64 `[sequences]`; 0 where a sequence is too short for an n-gram of some order; NaN where it is alone.
    """
    lengths = np.diff(offsets)
    if len(lengths) < 2:
        return np.full(len(lengths), np.nan)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    within = np.arange(len(codes)) - offsets[:-1].repeat(lengths)
    gram = np.zeros(len(codes), np.int64)
    product = np.ones(len(lengths))
    base = int(codes.max(initial=0)) + 1
    for n in range(1, order + 1):
        starts = np.flatnonzero(within + n <= lengths[owner])
        # an n-gram is the number of its (n-1)-gram and its last word, renumbered so that it never overflows
        _, numbers = np.unique(gram[starts] * base + codes[starts + n - 1], return_inverse=True)
        # -1 is never read: where a longer n-gram fits, this one does too
        gram = np.full(len(codes), -1, np.int64)
        gram[starts] = numbers
        product *= _matched(owner[starts], numbers.astype(np.int64), len(lengths)) / np.maximum(lengths - n + 1, 1)
    return np.asarray(product ** (1 / order))


def _matched(owner: Ints, grams: Ints, sequences: int) -> Floats:
    """Return for each sequence how many of its n-grams occur in others, clipped as in BLEU."""
    if not len(grams):
        return np.zeros(sequences)
    pairs, counts = np.unique(grams * sequences + owner, return_counts=True)
    gram, holder = np.divmod(pairs, sequences)
    by_count = np.lexsort((-counts, gram))
    first = np.ones(len(gram), bool)
    first[1:] = gram[by_count][1:] != gram[by_count][:-1]
    starts = np.flatnonzero(first)
    # a sequence is no reference of its own: where it has the most, the second most is its limit
    most, whose = counts[by_count][starts], holder[by_count][starts]
    second = np.zeros(len(starts), np.int64)
    has_second = np.append(starts[1:], len(gram)) - starts > 1
    second[has_second] = counts[by_count][starts[has_second] + 1]
    # `gram` numbers run from 0 without gaps, so they index the arrays above
    others = np.where(whose[gram] == holder, second[gram], most[gram])
    return np.bincount(holder, np.minimum(counts, others), sequences).astype(np.float64)


@dataclass(frozen=True)
class SelfBleu(SetStatistic):
    """Mean over clips of the BLEU with all other clips as references, 0..1: how much a set repeats itself.

    Attributes:
        sequences: The sequence column.
        order: Largest n of the n-grams.
    """

    limits: ClassVar[tuple[float, float]] = (0.0, 1.0)

    sequences: str = "words"
    order: int = 2

    @property
    def columns(self) -> tuple[str, ...]:
        """The one sequence column."""
        return (self.sequences,)

    def evaluate(self, sample: Sample, reference: Sample | None) -> float:
        """Return self-BLEU; NaN with under 2 clips."""
        del reference
        words = sample.sequences[self.sequences]
        values = self_bleu(words.codes.astype(np.int64), words.offsets, self.order)
        return float(values.mean()) if len(values) else float("nan")


@dataclass(frozen=True)
class Vert(SelfBleu):
    """VERT, 0..1: geometric mean of self-BLEU and of the mean of an auto-BLEU column; low is diverse."""

    auto_bleu: str = "auto_bleu"

    @property
    def columns(self) -> tuple[str, ...]:
        """The sequences, and the auto-BLEU of each."""
        return (self.sequences, self.auto_bleu)

    def evaluate(self, sample: Sample, reference: Sample | None) -> float:
        """Return VERT; NaN with under 2 clips."""
        if len(sample) < 2:
            return float("nan")
        return float(np.sqrt(super().evaluate(sample, reference) * sample.column(self.auto_bleu).mean()))
