"""`Statistic`: how rows become values. Each kind owns its estimate, its comparison and its diagnosis."""

from __future__ import annotations

import dataclasses
import math
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from cdslm_eval.results.channel import Interval
from cdslm_eval.results.differences import Difference
from cdslm_eval.results.estimate import Better, Calibration, Estimate
from cdslm_eval.results.recognition_gain import RecognitionGain
from cdslm_eval.results.score_result import Exemplar, NgramContribution
from cdslm_eval.stats.resampling import TTest
from cdslm_eval.stats.sample import Sample

__all__ = ["ChannelProbes", "Context", "Diagnostics", "Estimation", "Statistic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Whose value is computed under which name, and the seed of its randomness.

    Attributes:
        name: What the metric calls the statistic.
        metric, identity: Which metric, and how exactly it measured.
        system: Whose rows; "" in a comparison.
        unit, better: Of the values.
        seed: Randomness of every interval, draw and fold.
    """

    name: str
    metric: str = ""
    identity: str = ""
    system: str = ""
    unit: str = ""
    better: Better = "neither"
    seed: int = 0

    def rng(self, *salt: int | str) -> np.random.Generator:
        """Return a generator of this seed; other salt, other numbers."""
        return np.random.default_rng([self.seed, *(_number(part) for part in salt)])

    def rng_of_groups(self) -> np.random.Generator:
        """Return the generator that deals jackknife groups: the same for both sides of a pair."""
        return np.random.default_rng(self.seed)

    def estimate(
        self,
        sample: Sample,
        value: float,
        interval: tuple[float, float] = (math.nan, math.nan),
        *,
        error: tuple[float, float] = (math.nan, math.nan),
        name: str = "",
        method: str = "",
        calibration: Calibration | None = None,
        reference: Sample | None = None,
        reason: str = "",
    ) -> Estimate:
        """Make the estimate of a sample.

        Args:
            sample: The rows behind the value; its counts enter.
            value: The value; NaN with a reason where it is not known.
            interval: Its interval or bounds.
            error: Standard error and degrees of freedom of the number that is ranked: the corrected value where the
                calibration has a trusted one. Without it a system is distinguished from no other in a ranking.
            name: Name of the value, where the statistic gives several.
            method: What the interval is: "95% jackknife", "bounds".
            calibration: Floor, corrected value and trust, where it has them.
            reference: The reference's rows behind the value.
            reason: Why something is not known.
        """
        return Estimate(
            system=self.system,
            metric=self.metric,
            identity=self.identity,
            name=name or self.name,
            value=value,
            low=interval[0],
            high=interval[1],
            interval=method,
            calibration=calibration,
            unit=self.unit,
            better=self.better,
            n_scored=len(sample),
            n_failed=sample.n_failed,
            n_skipped=sample.n_skipped,
            n_reference=0 if reference is None else len(reference),
            reason=reason,
            se=error[0],
            degrees=error[1],
        )

    def difference(
        self,
        test: TTest,
        *,
        method: str,
        paired: bool,
        name: str = "",
        quantity: str = "value",
        sides: tuple[float, float] = (math.nan, math.nan),
        reason: str = "",
    ) -> Difference:
        """Make the difference of two samples from its test."""
        return Difference(
            name=name or self.name,
            unit=self.unit,
            better=self.better,
            identity=self.identity,
            quantity=quantity,
            difference=test.value,
            low=test.low,
            high=test.high,
            p_value=test.p_value,
            detectable=test.detectable,
            paired=paired,
            method=method,
            a=sides[0],
            b=sides[1],
            reason=reason,
        )


@dataclass(frozen=True, slots=True)
class Estimation:
    """The estimates of one system, and what the diagnosis of that system may use again.

    Attributes:
        estimates: One per value name.
        evidence: Passed back to `diagnose`; nothing else reads it.
    """

    estimates: tuple[Estimate, ...]
    evidence: Any = None


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """What explains a value: sentences, n-grams behind it, clips to listen to.

    Attributes:
        warnings: Sentences that a reader of the number must know.
        memorised: Why the system may have learned the reference, which takes it out of the ranking, or "".
        contributions: n-grams behind a divergence.
        exemplars: Clips to listen to.
        heard_in: (whether of the system, key) -> audio file of the clips that the contributions name.
        neighbours: How alike clips next to each other are, -1..1, of the system and of the reference, where that is
            beyond chance, as for clips of one unnamed speaker; NaN otherwise.
    """

    warnings: tuple[str, ...] = ()
    memorised: str = ""
    contributions: tuple[NgramContribution, ...] = ()
    exemplars: tuple[Exemplar, ...] = ()
    heard_in: Mapping[tuple[bool, str], str] = dataclasses.field(default_factory=dict)
    neighbours: tuple[float, float] = (math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class ChannelProbes:
    """Rows of derived sets of the reference, whose clips have the keys of the reference's.

    Attributes:
        through: The reference through the system's channel, or part of it.
        backwards: Some of it played backwards.
        backwards_through: The same through the system's channel.
    """

    through: Sample
    backwards: Sample
    backwards_through: Sample


@dataclass(frozen=True, kw_only=True)
class Statistic(ABC):
    """How the rows of a system become one or several values.

    A kind of statistic is a class of its own: it estimates, compares and diagnoses, and nothing outside looks at its
    type. Most authors want a base that leaves one method to write: `WeightedStatistic` (a function of weighted
    columns) or `SetStatistic` (a value of a whole set, with or without a reference).

    Attributes:
        unit: Unit of the value, where it differs from the metric's.
        better: Which direction is better, where it differs from the metric's.
        needs_reference: Whether rows of a reference set are needed beside the system's.
        wants_reference: Whether they are measured too where there is a reference, and done without where not.
        sees_channel: Whether its values are of recognized phones, which a noise or a band limit moves as language does:
            such statistics have `with_channel` and `channel_effect`.
        quantities: Which numbers of an estimate may be gated: "value", "corrected", "held_out", "floor".
    """

    unit: str | None = None
    better: Better | None = None
    needs_reference: ClassVar[bool] = False
    wants_reference: ClassVar[bool] = False
    sees_channel: ClassVar[bool] = False
    quantities: ClassVar[tuple[str, ...]] = ("value",)

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Names of the row columns that are read."""

    def names(self, name: str) -> tuple[str, ...]:
        """Return the names of the values that the statistic called `name` gives; by default that one."""
        return (name,)

    @abstractmethod
    def estimate(self, sample: Sample, reference: Sample | None, context: Context) -> Estimation:
        """Estimate the values of a system.

        Args:
            sample: Its rows.
            reference: The reference's rows; None where there is none (never where `needs_reference`).
            context: Names, unit and seed; `context.estimate(...)` makes the estimates.

        Returns:
            One estimate per name, also where nothing was scored.
        """

    @abstractmethod
    def difference(
        self, a: Sample, b: Sample, reference: Sample | None, context: Context, *, paired: bool
    ) -> Sequence[Difference]:
        """Return the first system minus the second, one difference per name.

        Args:
            a, b: Rows of both; when `paired`, row i of both answers the same prompt and has one cluster number.
            reference: The reference's rows, as in `estimate`.
            context: Names, unit and seed; `context.difference(...)` makes the differences.
            paired: Whether rows are paired.
        """

    def diagnose(
        self, sample: Sample, reference: Sample | None, estimation: Estimation, context: Context
    ) -> Diagnostics:
        """Return what explains the values of a system; by default nothing."""
        del sample, reference, estimation, context
        return Diagnostics()

    def change(self, windows: int) -> Statistic | None:
        """Return the statistic of the change over the windows of clips; by default None: it is not estimated.

        Its samples have the column `window`, the number of the window of each row; it gives as many values, in order.

        Args:
            windows: How many windows each clip has, at least 2.
        """
        del windows
        return None

    def change_margin(self, first: Estimate, clusters: int) -> float:
        """Return how large a change over time does not count: by default half the spread between clips.

        Args:
            first: The value in the first window.
            clusters: Clips (or speakers) behind it.
        """
        return 0.5 * first.se * math.sqrt(clusters)

    def on_common_scale(
        self, estimations: Mapping[str, Estimation], samples: Mapping[str, Sample], reference: Sample, context: Context
    ) -> Mapping[str, Sequence[Estimate]]:
        """Return the estimates of several systems with what compares them at one sample size; by default as they are.

        Args:
            estimations: By system, at least two.
            samples: Their rows.
            reference: The reference's rows.
            context: Names and seed, of no system.
        """
        del samples, reference, context
        return {system: estimation.estimates for system, estimation in estimations.items()}

    def with_channel(
        self, estimates: Sequence[Estimate], sample: Sample, reference: Sample, probes: ChannelProbes, context: Context
    ) -> Sequence[Estimate]:
        """Return the estimates of a system with what its channel explains of them; by default as they are.

        Args:
            estimates: One per name.
            sample: The system's rows.
            reference: The reference's rows.
            probes: Rows of the reference put through the system's channel.
            context: Names, unit and seed.
        """
        del sample, reference, probes, context
        return estimates

    def channel_effect(self, through: Sample, reference: Sample, context: Context) -> Mapping[str, Interval]:
        """Return, by name, the value that a degradation alone gives real speech; by default nothing.

        Args:
            through: Rows of the degraded reference, or of part of it.
            reference: Rows of the reference as it is.
            context: Names, unit and seed.
        """
        del through, reference, context
        return {}

    def recognition_gains(self, text: Sample, recognized: Sample, context: Context) -> Sequence[RecognitionGain]:
        """Return what recognition leaves of a divergence inside the reference; by default nothing.

        Args:
            text: Rows of the reference under the phones of its texts.
            recognized: Rows of the reference.
            context: Names, unit and seed.
        """
        del text, recognized, context
        return ()


def _number(part: int | str) -> int:
    # `hash` of a string differs from process to process, and seeds must not
    return part if isinstance(part, int) else zlib.crc32(part.encode())
