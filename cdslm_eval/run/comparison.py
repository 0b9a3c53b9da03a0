"""Compares two systems, metric by metric: difference, interval, Holm-corrected p, and what could have been seen."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.contract import Metric
from cdslm_eval.results.comparison_result import ComparisonResult
from cdslm_eval.results.differences import Difference, with_holm
from cdslm_eval.run import Measurement, Progress, Request, Runner
from cdslm_eval.run.channel import sees_channel, study_channels
from cdslm_eval.run.components import NO_STUDIES, Studies
from cdslm_eval.run.recognition_gain import gains_of, measure_texts
from cdslm_eval.run.samples import context_of, sample_of
from cdslm_eval.run.scoring import set_digest, summarise
from cdslm_eval.run.set_notes import set_notes, unnamed_speakers
from cdslm_eval.stats.sample import Sample

__all__ = ["compare", "differences", "doubts_of"]

_LEAST_CLUSTERS = 5


def compare(
    runner: Runner,
    a: ClipSet,
    b: ClipSet,
    reference: ClipSet | None,
    metrics: Sequence[Metric],
    *,
    seed: int = 0,
    unpaired: bool = False,
    progress: Progress | None = None,
    studies: Studies = NO_STUDIES,
) -> tuple[ComparisonResult, Sequence[Measurement]]:
    """Return the difference of two systems under each metric, and the rows of both and of the reference.

    Clips are paired by key where both sets share at least half of the keys of the larger: the same prompts answered by
    both. Otherwise, and where `unpaired`, the samples are independent. Keys that are absolute paths
    count from their common folder.

    Args:
        runner: Measures what the store does not hold.
        a, b: The systems.
        reference: Real speech; needed by metrics that compare with it.
        metrics: What to measure.
        seed: Randomness of every interval, draw and fold.
        unpaired: Do not pair clips.
        progress: Called with (clips done, clips to do).
        studies: What is measured next to divergences: channels, and the reference's texts.

    Raises:
        UsageError: A metric needs a reference and there is none.
    """
    versus = [metric for metric in metrics if any(s.needs_reference for s in metric.statistics.values())]
    if versus and reference is None:
        raise UsageError(f"{versus[0].name} compares with real speech: name it with --reference DIR")
    seeing = sees_channel(versus)
    profiler = studies.profiler if seeing else None
    further = () if profiler is None else (profiler,)
    requests = [Request(a, (*metrics, *further)), Request(b, (*metrics, *further))]
    if reference is not None and versus:
        requests.append(Request(reference, (*versus, *further)))
    measured = runner.run(requests, progress)
    found: list[Difference] = []
    for metric in metrics:
        sides = (sample_of(measured[0], metric), sample_of(measured[1], metric))
        real = sample_of(measured[2], metric) if metric in versus else None
        found += differences(metric, measured[0].identity(metric).ident, sides, real, seed=seed, unpaired=unpaired)
    result = ComparisonResult(a=a.name, b=b.name, differences=tuple(with_holm(found)), seed=seed)
    if profiler is not None:
        result = _with_channel(result, runner, measured, seeing, profiler, progress)
    if seeing and (rows := measure_texts(runner, studies.texts, seeing, progress)) is not None:
        gains = (gain for metric in seeing for gain in gains_of(rows, metric, measured[2], seed))
        result = dataclasses.replace(result, recognition_gain=tuple(gains))
    return result, measured


def _with_channel(
    result: ComparisonResult,
    runner: Runner,
    measured: Sequence[Measurement],
    metrics: Sequence[Metric],
    profiler: Metric,
    progress: Progress | None,
) -> ComparisonResult:
    """Return a comparison with the channels of its sets, and what they explain of the values of both systems."""
    (*systems, real), reference = measured, measured[-1].request.clips
    channel = study_channels(runner, systems, real, metrics, profiler, seed=result.seed, progress=progress)
    scores = summarise(systems, real, metrics, reference=reference, seed=result.seed, channel=channel)
    return dataclasses.replace(result, estimates=scores.estimates, channel=scores.channel, warnings=scores.warnings)


def differences(
    metric: Metric,
    identity: str,
    sides: tuple[Sample, Sample],
    reference: Sample | None,
    *,
    seed: int,
    unpaired: bool = False,
) -> list[Difference]:
    """Return the first side minus the second, one difference per value of a metric, without Holm's correction.

    Args:
        metric: What was measured.
        identity: Its identity, the same on both sides.
        sides: The rows of both systems; paired clip by clip where they share at least half of their keys
            and their speakers do not chain the pairs into fewer than 5 clusters.
        reference: The reference's rows, where the metric needs them.
        seed: Randomness of draws and folds.
        unpaired: Do not pair them.
    """
    sides = _with_relative_keys(sides[0]), _with_relative_keys(sides[1])
    pairs = None if unpaired else _shared_keys(sides)
    aligned = None if pairs is None else _aligned(sides, pairs)
    if aligned is not None and _chained(sides, aligned[0]):
        pairs = aligned = None
    paired = aligned is not None
    a, b = aligned or sides
    compared: list[Difference] = []
    for name, statistic in metric.statistics.items():
        if statistic.needs_reference and reference is None:
            continue
        context = context_of(metric, name, statistic, identity=identity, seed=seed)
        compared += statistic.difference(a, b, reference, context, paired=paired)
    n_unpaired = 0 if pairs is None else len({label.key for side in sides for label in side.labels} - set(pairs))
    return [dataclasses.replace(difference, n_unpaired=n_unpaired) for difference in compared]


def _with_relative_keys(side: Sample) -> Sample:
    """Return a sample whose keys, where all are absolute paths, start at their common folder.

    Manifests of two systems name the same prompts in two places.
    """
    keys = [label.key for label in side.labels]
    if len(keys) < 2 or not all(PurePath(key).is_absolute() for key in keys):
        return side
    common = os.path.commonpath([str(PurePath(key).parent) for key in keys])
    labels = [dataclasses.replace(label, key=os.path.relpath(label.key, common)) for label in side.labels]
    return dataclasses.replace(side, labels=labels)


def _shared_keys(sides: tuple[Sample, Sample]) -> list[str] | None:
    """Return the keys that both sets have, in the first one's order; None where they are under half of the larger."""
    keys = [[label.key for label in side.labels] for side in sides]
    known = set(keys[1])
    shared = [key for key in keys[0] if key in known]
    return shared if shared and 2 * len(shared) >= max(map(len, keys)) else None


def _chained(sides: tuple[Sample, Sample], paired: Sample) -> bool:
    """Return whether pairing joins the clusters of both sides into too few for an interval.

    Where the sides have other speakers under the same keys, each pair joins two speakers, and soon all are one cluster.
    """
    return paired.clusters.count < min(_LEAST_CLUSTERS, *(side.clusters.count for side in sides))


def _aligned(sides: tuple[Sample, Sample], keys: Sequence[str]) -> tuple[Sample, Sample]:
    """Return the clips that both samples scored, in one order of keys and with one clustering.

    Draws and groups are dealt to clusters by number: were they numbered on each side alone, one manifest in another
    order, or a speaker column on one side only, would draw other clips for each side and undo the pairing.
    """
    rows = [{key: row for row, key in enumerate(side.keys)} for side in sides]
    both = [key for key in keys if key in rows[0] and key in rows[1]]
    a, b = (side.take(np.array([own[key] for key in both], np.int64)) for side, own in zip(sides, rows, strict=True))
    clusters = a.clusters.joined(b.clusters)
    return dataclasses.replace(a, clusters=clusters), dataclasses.replace(b, clusters=clusters)


def doubts_of(measured: Sequence[Measurement], metrics: Sequence[Metric]) -> list[str]:
    """Return what the user must know of the sets of a comparison before quoting it, in sentences."""
    doubts = [doubt for measurement in measured for doubt in set_notes(measurement, metrics)]
    facts = {measurement.request.clips.name: set_digest(measurement) for measurement in measured}
    return [*doubts, *unnamed_speakers(facts)]
