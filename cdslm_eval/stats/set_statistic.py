"""`SetStatistic`: a value of a whole set, alone or against a reference, with an interval by leaving groups out."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cdslm_eval.results.differences import Difference
from cdslm_eval.results.estimate import Calibration
from cdslm_eval.stats.clusters import Ints
from cdslm_eval.stats.intervals import ALIKE, TOO_FEW, Interval
from cdslm_eval.stats.resampling import MIN_CLUSTERS, Jackknife, pooled_error, t_half_width, t_test
from cdslm_eval.stats.sample import Sample
from cdslm_eval.stats.statistic import Context, Estimation, Statistic

__all__ = ["SetStatistic"]

GROUPS = 20
HALVINGS = 10


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
        sides = self._leave_out(used, real, context)
        value, interval = sides[0].value, _interval(sides).within(*self.limits)
        calibration = None if real is None else Calibration(floor=self._floor(used, real, context))
        return Estimation(
            (
                context.estimate(
                    sample,
                    value,
                    (interval.low, interval.high),
                    error=interval.error,
                    method=interval.method,
                    reason=interval.reason,
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
        values, parts = (math.nan, math.nan), [Jackknife(math.nan, np.zeros(0))]
        if all(sample.complete(self.columns).any() and self._has_sequences(sample) for sample in (a, b)):
            if paired:
                both = a.complete(self.columns) & b.complete(self.columns)
                a, b = a.take(both), b.take(both)
            first, second = (self._leave_out(self._used(sample), real, context) for sample in (a, b))
            values = (first[0].value, second[0].value)
            parts = [first[0].minus(second[0])] if paired else [first[0], second[0]]
            # one reference moves both values together
            parts += [own.minus(other) for own, other in zip(first[1:], second[1:], strict=True)]
        test = t_test(values[0] - values[1], *pooled_error([p.se for p in parts], [p.degrees for p in parts]))
        reason = test.reason or ("" if test.known else f"needs at least {MIN_CLUSTERS} clips (or speakers) a side")
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

    def _leave_out(self, sample: Sample, reference: Sample | None, context: Context) -> list[Jackknife]:
        """Return the jackknife over the system's clips, and that over the reference's where there is one."""

        def without(side: Sample) -> list[Sample]:
            # the generator is the same for every side: group i of a pair leaves out the same prompts
            groups = side.clusters.deal(min(GROUPS, max(1, side.clusters.count)), context.rng_of_groups())
            return [side.take(groups != group) for group in range(int(groups.max(initial=-1)) + 1)]

        value = self.evaluate(sample, reference)
        sides = [Jackknife(value, np.array([self.evaluate(rest, reference) for rest in without(sample)]))]
        if reference is not None:
            sides.append(Jackknife(value, np.array([self.evaluate(sample, rest) for rest in without(reference)])))
        return sides

    def _floor(self, sample: Sample, reference: Sample, context: Context) -> float:
        """Return the mean value between random halves of the reference, no cluster in both; NaN with under 4 clips."""
        rng = context.rng("floor", context.name)
        values = []
        for _ in range(HALVINGS):
            # a speaker in both halves would make them alike, and the floor too low
            first = reference.clusters.deal(2, rng) == 0
            # values change with the size of sets: a floor of larger ones than the system's is no floor of it
            halves = [_at_most(np.flatnonzero(mask), len(sample), rng) for mask in (first, ~first)]
            if min(map(len, halves)) >= 2:
                values.append(self.evaluate(reference.take(halves[0]), reference.take(halves[1])))
        return float(np.mean(values)) if values else math.nan


def _interval(sides: Sequence[Jackknife]) -> Interval:
    """Return the t interval of a value from the jackknifes over the clips of each side."""
    error, degrees = pooled_error([side.se for side in sides], [side.degrees for side in sides])
    known = math.isfinite(error) and degrees >= MIN_CLUSTERS - 1
    half = t_half_width(error, degrees) if known and error > 0 else math.nan
    reason = "" if math.isfinite(half) else ALIKE if known else TOO_FEW
    se = error if known else math.nan
    return Interval(sides[0].value - half, sides[0].value + half, "95% jackknife", reason, se, degrees)


def _at_most(clips: Ints, count: int, rng: np.random.Generator) -> Ints:
    return clips if len(clips) <= count else np.sort(rng.choice(clips, count, replace=False))
