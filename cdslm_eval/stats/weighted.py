"""Statistics that are functions of weighted columns: means, ratios of sums, perplexities."""

from __future__ import annotations

import dataclasses
import math
import zlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cdslm_eval.results.differences import Difference
from cdslm_eval.results.estimate import Calibration
from cdslm_eval.results.score_result import Exemplar
from cdslm_eval.stats.clusters import Clusters
from cdslm_eval.stats.intervals import ALIKE, TOO_FEW, Interval, mean_interval, share_interval
from cdslm_eval.stats.resampling import (
    MIN_CLUSTERS,
    Jackknife,
    TTest,
    bootstrap,
    bootstrap_error,
    jackknife,
    pooled_error,
    t_half_width,
    t_test,
)
from cdslm_eval.stats.sample import Sample
from cdslm_eval.stats.statistic import Context, Diagnostics, Estimation, Statistic

__all__ = ["Mean", "Perplexity", "RatioOfSums", "WeightedStatistic"]

Floats = npt.NDArray[np.float64]
_SHARE = "fraction"  # the unit of what lies in 0..1 for every clip


@dataclass(frozen=True, kw_only=True)
class WeightedStatistic(Statistic):
    """A statistic that is a function of weighted numbers or vectors, so that whole clusters can be left out.

    Attributes:
        smooth: Whether weights move the value little by little, as in a mean, so that the jackknife gives its error.
            A median jumps from clip to clip: with False the error is that of a bootstrap.
        additive: Whether the value depends on sums of weights and of weighted columns alone, so that the clips of a
            group may be added up before groups are left out. It holds for the `evaluate` of the class that states it
            and of those above: a subclass, or a mixin before it, with an `evaluate` of its own states it again.
    """

    smooth: ClassVar[bool] = True
    additive: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        # what holds of the sums of a parent need not hold of those that a subclass, or a mixin, forms
        names = next(names for base in cls.__mro__ if (names := {"evaluate", "additive"} & vars(base).keys()))
        if "additive" not in names:
            cls.additive = False

    @abstractmethod
    def evaluate(self, columns: Mapping[str, Floats], weights: Floats) -> Floats:
        """Return the statistic under each row of weights.

        Args:
            columns: float64 `[clips]` for each name in `columns`; `[clips, dimensions]` for a vector column.
            weights: float64 `[replicates, clips]`, not negative; how often each clip counts.

        Returns:
            float64 `[replicates]`, NaN where the value is not defined.
        """

    def value(self, sample: Sample) -> float:
        """Return the value of the clips that have all columns; NaN where there are none."""
        columns, count = self._read(sample)
        return float(self.evaluate(columns, np.ones((1, count)))[0]) if count else math.nan

    def _read(self, sample: Sample) -> tuple[dict[str, Floats], int]:
        complete = sample.complete(self.columns)
        # no copy where all clips count: ten million of them take 80 MB a column
        chosen = slice(None) if complete.all() else complete
        return {name: sample.column(name)[chosen] for name in self.columns}, int(complete.sum())

    def estimate(self, sample: Sample, reference: Sample | None, context: Context) -> Estimation:
        """Return the value of the clips it applies to, with its interval."""
        complete = sample.complete(self.columns)
        # clips that a column does not apply to count as skipped: n_scored is what the value rests on
        left = int((~complete).sum())
        used = dataclasses.replace(sample.take(complete), n_skipped=sample.n_skipped + left) if left else sample
        if not len(used):
            reason = "it applies to no clip" if left else sample.why_empty()
            return Estimation((context.estimate(used, math.nan, reason=reason),))
        value = self.value(used)
        versus = reference if self.wants_reference and reference and reference.complete(self.columns).any() else None
        floor = None if versus is None else Calibration(floor=self.value(versus))
        if math.isfinite(value):
            interval = self._interval(self._read(used)[0], used.clusters, context)
        else:
            interval = Interval(reason="it is not defined for these clips")
        return Estimation(
            (
                context.estimate(
                    used,
                    value,
                    (interval.low, interval.high),
                    error=interval.error,
                    method=interval.method,
                    reason=interval.reason,
                    calibration=floor,
                    reference=versus,
                ),
            )
        )

    def _interval(self, columns: Mapping[str, Floats], clusters: Clusters, context: Context) -> Interval:
        """Return the interval of the value of one system; by default that of a mean of clusters.

        Args:
            columns: As in `evaluate`.
            clusters: The clustering of the clips.
            context: Unit and seed.
        """
        if self.smooth:
            return mean_interval(self._jackknife(columns, clusters, context))
        value = float(self.evaluate(columns, np.ones((1, len(clusters))))[0])
        error = bootstrap_error(self._bootstrap(columns, clusters, context), clusters.count)
        # an error of 0 from clips that are alike is no certainty: no interval rather than one of width 0
        half = t_half_width(error, clusters.count - 1) if clusters.count >= MIN_CLUSTERS and error > 0 else math.nan
        reason = "" if math.isfinite(half) else TOO_FEW if clusters.count < MIN_CLUSTERS else ALIKE
        se = error if clusters.count >= MIN_CLUSTERS else math.nan
        return Interval(value - half, value + half, "95% bootstrap t", reason, se, clusters.count - 1)

    def _jackknife(self, columns: Mapping[str, Floats], clusters: Clusters, context: Context) -> Jackknife:
        return jackknife(self, columns, clusters, context.rng_of_groups())

    def _bootstrap(self, columns: Mapping[str, Floats], clusters: Clusters, context: Context, side: int = 0) -> Floats:
        # seeded by what is estimated, so that one more metric in a run changes no other's interval
        seed = [context.seed, zlib.crc32(f"{context.metric} {context.name}".encode()), side]
        return bootstrap(self, columns, clusters, seed=seed)

    def difference(
        self, a: Sample, b: Sample, reference: Sample | None, context: Context, *, paired: bool
    ) -> Sequence[Difference]:
        """Compare by a t test, whose error comes from the clusters of both sides, or of the pairs."""
        del reference
        masks = [sample.complete(self.columns) for sample in (a, b)]
        if paired:
            # a clip without its partner would add what differs between prompts to the difference
            masks = [masks[0] & masks[1]] * 2
        sides = [sample.take(mask) for sample, mask in zip((a, b), masks, strict=True)]
        values = (self.value(sides[0]), self.value(sides[1]))
        test, reason = TTest(values[0] - values[1]), f"needs at least {MIN_CLUSTERS} clips (or speakers) a side"
        if min(side.clusters.count for side in sides) >= MIN_CLUSTERS:
            reason = self._why_untested(sides, context)
            if not reason:
                test = self._test(sides, context, paired=paired)
                reason = test.reason or ("" if test.known else "its error is not known")
        method = f"{'jackknife' if self.smooth else 'bootstrap'} over clips (or speakers), t"
        return [context.difference(test, method=method, paired=paired, sides=values, reason=reason)]

    def change(self, windows: int) -> Statistic:
        """Return the statistic of the change over the windows of clips."""
        from cdslm_eval.stats.change import Change, RoughChange  # they are weighted statistics themselves

        return (Change if self.smooth else RoughChange)(self, windows)

    def _why_untested(self, sides: Sequence[Sample], context: Context) -> str:
        """Return why two sides of enough clips cannot be compared; by default they can: ""."""
        del sides, context
        return ""

    def _test(self, sides: Sequence[Sample], context: Context, *, paired: bool) -> TTest:
        if not self.smooth:
            return self._bootstrap_test(sides, context, paired=paired)
        a, b = (self._jackknife(self._read(side)[0], side.clusters, context) for side in sides)
        if paired:
            # both sides leave out the same group, so that what a prompt does to both cancels
            difference = a.minus(b)
            return t_test(difference.value, difference.se, difference.degrees)
        return t_test(a.value - b.value, *pooled_error((a.se, b.se), (a.degrees, b.degrees)))

    def _bootstrap_test(self, sides: Sequence[Sample], context: Context, *, paired: bool) -> TTest:
        drawn = [
            # one seed draws the same clusters for both sides of a pair; independent sides must not share draws
            self._bootstrap(self._read(side)[0], side.clusters, context, 0 if paired else number)
            for number, side in enumerate(sides)
        ]
        value, counts = self.value(sides[0]) - self.value(sides[1]), [side.clusters.count for side in sides]
        if paired:
            return t_test(value, bootstrap_error(drawn[0] - drawn[1], counts[0]), counts[0] - 1)
        errors = [bootstrap_error(draws, count) for draws, count in zip(drawn, counts, strict=True)]
        return t_test(value, *pooled_error(errors, [count - 1 for count in counts]))


@dataclass(frozen=True)
class Mean(WeightedStatistic):
    """Mean of a column over clips.

    Example:
        >>> Mean("x").evaluate({"x": np.array([1.0, 2.0, 6.0])}, np.ones((1, 3)))
        array([3.])
    """

    additive: ClassVar[bool] = True
    column: str

    @property
    def columns(self) -> tuple[str, ...]:
        """The one column."""
        return (self.column,)

    def evaluate(self, columns: Mapping[str, Floats], weights: Floats) -> Floats:
        """Return the weighted means, `[replicates]`."""
        return _divide(weights @ columns[self.column], weights.sum(axis=1))

    def _interval(self, columns: Mapping[str, Floats], clusters: Clusters, context: Context) -> Interval:
        """Return the interval: that of a share for a column of 0 and 1, else that of a mean."""
        values, sample = columns[self.column], self._jackknife(columns, clusters, context)
        # a column of 0 alone may be any quantity: that it is a share its unit must tell
        if _is_share(values) and (values.min() < values.max() or context.unit == _SHARE):
            return share_interval(sample.value, sample, clusters)
        return mean_interval(sample)

    def diagnose(
        self, sample: Sample, reference: Sample | None, estimation: Estimation, context: Context
    ) -> Diagnostics:
        """Return the clip with the worst value, where the metric has a good side."""
        del reference, estimation
        values = sample.numbers.get(self.column, np.zeros(0))
        if context.better == "neither" or not np.isfinite(values).any() or not sample.labels:
            return Diagnostics()
        row = int(np.nanargmin(values) if context.better == "higher" else np.nanargmax(values))
        label = sample.label(row)
        worst = Exemplar(
            system=context.system,
            rank="worst",
            key=label.key,
            path=label.path,
            score=float(values[row]),
            measure=f"{context.unit}, {context.name}" if context.unit else context.name,
        )
        return Diagnostics(exemplars=(worst,))


@dataclass(frozen=True)
class RatioOfSums(WeightedStatistic):
    """Sum of one column over the sum of another: errors per word, phones per second of speech.

    Example:
        >>> columns = {"errors": np.array([1.0, 0.0]), "words": np.array([2.0, 8.0])}
        >>> RatioOfSums("errors", "words").evaluate(columns, np.ones((1, 2)))
        array([0.1])
    """

    additive: ClassVar[bool] = True
    numerator: str
    denominator: str

    @property
    def columns(self) -> tuple[str, ...]:
        """Numerator and denominator."""
        return (self.numerator, self.denominator)

    def evaluate(self, columns: Mapping[str, Floats], weights: Floats) -> Floats:
        """Return the weighted ratios, `[replicates]`; NaN where the denominator sums to 0."""
        return _divide(weights @ columns[self.numerator], weights @ columns[self.denominator])

    def _interval(self, columns: Mapping[str, Floats], clusters: Clusters, context: Context) -> Interval:
        """Return the interval: that of a share where all clips agree on 0 or 1, else that of a mean, not under 0."""
        over, under = columns[self.numerator], columns[self.denominator]
        sample = self._jackknife(columns, clusters, context)
        if context.unit == _SHARE and sample.se == 0 and sample.value in (0.0, 1.0):
            return share_interval(sample.value, sample, clusters)
        # a t interval of few clips would reach below 0, where no ratio of counts can lie
        least = 0.0 if over.min() >= 0 and under.min() >= 0 else -math.inf
        # nor above 1, where each clip has a share
        most = 1.0 if context.unit == _SHARE and least == 0 and (over <= under).all() else math.inf
        return mean_interval(sample).within(least, most)


@dataclass(frozen=True)
class Perplexity(RatioOfSums):
    """Exponential of a ratio of sums: negative log-likelihood in nats over tokens, of all clips together.

    Example:
        >>> columns = {"nll": np.array([0.0, np.log(16)]), "tokens": np.array([2.0, 2.0])}
        >>> Perplexity("nll", "tokens").evaluate(columns, np.ones((1, 2)))
        array([2.])
    """

    additive: ClassVar[bool] = True

    def evaluate(self, columns: Mapping[str, Floats], weights: Floats) -> Floats:
        """Return the weighted perplexities, `[replicates]`; NaN where there is no token."""
        return np.exp(super().evaluate(columns, weights))

    def _interval(self, columns: Mapping[str, Floats], clusters: Clusters, context: Context) -> Interval:
        """Return the exponentials of the interval of the log-perplexity, which is the less skewed one."""
        rates = RatioOfSums(self.numerator, self.denominator)
        interval = mean_interval(jackknife(rates, columns, clusters, context.rng_of_groups()))
        # perplexities are compared as they are, so that ranks need their own error and not that of the logarithm
        se = self._jackknife(columns, clusters, context).se if math.isfinite(interval.se) else math.nan
        return dataclasses.replace(interval, low=_exp(interval.low), high=_exp(interval.high), se=se)


def _is_share(values: Floats) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def _exp(value: float) -> float:
    # above 709 `math.exp` raises, and an upper end of that size says enough
    return math.exp(min(value, 700.0)) if math.isfinite(value) else value


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    out = np.full(np.shape(numerator), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator != 0)
    return out
