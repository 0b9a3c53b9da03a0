"""The statistics: data that says how rows become values, so that the host can cache, resample and compare them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cdslm_eval.results.estimate import Better
from cdslm_eval.stats.bleu import self_bleu
from cdslm_eval.stats.distances import Distance, FrechetDistance, KernelMMD, pairwise_cosine_distance

__all__ = [
    "Better",
    "Frechet",
    "JensenShannon",
    "KernelDistance",
    "Mean",
    "PairwiseDistance",
    "Perplexity",
    "Quantile",
    "RatioOfSums",
    "SelfBleu",
    "SequenceStatistic",
    "Statistic",
    "VectorDistance",
    "Vert",
    "WeightedStatistic",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Statistic(ABC):
    """How the rows of a system become one or several values.

    Attributes:
        unit: Unit of the value, where it differs from the metric's.
        better: Which direction is better, where it differs from the metric's.
        needs_reference: Whether rows of a reference set are needed beside the system's.
        wants_reference: Whether they are measured too where there is a reference, and done without where not.
        quantities: What of an estimate a gate can be set on: "value", "corrected", "held_out", "floor".
    """

    unit: str | None = None
    better: Better | None = None
    needs_reference: ClassVar[bool] = False
    wants_reference: ClassVar[bool] = False
    quantities: ClassVar[tuple[str, ...]] = ("value",)

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Names of the row columns that are read."""

    @abstractmethod
    def names(self, name: str) -> tuple[str, ...]:
        """Return the names of the values that the statistic called `name` gives."""


@dataclass(frozen=True, kw_only=True)
class WeightedStatistic(Statistic):
    """A one-sample statistic that is a function of weighted numbers or vectors, so that the host can bootstrap it."""

    def names(self, name: str) -> tuple[str, ...]:
        """Return `name` itself: one value."""
        return (name,)

    @abstractmethod
    def evaluate(self, columns: Mapping[str, Floats], weights: Floats) -> Floats:
        """Return the statistic under each row of weights.

        Args:
            columns: float64 `[clips]` for each name in `columns`; `[clips, dimensions]` for a vector column.
            weights: float64 `[replicates, clips]`, not negative; how often each clip counts.

        Returns:
            float64 `[replicates]`, NaN where the value is not defined.
        """


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


@dataclass(frozen=True)
class Quantile(WeightedStatistic):
    """Quantile of a column over clips: the least value that at least a share `q` of the weight does not exceed.

    Example:
        >>> Quantile("x", 0.5).evaluate({"x": np.array([9.0, 1.0, 4.0])}, np.ones((1, 3)))
        array([4.])
    """

    column: str
    q: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.q <= 1.0:
            raise ValueError(f"a quantile lies in 0..1, not at {self.q}")

    @property
    def columns(self) -> tuple[str, ...]:
        """The one column."""
        return (self.column,)

    def evaluate(self, columns: Mapping[str, Floats], weights: Floats) -> Floats:
        """Return the weighted quantiles, `[replicates]`."""
        values = columns[self.column]
        if len(values) == 0:
            return np.full(len(weights), np.nan)
        order = np.argsort(values, kind="stable")
        cumulative = np.cumsum(weights[:, order], axis=1)
        target = self.q * cumulative[:, -1:]
        # a weight of zero never carries the quantile, hence the first place where the running weight is above 0 too
        place = np.argmax((cumulative >= target * (1 - 1e-12)) & (cumulative > 0), axis=1)
        return np.where(cumulative[:, -1] > 0, values[order][place], np.nan)


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

    def names(self, name: str) -> tuple[str, ...]:
        """Return `name` itself: one value."""
        return (name,)

    @abstractmethod
    def against(self, reference: Floats) -> Distance:
        """Return the distance to a reference, `[clips, dimensions]`, with what it takes from it (a bandwidth) fixed."""


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


@dataclass(frozen=True)
class SequenceStatistic(Statistic):
    """A value of a whole set of sequences that weights cannot give: a copy of a clip would be a repetition.

    Its interval comes from leaving clips out.

    Attributes:
        sequences: The sequence column.
        order: Largest n of the n-grams.
    """

    sequences: str = "words"
    order: int = 2

    @property
    def columns(self) -> tuple[str, ...]:
        """The sequence column, and the number columns if there are any."""
        return (self.sequences,)

    def names(self, name: str) -> tuple[str, ...]:
        """Return `name` itself: one value."""
        return (name,)

    @abstractmethod
    def evaluate(self, codes: Ints, offsets: Ints, numbers: Mapping[str, Floats]) -> float:
        """Return the value of a set.

        Args:
            codes: Symbols as integers, `[symbols]`, clip after clip.
            offsets: Where each clip starts, and the end, `[clips + 1]`.
            numbers: float64 `[clips]` for each of the number columns.
        """


@dataclass(frozen=True)
class SelfBleu(SequenceStatistic):
    """Mean over clips of the BLEU with all other clips as references, 0..1: how much a set repeats itself."""

    def evaluate(self, codes: Ints, offsets: Ints, numbers: Mapping[str, Floats]) -> float:
        """Return self-BLEU; NaN with under 2 clips."""
        del numbers
        found = self_bleu(codes, offsets, self.order)
        return float(found.mean()) if len(found) else float("nan")


@dataclass(frozen=True)
class Vert(SequenceStatistic):
    """VERT, 0..1: geometric mean of self-BLEU and of the mean of an auto-BLEU column; low is diverse."""

    auto_bleu: str = "auto_bleu"

    @property
    def columns(self) -> tuple[str, ...]:
        """The sequences, and the auto-BLEU of each."""
        return (self.sequences, self.auto_bleu)

    def evaluate(self, codes: Ints, offsets: Ints, numbers: Mapping[str, Floats]) -> float:
        """Return VERT; NaN with under 2 clips."""
        between = SelfBleu(self.sequences, self.order).evaluate(codes, offsets, {})
        return float(np.sqrt(between * numbers[self.auto_bleu].mean())) if len(offsets) > 2 else float("nan")


@dataclass(frozen=True)
class JensenShannon(Statistic):
    """Jensen-Shannon divergence between n-gram distributions of a sequence column, system against reference.

    Gives one value per order, called `NAME_ORDER`, in bits (0..1).
    """

    needs_reference: ClassVar[bool] = True
    quantities: ClassVar[tuple[str, ...]] = ("value", "corrected", "held_out", "floor")

    column: str = "phones"
    orders: tuple[int, ...] = (1, 2, 3, 4, 5)

    @property
    def columns(self) -> tuple[str, ...]:
        """The one sequence column."""
        return (self.column,)

    def names(self, name: str) -> tuple[str, ...]:
        """Return one name per order."""
        return tuple(f"{name}_{order}" for order in self.orders)


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    out = np.full(np.shape(numerator), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator != 0)
    return out
