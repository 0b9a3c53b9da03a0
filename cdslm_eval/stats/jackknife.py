"""Intervals by leaving out groups of clips, for values of whole sets of sequences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from cdslm_eval.stats.jsd import PhoneSequences
from cdslm_eval.stats.statistic import SequenceStatistic

__all__ = ["Jackknifed", "grouped", "jackknife", "spread"]

GROUPS = 20
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Jackknifed:
    """A value and what becomes of it when a group of clips is left out.

    Attributes:
        value: The value of all clips.
        without: float64 `[groups]`, the value without each group.
    """

    value: float
    without: Floats


def grouped(clusters: Ints, seed: int = 0) -> Ints:
    """Return the group of each clip, `[clips]`: whole clusters (speakers), at most 20 groups of like size.

    Args:
        clusters: Cluster number of each clip, `[clips]`.
        seed: The same seed gives the same groups.
    """
    _, numbers = np.unique(clusters, return_inverse=True)
    count = int(numbers.max(initial=-1)) + 1
    order: Ints = np.random.default_rng(seed).permutation(count) % min(GROUPS, max(count, 1))
    return order[numbers]


def jackknife(
    statistic: SequenceStatistic, sequences: PhoneSequences, numbers: Mapping[str, Floats], groups: Ints
) -> Jackknifed:
    """Return a statistic of all clips and without each group.

    Args:
        statistic: What to compute.
        sequences: Its sequences.
        numbers: float64 `[clips]` by column.
        groups: Group of each clip, `[clips]`.
    """

    def of(places: Ints) -> float:
        some = sequences.take(places)
        own = {name: values[places] for name, values in numbers.items()}
        return statistic.evaluate(some.codes.astype(np.int64), some.offsets.astype(np.int64), own)

    everyone = np.arange(len(groups))
    without = [of(everyone[groups != group]) for group in range(int(groups.max(initial=-1)) + 1)]
    return Jackknifed(of(everyone), np.array(without))


def spread(without: Floats, confidence: float = 0.95) -> tuple[float, float]:
    """Return the standard error of a jackknifed value and the half-width of its t interval; NaN with under 2 groups.

    Source: Shao and Tu (1995), "The Jackknife and Bootstrap", section 2.3 (grouped jackknife).
    """
    count = len(without)
    if count < 2 or not np.isfinite(without).all():
        return math.nan, math.nan
    se = math.sqrt((count - 1) / count * float(np.square(without - without.mean()).sum()))
    return se, float(stats.t.ppf((1 + confidence) / 2, count - 1)) * se
