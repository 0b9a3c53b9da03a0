"""The interface of a distance between two sets of vectors: its value, and the influence of each vector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

__all__ = ["Contrast", "Distance", "Floats", "Ints", "Vectors", "clustered_variance", "set_influence"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32] | npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Contrast:
    """A distance, and the influence of each vector on it.

    Attributes:
        value: The distance.
        generated, reference: `[vectors]` of each side: derivative of the distance by the vector's weight, mean 0.
    """

    value: float
    generated: Floats
    reference: Floats


class Distance(ABC):
    """A distance to one reference set, with what it takes from that set (a bandwidth) fixed.

    Attributes:
        scale: A distance that would be large in the units of this one; floors are judged against it.
        extrapolates: Whether the value has a bias in 1 / clips that must be extrapolated away.
        caveat: Why the value cannot be trusted, by the reference or its dimensions, or "".
    """

    extrapolates: ClassVar[bool] = False
    scale: float

    @abstractmethod
    def value(self, generated: Vectors, reference: Vectors, clusters: tuple[Ints, Ints] | None = None) -> float:
        """Return the distance between two sets, `[vectors, dimensions]` each; NaN where it is not defined.

        Args:
            generated, reference: The sets.
            clusters: Cluster (speaker) number of each vector of both; by default each is its own.
        """

    @abstractmethod
    def contrast(self, generated: Vectors, reference: Vectors, clusters: tuple[Ints, Ints] | None = None) -> Contrast:
        """Return the distance with the influence of every vector; arguments as of `value`."""

    def variance(self, first_order: float, noise: float) -> float:
        """Return the variance of the distance, or of a difference of two, at least what identical sources fluctuate.

        Args:
            first_order: Variance of the summed influences.
            noise: Variance between identical sources of these sizes.
        """
        return max(first_order, noise)

    def caveat(self, generated: Vectors, reference: Vectors) -> str:
        """Return why the value cannot be trusted, or ""."""
        del generated, reference
        return ""


def clustered_variance(influence: Floats, clusters: Ints) -> float:
    """Return the variance of a statistic from the influence of each vector; NaN with under 2 clusters.

    Args:
        influence: `[vectors]`, mean 0.
        clusters: Cluster number of each vector.

    Source: the infinitesimal jackknife; Efron (1982), "The Jackknife, the Bootstrap and Other Resampling Plans", ch. 6.
    """
    count = len(np.unique(clusters))
    if count < 2:
        return float("nan")
    sums = np.bincount(clusters, weights=influence) / len(influence)
    return float(count / (count - 1) * np.sum(sums**2))


def set_influence(raw: Floats) -> Floats:
    """Return influences with their mean taken out, as derivatives of weights that sum to 1 are."""
    centred: Floats = raw - raw.mean()
    return centred
