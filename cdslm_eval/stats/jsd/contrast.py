"""A contrast inside a set: the two groups of its clips whose texts differ most, and how far apart they are."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cdslm_eval.results.channel import Interval
from cdslm_eval.results.recognition_gain import RecognitionGain
from cdslm_eval.stats.clusters import Ints
from cdslm_eval.stats.jsd.acoustics import corrected_interval
from cdslm_eval.stats.jsd.estimator import MAX_PHONES
from cdslm_eval.stats.jsd.ngrams import PhoneSequences
from cdslm_eval.stats.sample import Sample

__all__ = ["most_different", "recognition_gains"]

_LEAST_SHARE = 0.1
"""Share of the phones that each side has at least (ours): fewer are too few for a divergence."""
_LEAST_CLIPS = 5


def most_different(phones: PhoneSequences) -> npt.NDArray[np.bool_]:
    """Return two groups of clips whose phones differ most, as True and False, `[clips]`.

    Clips are ordered along the first principal component of their phone frequencies (roots of them, weighted by
    length), and parted where the variance between both groups is largest.

    Args:
        phones: The phones of each clip; clips without any are on the side of the average.

    Source: Otsu (1979), "A Threshold Selection Method from Gray-Level Histograms", for where to part them.
    """
    counts = np.zeros((len(phones), len(phones.inventory)))
    np.add.at(counts, (np.repeat(np.arange(len(phones)), phones.lengths), phones.codes), 1.0)
    weights = phones.lengths.astype(np.float64)
    if np.count_nonzero(weights) < 2 * _LEAST_CLIPS:
        return np.zeros(len(phones), bool)
    roots = np.sqrt(counts / np.maximum(weights, 1.0)[:, None])
    centred = np.where(weights[:, None] > 0, roots - np.average(roots, axis=0, weights=weights), 0.0)
    component = np.linalg.eigh((centred * weights[:, None]).T @ centred)[1][:, -1]
    # the sign of a principal component is arbitrary, and would swap the sides from one machine to another
    component = component * np.sign(component[np.abs(component).argmax()])
    scores = centred @ component
    order = np.argsort(scores, kind="stable")
    below = np.cumsum(weights[order])
    sums = np.cumsum((weights * scores)[order])
    total, whole = below[-1], sums[-1]
    allowed = (below >= _LEAST_SHARE * total) & (below <= (1 - _LEAST_SHARE) * total)
    if not allowed.any():
        return np.zeros(len(phones), bool)
    above = np.maximum(total - below, 1.0)
    between = below * above * (sums / np.maximum(below, 1.0) - (whole - sums) / above) ** 2
    upper = np.ones(len(phones), bool)
    upper[order[: int(np.where(allowed, between, -1.0).argmax()) + 1]] = False
    return upper


def recognition_gains(
    text: Sample, recognized: Sample, column: str, orders: Sequence[int], seed: int = 0
) -> dict[int, RecognitionGain]:
    """Return, per order, the divergence between two groups of clips in their texts and in recognized phones.

    Both are taken between the same groups, which the texts alone choose.

    Args:
        text: Rows of the texts' phones.
        recognized: Rows of the recognized phones; clips are paired by key.
        column: The sequence column.
        orders: Values of n.
        seed: Randomness of draws.

    Returns:
        Gains without names.
    """
    rows = _paired(text, recognized, column)
    own = text.sequences[column].take(rows[0]) if column in text.sequences else PhoneSequences.from_lists([])
    if len(own) < 2 * _LEAST_CLIPS:
        reason = f"{len(own)} of its clips have a text whose phones are known, which is too few"
        return {order: RecognitionGain(name="", reference="", reason=reason) for order in orders}
    upper = most_different(own)
    clusters = np.unique(text.clusters.numbers[rows[0]], return_inverse=True)[1].astype(np.int64)
    both = [own, recognized.sequences[column].take(rows[1])]
    divergences = [_between(phones, upper, clusters, tuple(orders), seed) for phones in both]
    gain = RecognitionGain(name="", reference="", clips=(int(upper.sum()), int((~upper).sum())))
    return {order: _filled(gain, *(intervals[order] for intervals in divergences)) for order in orders}


def _paired(text: Sample, recognized: Sample, column: str) -> tuple[Ints, Ints]:
    """Return the rows of the clips that have phones in both samples, in one order."""
    if column not in text.sequences or column not in recognized.sequences:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    row_of = {key: row for row, key in enumerate(recognized.keys)}
    lengths = text.sequences[column].lengths
    pairs = [(row, row_of[key]) for row, key in enumerate(text.keys) if key in row_of and lengths[row]]
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    return first, second


def _between(
    phones: PhoneSequences, upper: npt.NDArray[np.bool_], clusters: Ints, orders: tuple[int, ...], seed: int
) -> dict[int, Interval]:
    def side(chosen: npt.NDArray[np.bool_]) -> tuple[PhoneSequences, Ints]:
        rows = np.flatnonzero(chosen)
        return phones.take(rows), np.unique(clusters[rows], return_inverse=True)[1].astype(np.int64)

    return corrected_interval(side(upper), side(~upper), orders, seed, MAX_PHONES)


def _filled(gain: RecognitionGain, text: Interval, recognized: Interval) -> RecognitionGain:
    known = math.isfinite(text.low) and math.isfinite(recognized.low)
    return dataclasses.replace(
        gain,
        text=text.value,
        text_low=text.low,
        text_high=text.high,
        recognized=recognized.value,
        recognized_low=recognized.low,
        recognized_high=recognized.high,
        reason="" if known else "too few phones for this order",
    )
