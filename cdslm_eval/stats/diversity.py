"""`PairwiseDistance`: how much the vectors of a set vary, and which clips repeat each other or copy the reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cdslm_eval.results.score_result import Exemplar
from cdslm_eval.stats.clusters import Clusters
from cdslm_eval.stats.distances.neighbours import near_copies, pairwise_cosine_distance
from cdslm_eval.stats.intervals import Interval
from cdslm_eval.stats.sample import Sample
from cdslm_eval.stats.statistic import Context, Diagnostics, Estimation
from cdslm_eval.stats.weighted import Floats, WeightedStatistic

__all__ = ["PairwiseDistance"]

_SHOWN = 3


@dataclass(frozen=True)
class PairwiseDistance(WeightedStatistic):
    """Mean cosine distance between the vectors of different clips, 0..2: how much a set varies.

    With a reference, its floor is the reference's own value, and clips that copy the reference are named.

    Example:
        >>> PairwiseDistance("v").evaluate({"v": np.array([[1.0, 0.0], [0.0, 2.0]])}, np.ones((1, 2)))
        array([1.])
    """

    wants_reference: ClassVar[bool] = True
    quantities: ClassVar[tuple[str, ...]] = ("value", "floor")

    column: str = "embedding"

    @property
    def columns(self) -> tuple[str, ...]:
        """The one vector column."""
        return (self.column,)

    def evaluate(self, columns: Mapping[str, Floats], weights: Floats) -> Floats:
        """Return the weighted mean distances, `[replicates]`; NaN with under 2 clips."""
        return pairwise_cosine_distance(columns[self.column], weights)

    def _interval(self, columns: Mapping[str, Floats], clusters: Clusters, context: Context) -> Interval:
        """Return the interval, within 0..2."""
        return super()._interval(columns, clusters, context).within(0.0, 2.0)

    def diagnose(
        self, sample: Sample, reference: Sample | None, estimation: Estimation, context: Context
    ) -> Diagnostics:
        """Name the clips of a system that repeat each other, or copy the reference."""
        del estimation
        warnings = _repeated(sample, context.system)
        if reference is None:
            return Diagnostics(tuple(warnings))
        exact, copied = self._copies(sample, reference)
        if not copied:
            return Diagnostics(tuple(warnings))
        pairs = [(sample.labels[clip], reference.labels[other], distance) for clip, other, distance in copied[:_SHOWN]]
        named = ", ".join(f"{own.key} of {original.key}" for own, original, _ in pairs)
        memorised = (
            f"{exact} clips are clips of the reference and {len(copied) - exact} all but copy one "
            f"({named}{', ...' if len(copied) > _SHOWN else ''})"
        )
        warnings.append(f"{context.system}: {memorised}: was it memorised?")
        exemplars = tuple(
            Exemplar(
                system=context.system,
                rank="copy",
                key=own.key,
                path=own.path,
                score=distance,
                measure=f"standard deviations from {original.key}",
                original=original.path,
            )
            for own, original, distance in pairs
        )
        return Diagnostics(tuple(warnings), memorised, exemplars=exemplars)

    def _copies(self, sample: Sample, reference: Sample) -> tuple[int, list[tuple[int, int, float]]]:
        """Return how many clips are equal audio, and (clip, reference clip, distance) of these and of near-copies."""
        # an unknown digest is "", and clips without one must not pass for copies of each other
        known = {label.digest: clip for clip, label in enumerate(reference.labels) if label.digest}
        exact = {clip: known[label.digest] for clip, label in enumerate(sample.labels) if label.digest in known}
        copied = [(clip, other, 0.0) for clip, other in exact.items()]
        own, theirs = sample.vectors.get(self.column), reference.vectors.get(self.column)
        if own is not None and theirs is not None:
            # neighbours are places among clips with vectors, and have to be taken back to clips of the set
            rows = [np.flatnonzero(side.complete(self.columns)) for side in (sample, reference)]
            near = near_copies(own[rows[0]], theirs[rows[1]])
            for row, neighbour, distance in zip(near.places, near.neighbours, near.distances, strict=True):
                clip = int(sample.scored[rows[0][row]])
                if clip not in exact:
                    copied.append((clip, int(reference.scored[rows[1][neighbour]]), float(distance)))
        return len(exact), copied


def _repeated(sample: Sample, system: str) -> list[str]:
    """Return a sentence when clips of a system are the same audio, sample by sample."""
    counts = Counter(label.digest for label in sample.labels if label.digest)
    again = {digest for digest, count in counts.items() if count > 1}
    if not again:
        return []
    same = [label.key for label in sample.labels if label.digest in again]
    named = ", ".join(same[:_SHOWN]) + (", ..." if len(same) > _SHOWN else "")
    return [f"{system}: {len(same)} clips are {len(again)} repeated sample by sample: {named}"]
