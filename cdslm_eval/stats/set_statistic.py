"""`SetStatistic`: a value of a whole set, alone or against a reference, with an interval by leaving groups out."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cdslm_eval.results.differences import Difference
from cdslm_eval.results.estimate import Calibration
from cdslm_eval.stats.clusters import Ints
from cdslm_eval.stats.resampling import jackknife_se, t_half_width, t_test
from cdslm_eval.stats.sample import Sample
from cdslm_eval.stats.statistic import Context, Estimation, Statistic

__all__ = ["SetStatistic"]

GROUPS = 20
HALVINGS = 10
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _LeftOut:
    """A value, and its values without each group of clips of the system and of the reference."""

    value: float
    without: Floats
    without_reference: Floats

    @property
    def se(self) -> float:
        """Standard error: of the system's clips, and of the reference's where there are any."""
        reference = self.without_reference
        return math.hypot(jackknife_se(self.without), jackknife_se(reference) if len(reference) else 0.0)

    @property
    def degrees(self) -> int:
        """Degrees of freedom of the side with the fewest groups."""
        sides = [self.without, self.without_reference] if len(self.without_reference) else [self.without]
        return min(len(side) for side in sides) - 1


@dataclass(frozen=True, kw_only=True)
class SetStatistic(Statistic):
    """A value of whole sets that weights cannot give: a clip drawn twice would be a repetition, or its own neighbour.

    Intervals and tests come from leaving out groups of clips, whole clusters (speakers) at a time, on the side of the
    reference too where there is one. Write `columns` and `evaluate`; set `needs_reference` for a value against a
    reference, whose `floor` is then the value between random halves of the reference.

    Attributes:
        limits: Least and largest value there can be; intervals end there.
    """

    limits: ClassVar[tuple[float, float]] = (-math.inf, math.inf)

    @abstractmethod
    def evaluate(self, sample: Sample, reference: Sample | None) -> float:
        """Return the value of a set; NaN where it is not defined.

        Args:
            sample: Its rows, all with every column: `sample.column(name)`, `sample.sequences[name]`.
            reference: The reference's; None without `needs_reference`.
        """

    def estimate(self, sample: Sample, reference: Sample | None, context: Context) -> Estimation:
        """Return the value with its jackknife interval, and its floor where there is a reference."""
        used, real = self._used(sample), self._used(reference) if self.needs_reference and reference else None
        missing = self._missing(sample, used, "") or (self._missing(reference, real, "the reference has no rows: "))
        if missing:
            return Estimation((context.estimate(sample, math.nan, reason=missing),))
        found = self._leave_out(used, real, context)
        half = t_half_width(found.se, found.degrees) if math.isfinite(found.se) else math.nan
        reason = "" if math.isfinite(half) else "an interval needs at least 3 clips (of 2 speakers)"
        interval = (max(self.limits[0], found.value - half), min(self.limits[1], found.value + half))
        if not math.isfinite(half):
            interval = (math.nan, math.nan)
        calibration = None if real is None else Calibration(floor=self._floor(used, real, context))
        return Estimation(
            (
                context.estimate(
                    sample,
                    found.value,
                    interval,
                    method="95% jackknife",
                    reason=reason,
                    calibration=calibration,
                    reference=real,
                ),
            )
        )

    def difference(
        self, a: Sample, b: Sample, reference: Sample | None, context: Context, *, paired: bool
    ) -> Sequence[Difference]:
        """Compare by leaving groups of clips out, the same groups of both sides when paired, and of the reference."""
        real = self._used(reference) if self.needs_reference and reference else None
        value, se, degrees = math.nan, math.nan, 0
        values = (math.nan, math.nan)
        if all(sample.complete(self.columns).any() and self._has_sequences(sample) for sample in (a, b)):
            if paired:
                both = a.complete(self.columns) & b.complete(self.columns)
                a, b = a.take(both), b.take(both)
            sides = [self._leave_out(self._used(sample), real, context) for sample in (a, b)]
            values = (sides[0].value, sides[1].value)
            value, degrees = values[0] - values[1], min(side.degrees for side in sides)
            if paired:
                se = jackknife_se(sides[0].without - sides[1].without)
            else:
                se = math.hypot(jackknife_se(sides[0].without), jackknife_se(sides[1].without))
            if real is not None:
                se = math.hypot(se, jackknife_se(sides[0].without_reference - sides[1].without_reference))
        test = t_test(value, se, degrees)
        reason = "" if test.known else "needs at least 3 clips (of 2 speakers) a side"
        method = "delete-a-group jackknife, t"
        return [context.difference(test, method=method, paired=paired, sides=values, reason=reason)]

    def _used(self, sample: Sample) -> Sample:
        complete = sample.complete(self.columns)
        return sample if complete.all() else sample.take(complete)

    def _has_sequences(self, sample: Sample) -> bool:
        known = {*sample.sequences, *sample.numbers, *sample.vectors}
        return all(name in known for name in self.columns)

    def _missing(self, sample: Sample | None, used: Sample | None, whose: str) -> str:
        """Return why a side has no rows to evaluate, or ""."""
        if sample is None or used is None:
            return ""
        if not len(sample):
            return whose + sample.why_empty()
        return "" if len(used) and self._has_sequences(sample) else whose + "it applies to no clip"

    def _leave_out(self, sample: Sample, reference: Sample | None, context: Context) -> _LeftOut:
        def without(side: Sample) -> list[Sample]:
            groups = side.clusters.deal(min(GROUPS, max(1, side.clusters.count)), context.rng_of_groups())
            return [side.take(groups != group) for group in range(int(groups.max(initial=-1)) + 1)]

        own = [self.evaluate(rest, reference) for rest in without(sample)]
        theirs = [] if reference is None else [self.evaluate(sample, rest) for rest in without(reference)]
        return _LeftOut(self.evaluate(sample, reference), np.array(own), np.array(theirs))

    def _floor(self, sample: Sample, reference: Sample, context: Context) -> float:
        """Return the mean value between random halves of the reference, no cluster in both; NaN with under 4 clips."""
        rng = context.rng("floor", context.name)
        values = []
        for _ in range(HALVINGS):
            first = reference.clusters.deal(2, rng) == 0
            halves = [_at_most(np.flatnonzero(mask), len(sample), rng) for mask in (first, ~first)]
            if min(map(len, halves)) >= 2:
                values.append(self.evaluate(reference.take(halves[0]), reference.take(halves[1])))
        return float(np.mean(values)) if values else math.nan


def _at_most(clips: Ints, count: int, rng: np.random.Generator) -> Ints:
    return clips if len(clips) <= count else np.sort(rng.choice(clips, count, replace=False))
