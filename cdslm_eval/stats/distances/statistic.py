"""`VectorDistance`: a distance between the vectors of a system's clips and of a reference, as a statistic."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cdslm_eval.results.differences import Difference
from cdslm_eval.results.estimate import Calibration
from cdslm_eval.stats.distances.contrast import Distance, Floats
from cdslm_eval.stats.distances.frechet import FrechetDistance
from cdslm_eval.stats.distances.kernel import KernelMMD
from cdslm_eval.stats.distances.sets import SetDistance, difference, set_distance
from cdslm_eval.stats.resampling import t_test
from cdslm_eval.stats.sample import Sample
from cdslm_eval.stats.statistic import Context, Estimation, Statistic

__all__ = ["Frechet", "KernelDistance", "VectorDistance"]

_THINNINGS = 5


@dataclass(frozen=True)
class VectorDistance(Statistic):
    """A distance between the vectors of a system's clips and those of a reference."""

    needs_reference: ClassVar[bool] = True
    quantities: ClassVar[tuple[str, ...]] = ("value", "corrected", "floor")

    column: str = "embedding"

    @property
    def columns(self) -> tuple[str, ...]:
        """The one vector column."""
        return (self.column,)

    @abstractmethod
    def against(self, reference: Floats) -> Distance:
        """Return the distance to a reference, `[clips, dimensions]`, with what it takes from it (a bandwidth) fixed."""

    def estimate(self, sample: Sample, reference: Sample | None, context: Context) -> Estimation:
        """Return the distance with its floor, extrapolated value and trust."""
        assert reference is not None  # `needs_reference`
        distance, reason = self._distance(sample, reference, context)
        if distance is None:
            return Estimation((context.estimate(sample, math.nan, reason=reason),))
        calibration = Calibration(
            floor=distance.floor,
            floor_clips=distance.floor_clips,
            corrected=distance.corrected,
            corrected_low=distance.corrected_low,
            corrected_high=distance.corrected_high,
            trust=distance.trust if math.isfinite(distance.value) else "",
            reference_share=distance.reference_share,
            clips_for_ok=distance.clips_for_ok,
        )
        estimate = context.estimate(
            sample,
            distance.value,
            (distance.low, distance.high),
            error=(distance.se, distance.degrees),
            method="95% jackknife",
            calibration=calibration,
            reference=reference,
            reason=distance.reason,
        )
        return Estimation((estimate,))

    def difference(
        self, a: Sample, b: Sample, reference: Sample | None, context: Context, *, paired: bool
    ) -> Sequence[Difference]:
        """Compare the corrected distances to one reference by the influence of every clip."""
        assert reference is not None  # `needs_reference`
        if paired:
            both = a.complete(self.columns) & b.complete(self.columns)
            a, b = a.take(both), b.take(both)
        measured = [self._distance(sample, reference, context) for sample in (a, b)]
        left, right = (distance for distance, _ in measured)
        value, se, few = math.nan, math.nan, 0
        reason = next((why for distance, why in measured if distance is None), "")
        if left is not None and right is not None:
            clusters = [sample.take(sample.complete(self.columns)).clusters.numbers for sample in (a, b, reference)]
            value, se, few = difference(left, right, (clusters[0], clusters[1], clusters[2]), paired=paired)
            sides = (("A", left), ("B", right))
            reason = "; ".join(
                f"{side}: {measured_side.reason}"
                for side, measured_side in sides
                if math.isnan(measured_side.corrected)
            )
        method = "infinitesimal jackknife over clips (or speakers), t"
        if left and right and (left.biased or right.biased) and len(a) != len(b):
            value, se = self._thinned(a, b, reference, context)
            method += (
                f"; the bias of few clips goes with their number: larger side thinned to {min(len(a), len(b))} clips, "
                f"{_THINNINGS} draws"
            )
        test = t_test(value, se, few - 1)
        return [
            context.difference(
                test,
                quantity="corrected",
                sides=(left.corrected if left else math.nan, right.corrected if right else math.nan),
                method=method,
                paired=paired,
                reason=reason or ("" if test.known else "needs at least 3 clips (or speakers) a side"),
            )
        ]

    def _thinned(self, a: Sample, b: Sample, reference: Sample, context: Context) -> tuple[float, float]:
        """Return the difference at equal clip counts and its standard error, over draws of the larger side.

        What the extrapolation leaves of the bias goes with the clips: unequal counts would tell two sets of one source
        apart.
        """
        rng, count = context.rng("thin"), min(len(a), len(b))
        values, variances = [], []
        for _ in range(_THINNINGS):
            sides = [side.take(np.sort(rng.permutation(len(side))[:count])) for side in (a, b)]
            left, right = (self._distance(side, reference, context)[0] for side in sides)
            assert left is not None  # both had vectors before
            assert right is not None
            clusters = [side.take(side.complete(self.columns)).clusters.numbers for side in (*sides, reference)]
            value, se, _ = difference(left, right, (clusters[0], clusters[1], clusters[2]), paired=False)
            values.append(value)
            variances.append(se**2)
        # draws share their clips, so that averaging them does not divide their error
        return float(np.mean(values)), math.sqrt(float(np.mean(variances)) + float(np.var(values)))

    def _distance(self, sample: Sample, reference: Sample, context: Context) -> tuple[SetDistance | None, str]:
        """Return the distance of two samples, or None and the reason where a side has no vectors."""
        for side, whose in ((sample, ""), (reference, "the reference has no rows: ")):
            if self.column not in side.vectors:
                return None, whose + side.why_empty()
        sides = [side.take(side.complete(self.columns)) for side in (sample, reference)]
        vectors = [np.asarray(side.column(self.column)) for side in sides]
        clusters = sides[0].clusters.numbers, sides[1].clusters.numbers
        return set_distance(self.against(vectors[1]), vectors[0], vectors[1], clusters, context.seed), ""


@dataclass(frozen=True)
class Frechet(VectorDistance):
    """Fréchet distance between Gaussians fitted to both sides: FAD, FID. Its bias is extrapolated away."""

    def against(self, reference: Floats) -> Distance:
        """Return the Fréchet distance."""
        return FrechetDistance.against(reference)


@dataclass(frozen=True)
class KernelDistance(VectorDistance):
    """100 times the unbiased squared MMD under a Gaussian kernel with the reference's median distance: KAD."""

    def against(self, reference: Floats) -> Distance:
        """Return the kernel distance with the bandwidth of the reference."""
        return KernelMMD.against(reference)
