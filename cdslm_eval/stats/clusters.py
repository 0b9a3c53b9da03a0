"""`Clusters`: which clips are drawn, left out, held out and paired together (a speaker's, else each alone)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Clusters", "Ints"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """The clustering of clips that every interval, floor, fold and pairing of a sample uses.

    Clips of one speaker are alike, so that a statistic that takes them for independent is surer than it may be.

    Attributes:
        numbers: int64 `[clips]`, cluster of each clip, from 0 without gaps.
    """

    numbers: Ints

    @classmethod
    def of(cls, labels: Iterable[Hashable]) -> Clusters:
        """Number labels (speakers, or one per clip) in the order of their first clip."""
        # numbers follow the first clip, never the label, so that renaming speakers changes no draw
        known: dict[Hashable, int] = {}
        return cls(np.array([known.setdefault(label, len(known)) for label in labels], np.int64))

    @classmethod
    def alone(cls, clips: int) -> Clusters:
        """Return a clustering in which each clip is its own."""
        return cls(np.arange(clips, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def count(self) -> int:
        """How many clusters there are."""
        return int(self.numbers.max(initial=-1)) + 1

    @property
    def each_alone(self) -> bool:
        """Whether every clip is its own cluster."""
        return self.count == len(self.numbers)

    def take(self, chosen: npt.NDArray[np.bool_] | Ints) -> Clusters:
        """Return the clustering of some clips, by mask or by index, renumbered without gaps."""
        return Clusters(np.unique(self.numbers[chosen], return_inverse=True)[1].astype(np.int64))

    def deal(self, groups: int, rng: np.random.Generator) -> Ints:
        """Deal whole clusters into at most `groups` groups of nearly equal number; return each clip's, `[clips]`."""
        # a shuffled deal, not a group drawn for each: the groups differ by one cluster at most
        dealt: Ints = rng.permutation(np.arange(self.count) % groups)[self.numbers]
        return dealt

    def draw(self, replicates: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        """Draw clusters with replacement; return how often each clip counts, `[replicates, clips]`."""
        count = self.count
        drawn = rng.integers(0, count, (replicates, count))
        # each replicate has numbers of its own, so that one count serves all of them
        drawn += np.arange(replicates)[:, None] * count
        weights = np.bincount(drawn.ravel(), minlength=replicates * count).reshape(replicates, count)
        # clusters in their order are the clips themselves where each is alone: no copy is needed then
        same = self.each_alone and bool(np.all(self.numbers == np.arange(count)))
        return weights.astype(np.float64) if same else weights.astype(np.float64)[:, self.numbers]

    def joined(self, other: Clusters) -> Clusters:
        """Return the clustering of paired clips: clips are together when either side has them in one cluster."""
        from scipy.sparse import coo_array  # listing metrics must not wait for scipy
        from scipy.sparse.csgraph import connected_components

        size = self.count + other.count
        # being together is transitive across both sides, hence components and not pairs of numbers
        graph = coo_array((np.ones(len(self)), (self.numbers, other.numbers + self.count)), shape=(size, size))
        _, component = connected_components(graph, directed=False)
        return Clusters.of(component[self.numbers].tolist())
