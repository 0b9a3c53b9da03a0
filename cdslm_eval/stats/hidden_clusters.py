"""Whether clips that are next to each other in a set are alike, as those of one unnamed speaker are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["OrderCorrelation", "order_correlation"]

_LEAST_CLIPS = 20
_LIMIT = 3.0


@dataclass(frozen=True, slots=True)
class OrderCorrelation:
    """The intra-class correlation of neighbours in the order of a set.

    Attributes:
        value: Correlation of the ranks of each clip and the next, -1..1; NaN with under 20 clips.
        z: It in standard errors of independent clips.
    """

    value: float = math.nan
    z: float = math.nan

    @property
    def shown(self) -> bool:
        """Whether neighbours are alike beyond 3 standard errors."""
        return self.z > _LIMIT


def order_correlation(scores: npt.NDArray[np.float64]) -> OrderCorrelation:
    """Return how alike the scores of neighbouring clips are.

    Args:
        scores: One number a clip in the order of the set, `[clips]`; NaN is left out.

    Source: von Neumann's ratio of ranks, as the serial rank correlation of Wald and Wolfowitz (1943), "An Exact Test
    for Randomness in the Non-Parametric Case Based on Serial Correlation", Annals of Mathematical Statistics 14.
    """
    from scipy import stats  # listing metrics must not wait for scipy

    known = scores[np.isfinite(scores)]
    count = len(known)
    if count < _LEAST_CLIPS or np.ptp(known) == 0:
        return OrderCorrelation()
    # ranks, so that one clip with an extreme score neither makes nor hides a correlation
    ranks = stats.rankdata(known) - (count + 1) / 2
    value = float(ranks[:-1] @ ranks[1:] / (ranks @ ranks))
    # independent clips have -1 / count on average, as ranks sum to 0
    return OrderCorrelation(value, (value + 1 / count) * math.sqrt(count))
