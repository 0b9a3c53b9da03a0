"""Compares two systems, metric by metric: difference, interval, Holm-corrected p, and what could have been seen."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.contract import Metric
from cdslm_eval.results.differences import Difference, with_holm
from cdslm_eval.run import Measurement, Progress, Request, Runner
from cdslm_eval.stats.distances import difference
from cdslm_eval.stats.estimate import (
    Sample,
    applicable,
    between,
    bootstrap,
    bootstrap_interval,
    column,
    gather,
    left_out,
)
from cdslm_eval.stats.jackknife import spread
from cdslm_eval.stats.jsd import corrected_difference
from cdslm_eval.stats.statistic import JensenShannon, SequenceStatistic, VectorDistance, WeightedStatistic

__all__ = ["Side", "compare", "differences", "side_of"]

_REPLICATES = 2000
_Head = tuple[Metric, str, str]  # metric, name of the value, identity


def compare(
    runner: Runner,
    a: ClipSet,
    b: ClipSet,
    reference: ClipSet | None,
    metrics: Sequence[Metric],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Difference]:
    """Return the difference of two systems under each metric.

    Clips are paired when both sets have the same keys: the same prompts answered by both. Otherwise two samples
    are resampled apart.

    Raises:
        UsageError: A metric needs a reference and there is none.
    """
    versus = [metric for metric in metrics if any(s.needs_reference for s in metric.statistics.values())]
    if versus and reference is None:
        raise UsageError(f"{versus[0].name} compares with real speech: name it with --reference DIR")
    requests = [Request(a, tuple(metrics)), Request(b, tuple(metrics))]
    if reference is not None and versus:
        requests.append(Request(reference, tuple(versus)))
    measured = runner.run(requests, progress)
    found: list[Difference] = []
    for metric in metrics:
        sides = (side_of(measured[0], metric), side_of(measured[1], metric))
        real = side_of(measured[2], metric).sample if metric in versus else None
        found += differences(metric, measured[0].identity(metric).ident, sides, real, seed=seed)
    return with_holm(found)


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison.

    Attributes:
        sample: Its rows.
        keys: The key of every clip of its set, scored or not.
    """

    sample: Sample
    keys: Sequence[str]


def side_of(one: Measurement, metric: Metric) -> Side:
    """Return the rows of a measured set under a metric, as one side of a comparison."""
    sources = one.request.clips.sources
    sample = gather(one.outcomes(metric), [source.speaker or ("clip", source.key) for source in sources])
    return Side(sample, [source.key for source in sources])


def differences(
    metric: Metric, identity: str, sides: tuple[Side, Side], real: Sample | None, *, seed: int
) -> list[Difference]:
    """Return the first side minus the second, one difference per value of a metric, without Holm's correction.

    Args:
        metric: What was measured.
        identity: Its identity, the same on both sides.
        sides: The two systems; paired clip by clip when they have the same keys.
        real: The reference's rows, where the metric needs them.
        seed: Randomness of draws and folds.
    """
    paired = set(sides[0].keys) == set(sides[1].keys)
    samples = _aligned(sides) if paired else [one.sample for one in sides]
    found: list[Difference] = []
    for name, statistic in metric.statistics.items():
        head = (metric, name, identity)
        if isinstance(statistic, JensenShannon) and real is not None:
            found += _divergences(head, statistic, samples, real, paired=paired, seed=seed)
        elif isinstance(statistic, VectorDistance) and real is not None:
            found.append(_distance(head, statistic, samples, real, paired=paired, seed=seed))
        elif isinstance(statistic, SequenceStatistic):
            found.append(_sequences(head, statistic, samples, paired=paired, seed=seed))
        elif isinstance(statistic, WeightedStatistic):
            found.append(_weighted(head, statistic, samples, paired=paired, seed=seed))
    return found


def _aligned(sides: tuple[Side, Side]) -> list[Sample]:
    """Keep the clips that both samples scored, in one order of keys."""
    places = [{one.keys[int(clip)]: row for row, clip in enumerate(one.sample.scored)} for one in sides]
    keys = [key for key in places[0] if key in places[1]]
    return [_rows(side.sample, [place[key] for key in keys]) for side, place in zip(sides, places, strict=True)]


def _rows(sample: Sample, rows: list[int]) -> Sample:
    index = np.array(rows, np.int64)
    _, clusters = np.unique(sample.clusters[index], return_inverse=True)
    return Sample(
        numbers={name: values[index] for name, values in sample.numbers.items()},
        sequences={name: values.take(index) for name, values in sample.sequences.items()},
        vectors={name: values[index] for name, values in sample.vectors.items()},
        scored=sample.scored[index],
        clusters=clusters.astype(np.int64),
    )


def _divergences(
    head: tuple[Metric, str, str],
    statistic: JensenShannon,
    samples: list[Sample],
    real: Sample,
    *,
    paired: bool,
    seed: int,
) -> list[Difference]:
    metric, name, identity = head
    names = dict(zip(statistic.orders, statistic.names(name), strict=True))
    common = {
        "unit": metric.unit,
        "better": metric.better,
        "identity": identity,
        "quantity": "corrected",
        "paired": paired,
        "method": "delete-a-group jackknife, t",
    }
    column = statistic.column
    if any(column not in one.sequences for one in (*samples, real)):
        blank = dict.fromkeys(("difference", "low", "high", "p_value", "detectable"), math.nan)
        return [Difference(name=own, **common, **blank, reason="no clip was scored") for own in names.values()]  # type: ignore[arg-type]
    found = corrected_difference(
        samples[0].sequences[column],
        samples[1].sequences[column],
        real.sequences[column],
        statistic.orders,
        paired=paired,
        seed=seed,
    )
    return [
        Difference(
            name=names[order],
            difference=one.value,
            low=one.low,
            high=one.high,
            p_value=one.p_value,
            detectable=one.detectable,
            reason="" if math.isfinite(one.value) else "too few phones for this order",
            **common,  # type: ignore[arg-type]
        )
        for order, one in found.items()
    ]


def _distance(
    head: _Head, statistic: VectorDistance, samples: list[Sample], real: Sample, *, paired: bool, seed: int
) -> Difference:
    """Compare the corrected distances to one reference by the influence of every clip."""
    metric, name, identity = head
    found = [between(statistic, one, real, seed=seed) for one in samples]
    a, b = (one[0] for one in found)
    value, se, few, reason = math.nan, math.nan, 0, next((why for one, why in found if one is None), "")
    if a is not None and b is not None:
        masks = [applicable(one, statistic) for one in (*samples, real)]
        clusters = [one.clusters[mask] for one, mask in zip((*samples, real), masks, strict=True)]
        value, se, few = difference(a, b, (clusters[0], clusters[1], clusters[2]), paired=paired)
        reason = "; ".join(f"{side}: {one.reason}" for side, one in (("A", a), ("B", b)) if math.isnan(one.corrected))
    t = stats.t(max(1, few - 1))
    known = few > 1 and math.isfinite(se) and math.isfinite(value)
    half = float(t.ppf(0.975) * se) if known else math.nan
    p_value = float(2 * t.sf(abs(value) / se)) if known and se > 0 else float(value == 0) if known else math.nan
    return Difference(
        name=name,
        unit=statistic.unit or metric.unit,
        better=statistic.better or metric.better,
        identity=identity,
        quantity="corrected",
        a=a.corrected if a is not None else math.nan,
        b=b.corrected if b is not None else math.nan,
        difference=value,
        low=value - half,
        high=value + half,
        p_value=p_value,
        detectable=half + float(t.ppf(0.8)) * se,
        paired=paired,
        method="infinitesimal jackknife over clips (or speakers), t",
        reason=reason or ("" if known else "needs at least 2 clips (or speakers) a side"),
    )


def _sequences(
    head: _Head, statistic: SequenceStatistic, samples: list[Sample], *, paired: bool, seed: int
) -> Difference:
    """Compare values of whole sets by leaving groups of clips out, the same groups of both sides when paired."""
    metric, name, identity = head
    sides = [left_out(statistic, one, seed=seed) for one in samples]
    value, se, groups = math.nan, math.nan, 0
    a, b = (one.value if one else math.nan for one in sides)
    if sides[0] is not None and sides[1] is not None:
        value, groups = a - b, min(len(one.without) for one in sides if one)
        if paired:
            se, _ = spread(sides[0].without - sides[1].without)
        else:
            se = math.hypot(spread(sides[0].without)[0], spread(sides[1].without)[0])
    known = math.isfinite(se)
    t = stats.t(max(1, groups - 1))
    half = float(t.ppf(0.975)) * se
    return Difference(
        name=name,
        unit=statistic.unit or metric.unit,
        better=statistic.better or metric.better,
        identity=identity,
        quantity="value",
        a=a,
        b=b,
        difference=value,
        low=value - half,
        high=value + half,
        p_value=float(2 * t.sf(abs(value) / se)) if known and se > 0 else float(value == 0) if known else math.nan,
        detectable=half + float(t.ppf(0.8)) * se,
        paired=paired,
        method="delete-a-group jackknife, t",
        reason="" if known else "needs at least 3 clips (of 2 speakers) a side",
    )


def _weighted(
    head: _Head, statistic: WeightedStatistic, samples: list[Sample], *, paired: bool, seed: int
) -> Difference:
    """Compare by bootstrap: the same draws of clusters for both sides when paired, draws of their own otherwise."""
    metric, name, identity = head
    sides = []
    masks = [applicable(sample, statistic) for sample in samples]
    if paired:
        masks = [masks[0] & masks[1]] * 2
    values, counts = [], []
    for side, (sample, mask) in enumerate(zip(samples, masks, strict=True)):
        if not mask.any():
            sides.append(np.full(_REPLICATES, np.nan))
            values.append(math.nan)
            counts.append(0)
            continue
        columns = {c: column(sample, c)[mask] for c in statistic.columns}
        _, clusters = np.unique(sample.clusters[mask], return_inverse=True)
        own = [seed, zlib.crc32(name.encode()), 0 if paired else side]
        sides.append(bootstrap(statistic, columns, clusters.astype(np.int64), seed=own, replicates=_REPLICATES))
        values.append(float(statistic.evaluate(columns, np.ones((1, int(mask.sum()))))[0]))
        counts.append(int(clusters.max()) + 1)
    replicates = sides[0] - sides[1]
    difference = values[0] - values[1]
    few = min(counts)
    low, high = bootstrap_interval(replicates, few)
    finite = replicates[np.isfinite(replicates)]
    se = float(np.std(finite, ddof=1)) if len(finite) > 1 and few > 1 else math.nan
    return Difference(
        name=name,
        unit=statistic.unit or metric.unit,
        better=statistic.better or metric.better,
        identity=identity,
        quantity="value",
        a=values[0],
        b=values[1],
        difference=difference,
        low=low,
        high=high,
        p_value=_bootstrap_p(difference, finite, se),
        detectable=float((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * se),
        paired=paired,
        method="bootstrap over clips (or speakers)",
        reason="" if math.isfinite(se) else "needs at least 2 clips (or speakers) a side",
    )


def _bootstrap_p(difference: float, replicates: np.ndarray, se: float) -> float:
    """Return the two-sided p of no difference from replicates centred on it (never 0: one is added to both counts)."""
    if not math.isfinite(se) or not math.isfinite(difference):
        return math.nan
    centred = np.abs(replicates - difference)
    return float((1 + np.count_nonzero(centred >= abs(difference) * (1 - 1e-12))) / (1 + len(replicates)))
