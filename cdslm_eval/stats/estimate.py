"""Rows and a statistic become estimates: seeded clustered bootstrap, divergence bounds, counts."""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from cdslm_eval.core.errors import PluginError
from cdslm_eval.core.store import Outcome
from cdslm_eval.plugin.contract import Metric
from cdslm_eval.results.estimate import Calibration, Estimate
from cdslm_eval.stats.distances import SetDistance, set_distance
from cdslm_eval.stats.jackknife import Jackknifed, grouped, jackknife, spread
from cdslm_eval.stats.jsd import PhonemeJSD, PhoneSequences, phoneme_jsd
from cdslm_eval.stats.statistic import JensenShannon, SequenceStatistic, Statistic, VectorDistance, WeightedStatistic

__all__ = [
    "Sample",
    "applicable",
    "between",
    "bootstrap",
    "bootstrap_interval",
    "column",
    "distance_estimate",
    "divergence_estimates",
    "estimates",
    "gather",
    "left_out",
]

REPLICATES = 1000
CONFIDENCE = 0.95
_CHUNK = 64
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(slots=True, eq=False)
class Sample:
    """The rows of one system under one metric, column by column.

    Attributes:
        numbers: float64 `[scored clips]` per numeric column, NaN where it does not apply to a clip.
        sequences: Phone-like columns.
        vectors: float32 `[scored clips, dimensions]` per vector column, NaN where it does not apply to a clip.
        scored: Index in the set of each scored clip.
        clusters: Cluster (speaker) number of each scored clip.
        n_failed, n_skipped: The other clips.
        reasons: Why clips are missing -> how many.
    """

    numbers: dict[str, Floats] = field(default_factory=dict)
    sequences: dict[str, PhoneSequences] = field(default_factory=dict)
    vectors: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    scored: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    clusters: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    n_failed: int = 0
    n_skipped: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


def gather(outcomes: Iterable[Outcome], clusters: Sequence[object]) -> Sample:
    """Turn outcomes into columns, reading them once.

    Args:
        outcomes: One per clip of the set.
        clusters: What each clip is resampled with: its speaker, or something of its own.
    """
    numbers: dict[str, list[float]] = {}
    sequences: dict[str, _Encoder] = {}
    vectors: dict[str, dict[int, npt.NDArray[np.float32]]] = {}
    sample = Sample()
    scored: list[int] = []
    kept: list[object] = []
    for place, (outcome, cluster) in enumerate(zip(outcomes, clusters, strict=True)):
        if outcome.status != "ok":
            sample.n_failed += outcome.status == "failed"
            sample.n_skipped += outcome.status == "skipped"
            sample.reasons[outcome.reason] = sample.reasons.get(outcome.reason, 0) + 1
            continue
        for name, value in outcome.row.items():
            if isinstance(value, list):
                sequences.setdefault(name, _Encoder()).add(value)
            elif isinstance(value, np.ndarray):
                vectors.setdefault(name, {})[len(scored)] = value
            elif value is None or isinstance(value, int | float):
                numbers.setdefault(name, []).append(math.nan if value is None else float(value))
        scored.append(place)
        kept.append(cluster)
    sample.numbers = {name: np.array(values) for name, values in numbers.items() if name not in vectors}
    sample.sequences = {name: encoder.done() for name, encoder in sequences.items()}
    sample.vectors = {name: _stacked(name, values, len(scored)) for name, values in vectors.items()}
    sample.scored = np.array(scored, np.int64)
    known: dict[object, int] = {}
    sample.clusters = np.array([known.setdefault(one, len(known)) for one in kept], np.int64)
    return sample


def _stacked(name: str, values: Mapping[int, npt.NDArray[np.float32]], rows: int) -> npt.NDArray[np.float32]:
    """Return the vectors of a column row by row, NaN where a clip has none."""
    shapes = sorted({value.shape for value in values.values()})
    if len(shapes) > 1 or len(shapes[0]) != 1:
        raise PluginError(f"the column {name!r} holds arrays of shapes {shapes}; vectors of one length are wanted")
    stacked = np.full((rows, *shapes[0]), np.nan, np.float32)
    for row, value in values.items():
        stacked[row] = value
    return stacked


class _Encoder:
    """Encodes sequences one by one, so that a hundred thousand clips need arrays, not strings."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._codes: list[npt.NDArray[np.int32]] = []

    def add(self, symbols: Sequence[str]) -> None:
        self._codes.append(
            np.fromiter((self._known.setdefault(s, len(self._known)) for s in symbols), np.int32, len(symbols))
        )

    def done(self) -> PhoneSequences:
        offsets = np.zeros(len(self._codes) + 1, np.int64)
        np.cumsum([len(one) for one in self._codes], out=offsets[1:])
        return PhoneSequences(np.concatenate(self._codes), offsets, tuple(self._known))


def bootstrap(
    statistic: WeightedStatistic,
    columns: Mapping[str, Floats],
    clusters: Ints,
    *,
    seed: int | Sequence[int] = 0,
    replicates: int = REPLICATES,
) -> Floats:
    """Return bootstrap replicates of a statistic, whole clusters drawn with replacement.

    Args:
        statistic: What to compute.
        columns: float64 `[clips]` by name.
        clusters: Cluster number of each clip, `[clips]`, from 0 without gaps.
        seed: The same seed gives the same replicates.
        replicates: How many.

    Returns:
        float64 `[replicates]`.
    """
    rng = np.random.default_rng(seed)
    count = int(clusters.max(initial=-1)) + 1
    alone = count == len(clusters) and bool(np.all(clusters == np.arange(count)))
    found = []
    for start in range(0, replicates, _CHUNK):
        rows = min(_CHUNK, replicates - start)
        drawn = rng.integers(0, count, (rows, count))
        drawn += np.arange(rows)[:, None] * count
        weights = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
        found.append(statistic.evaluate(columns, weights if alone else weights[:, clusters]))
    return np.concatenate(found) if found else np.zeros(0)


def bootstrap_interval(replicates: Floats, clusters: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the expanded percentile interval of bootstrap replicates; NaN with under 2 clusters.

    The plain percentile interval is too narrow for few clusters; the quantiles are moved out as far as a
    t interval is wider than a normal one with the n - 1 / n variance.

    Source: Hesterberg (2015), "What Teachers Should Know About the Bootstrap", section 4.3 (expanded percentile).
    """
    replicates = replicates[np.isfinite(replicates)]
    if clusters < 2 or len(replicates) == 0:
        return math.nan, math.nan
    tail = stats.norm.cdf(math.sqrt(clusters / (clusters - 1)) * stats.t.ppf((1 - confidence) / 2, clusters - 1))
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


def estimates(
    system: str,
    metric: Metric,
    identity: str,
    sample: Sample,
    *,
    seed: int,
    replicates: int = REPLICATES,
    reference: Sample | None = None,
) -> list[Estimate]:
    """Return the estimates of a metric's one-sample statistics; those that want a reference have its value as floor."""
    found = []
    for name, statistic in metric.statistics.items():
        if isinstance(statistic, WeightedStatistic):
            frame = _frame(system, metric, identity, name, statistic, sample)
            one = _weighted(frame, statistic, sample, seed, replicates)
            if statistic.wants_reference and reference is not None and applicable(reference, statistic).any():
                floor = float(statistic.evaluate(_columns(reference, statistic), _once(reference, statistic))[0])
                one = dataclasses.replace(one, calibration=Calibration(floor=floor), n_reference=len(reference.scored))
            found.append(one)
        elif isinstance(statistic, SequenceStatistic):
            frame = _frame(system, metric, identity, name, statistic, sample)
            found.append(_sequences(frame, statistic, sample, seed))
    return found


def left_out(statistic: SequenceStatistic, sample: Sample, *, seed: int) -> Jackknifed | None:
    """Return a statistic of sequences with and without each group of clips, or None where no clip was scored."""
    sequences = sample.sequences.get(statistic.sequences)
    if sequences is None:
        return None
    numbers = {one: column(sample, one) for one in statistic.columns if one != statistic.sequences}
    return jackknife(statistic, sequences, numbers, grouped(sample.clusters, seed))


def _sequences(frame: dict[str, Any], statistic: SequenceStatistic, sample: Sample, seed: int) -> Estimate:
    found = left_out(statistic, sample, seed=seed)
    if found is None:
        return Estimate(**frame, value=math.nan, reason=_why_none(sample, 0))
    _, half = spread(found.without)
    reason = "" if math.isfinite(half) else "an interval needs at least 3 clips (of 2 speakers)"
    low, high = max(0.0, found.value - half), min(1.0, found.value + half)
    if not math.isfinite(half):
        low = high = math.nan
    return Estimate(**frame, value=found.value, low=low, high=high, interval="95% jackknife", reason=reason)


def _columns(sample: Sample, statistic: WeightedStatistic) -> dict[str, Floats]:
    applies = applicable(sample, statistic)
    return {name: column(sample, name)[applies] for name in statistic.columns}


def _once(sample: Sample, statistic: WeightedStatistic) -> Floats:
    return np.ones((1, int(applicable(sample, statistic).sum())))


def _frame(
    system: str, metric: Metric, identity: str, name: str, statistic: Statistic, sample: Sample
) -> dict[str, Any]:
    return {
        "system": system,
        "metric": metric.name,
        "identity": identity,
        "name": name,
        "unit": statistic.unit or metric.unit,
        "better": statistic.better or metric.better,
        "n_scored": len(sample.scored),
        "n_failed": sample.n_failed,
        "n_skipped": sample.n_skipped,
    }


def _weighted(
    frame: dict[str, Any], statistic: WeightedStatistic, sample: Sample, seed: int, replicates: int
) -> Estimate:
    applies = applicable(sample, statistic)
    left = int((~applies).sum())
    frame = {**frame, "n_scored": int(applies.sum()), "n_skipped": frame["n_skipped"] + left}
    if not applies.any():
        return Estimate(**frame, value=math.nan, reason=_why_none(sample, left))
    columns = _columns(sample, statistic)
    _, clusters = np.unique(sample.clusters[applies], return_inverse=True)
    value = float(statistic.evaluate(columns, _once(sample, statistic))[0])
    # seeded by what is estimated, so that one more metric in a run changes no other's interval
    own_seed = [seed, zlib.crc32(f"{frame['metric']} {frame['name']}".encode())]
    drawn = bootstrap(statistic, columns, clusters.astype(np.int64), seed=own_seed, replicates=replicates)
    low, high = bootstrap_interval(drawn, int(clusters.max()) + 1)
    reason = "" if math.isfinite(low) else "an interval needs at least 2 clips (or speakers)"
    if not math.isfinite(value):
        reason = "it is not defined for these clips"
    return Estimate(**frame, value=value, low=low, high=high, interval="95% bootstrap", reason=reason)


def column(sample: Sample, name: str) -> Floats:
    """Return a number column `[scored clips]` or a vector column `[scored clips, dimensions]`; NaN where absent."""
    if name in sample.vectors:
        return sample.vectors[name].astype(np.float64)
    return sample.numbers.get(name, np.full(len(sample.scored), np.nan))


def applicable(sample: Sample, statistic: Statistic) -> npt.NDArray[np.bool_]:
    """Return which scored clips have every column of a statistic, `[scored clips]`."""
    everywhere = np.ones(len(sample.scored), bool)
    for name in (one for one in statistic.columns if one not in sample.sequences):
        values = sample.vectors.get(name, sample.numbers.get(name, np.full(len(sample.scored), np.nan)))
        everywhere &= np.isfinite(values) if values.ndim == 1 else np.isfinite(values[:, 0])
    return everywhere


def _why_none(sample: Sample, left: int) -> str:
    if left:
        return "it applies to no clip"
    if not sample.reasons:
        return "no clips"
    reason, count = max(sample.reasons.items(), key=lambda pair: pair[1])
    return f"no clip was scored; {count} x {reason}"


def divergence_estimates(
    system: str, metric: Metric, identity: str, name: str, sample: Sample, reference: Sample, *, seed: int
) -> tuple[list[Estimate], Mapping[int, PhonemeJSD]]:
    """Return the estimates of a `JensenShannon` statistic, and the divergences behind them."""
    statistic = metric.statistics[name]
    assert isinstance(statistic, JensenShannon)
    frame = _frame(system, metric, identity, name, statistic, sample)
    names = dict(zip(statistic.orders, statistic.names(name), strict=True))
    sides = [one.sequences.get(statistic.column) for one in (sample, reference)]
    if sides[0] is None or sides[1] is None:
        reason = _why_none(sample, 0) if sides[0] is None else f"the reference has no rows: {_why_none(reference, 0)}"
        return [Estimate(**{**frame, "name": own}, value=math.nan, reason=reason) for own in names.values()], {}
    found = phoneme_jsd(
        sides[0],
        sides[1],
        statistic.orders,
        seed,
        generated_clusters=sample.clusters,
        reference_clusters=reference.clusters,
    )
    several = []
    for order, one in found.items():
        several.append(
            Estimate(
                **{**frame, "name": names[order]},
                value=one.value,
                low=one.low,
                high=one.high,
                interval="bounds",
                calibration=Calibration(
                    floor=one.floor,
                    corrected=one.corrected,
                    corrected_low=one.corrected_low,
                    corrected_high=one.corrected_high,
                    held_out=one.held_out,
                    trust=one.trust,
                ),
                n_reference=len(reference.scored),
                reason=one.reason,
            )
        )
    return several, found


def between(
    statistic: VectorDistance, sample: Sample, reference: Sample, *, seed: int
) -> tuple[SetDistance | None, str]:
    """Return the distance of two samples, or None and the reason where a side has no vectors."""
    for one, whose in ((sample, ""), (reference, "the reference has no rows: ")):
        if statistic.column not in one.vectors:
            return None, whose + _why_none(one, 0)
    has = [applicable(one, statistic) for one in (sample, reference)]
    vectors = [column(one, statistic.column)[mask] for one, mask in zip((sample, reference), has, strict=True)]
    clusters = sample.clusters[has[0]], reference.clusters[has[1]]
    return set_distance(statistic.against(vectors[1]), vectors[0], vectors[1], clusters, seed), ""


def distance_estimate(
    system: str, metric: Metric, identity: str, name: str, sample: Sample, reference: Sample, *, seed: int
) -> Estimate:
    """Return the estimate of a `VectorDistance` statistic."""
    statistic = metric.statistics[name]
    assert isinstance(statistic, VectorDistance)
    frame = _frame(system, metric, identity, name, statistic, sample)
    found, reason = between(statistic, sample, reference, seed=seed)
    if found is None:
        return Estimate(**frame, value=math.nan, reason=reason)
    return Estimate(
        **frame,
        value=found.value,
        low=found.low,
        high=found.high,
        interval="95% jackknife",
        calibration=Calibration(
            floor=found.floor,
            floor_clips=found.floor_clips,
            corrected=found.corrected,
            corrected_low=found.corrected_low,
            corrected_high=found.corrected_high,
            trust=found.trust if math.isfinite(found.value) else "",
        ),
        n_reference=len(reference.scored),
        reason=found.reason,
    )
