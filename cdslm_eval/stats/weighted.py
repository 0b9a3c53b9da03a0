"""Statistics that are functions of weighted columns: means, ratios of sums, perplexities; bootstrapped."""

from __future__ import annotations

import dataclasses
import math
import zlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cdslm_eval.results.differences import Difference
from cdslm_eval.results.estimate import Calibration
from cdslm_eval.results.score_result import Exemplar
from cdslm_eval.stats.resampling import REPLICATES, TTest, bootstrap, bootstrap_interval
from cdslm_eval.stats.sample import Sample
from cdslm_eval.stats.statistic import Context, Diagnostics, Estimation, Statistic

__all__ = ["Mean", "Perplexity", "RatioOfSums", "WeightedStatistic"]

Floats = npt.NDArray[np.float64]
_COMPARED = 2000  # replicates of a difference, whose p value needs more of them than an interval


@dataclass(frozen=True, kw_only=True)
class WeightedStatistic(Statistic):
    """A statistic that is a function of weighted numbers or vectors, so that whole clusters can be redrawn."""

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
        return {name: sample.column(name)[complete] for name in self.columns}, int(complete.sum())

    def estimate(self, sample: Sample, reference: Sample | None, context: Context) -> Estimation:
        """Return the value of the clips it applies to, with its bootstrap interval."""
        complete = sample.complete(self.columns)
        left = int((~complete).sum())
        used = dataclasses.replace(sample.take(complete), n_skipped=sample.n_skipped + left)
        if not len(used):
            reason = "it applies to no clip" if left else sample.why_empty()
            return Estimation((context.estimate(used, math.nan, reason=reason),))
        value = self.value(used)
        # seeded by what is estimated, so that one more metric in a run changes no other's interval
        seed = [context.seed, zlib.crc32(f"{context.metric} {context.name}".encode())]
        drawn = bootstrap(self, self._read(used)[0], used.clusters, seed=seed, replicates=REPLICATES)
        low, high = bootstrap_interval(drawn, used.clusters.count)
        reason = "" if math.isfinite(low) else "an interval needs at least 2 clips (or speakers)"
        if not math.isfinite(value):
            reason = "it is not defined for these clips"
        versus = reference if self.wants_reference and reference and reference.complete(self.columns).any() else None
        floor = None if versus is None else Calibration(floor=self.value(versus))
        return Estimation(
            (
                context.estimate(
                    used,
                    value,
                    (low, high),
                    method="95% bootstrap",
                    reason=reason,
                    calibration=floor,
                    reference=versus,
                ),
            )
        )

    def difference(
        self, a: Sample, b: Sample, reference: Sample | None, context: Context, *, paired: bool
    ) -> Sequence[Difference]:
        """Compare by bootstrap: the same draws of clusters for both sides when paired, draws of their own otherwise."""
        del reference
        masks = [sample.complete(self.columns) for sample in (a, b)]
        if paired:
            masks = [masks[0] & masks[1]] * 2
        sides = [sample.take(mask) for sample, mask in zip((a, b), masks, strict=True)]
        values = tuple(self.value(side) for side in sides)
        replicates = [
            bootstrap(
                self,
                self._read(side)[0],
                side.clusters,
                seed=[context.seed, zlib.crc32(context.name.encode()), 0 if paired else number],
                replicates=_COMPARED,
            )
            if len(side)
            else np.full(_COMPARED, np.nan)
            for number, side in enumerate(sides)
        ]
        test = _bootstrap_test(
            values[0] - values[1], replicates[0] - replicates[1], min(side.clusters.count for side in sides)
        )
        reason = "" if math.isfinite(test.p_value) else "needs at least 2 clips (or speakers) a side"
        method = "bootstrap over clips (or speakers)"
        sides_text = (values[0], values[1])
        return [context.difference(test, method=method, paired=paired, sides=sides_text, reason=reason)]


def _bootstrap_test(difference: float, replicates: Floats, few: int) -> TTest:
    """Return the interval, p and detectable difference of bootstrap replicates (p never 0: one is added)."""
    from scipy import stats  # listing metrics must not wait for scipy

    low, high = bootstrap_interval(replicates, few)
    finite = replicates[np.isfinite(replicates)]
    se = float(np.std(finite, ddof=1)) if len(finite) > 1 and few > 1 else math.nan
    p_value = math.nan
    if math.isfinite(se) and math.isfinite(difference):
        extreme = np.abs(finite - difference) >= abs(difference) * (1 - 1e-12)
        p_value = float((1 + np.count_nonzero(extreme)) / (1 + len(finite)))
    return TTest(difference, low, high, p_value, float((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * se))


@dataclass(frozen=True)
class Mean(WeightedStatistic):
    """Mean of a column over clips.

    Example:
        >>> Mean("x").evaluate({"x": np.array([1.0, 2.0, 6.0])}, np.ones((1, 3)))
        array([3.])
    """

    column: str

    @property
    def columns(self) -> tuple[str, ...]:
        """The one column."""
        return (self.column,)

    def evaluate(self, columns: Mapping[str, Floats], weights: Floats) -> Floats:
        """Return the weighted means, `[replicates]`."""
        return _divide(weights @ columns[self.column], weights.sum(axis=1))

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

    numerator: str
    denominator: str

    @property
    def columns(self) -> tuple[str, ...]:
        """Numerator and denominator."""
        return (self.numerator, self.denominator)

    def evaluate(self, columns: Mapping[str, Floats], weights: Floats) -> Floats:
        """Return the weighted ratios, `[replicates]`; NaN where the denominator sums to 0."""
        return _divide(weights @ columns[self.numerator], weights @ columns[self.denominator])


@dataclass(frozen=True)
class Perplexity(RatioOfSums):
    """Exponential of a ratio of sums: negative log-likelihood in nats over tokens, of all clips together.

    Example:
        >>> columns = {"nll": np.array([0.0, np.log(16)]), "tokens": np.array([2.0, 2.0])}
        >>> Perplexity("nll", "tokens").evaluate(columns, np.ones((1, 2)))
        array([2.])
    """

    def evaluate(self, columns: Mapping[str, Floats], weights: Floats) -> Floats:
        """Return the weighted perplexities, `[replicates]`; NaN where there is no token."""
        return np.exp(super().evaluate(columns, weights))


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    out = np.full(np.shape(numerator), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator != 0)
    return out
