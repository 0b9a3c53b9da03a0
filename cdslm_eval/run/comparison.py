"""Compares two systems, metric by metric: difference, interval, Holm-corrected p, and what could have been seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.contract import Metric
from cdslm_eval.results.differences import Difference, with_holm
from cdslm_eval.run import Progress, Request, Runner
from cdslm_eval.run.samples import context_of, sample_of
from cdslm_eval.stats.sample import Sample

__all__ = ["compare", "differences"]


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
        sides = (sample_of(measured[0], metric), sample_of(measured[1], metric))
        real = sample_of(measured[2], metric) if metric in versus else None
        found += differences(metric, measured[0].identity(metric).ident, sides, real, seed=seed)
    return with_holm(found)


def differences(
    metric: Metric, identity: str, sides: tuple[Sample, Sample], reference: Sample | None, *, seed: int
) -> list[Difference]:
    """Return the first side minus the second, one difference per value of a metric, without Holm's correction.

    Args:
        metric: What was measured.
        identity: Its identity, the same on both sides.
        sides: The rows of both systems; paired clip by clip when they have the same keys.
        reference: The reference's rows, where the metric needs them.
        seed: Randomness of draws and folds.
    """
    paired = {label.key for label in sides[0].labels} == {label.key for label in sides[1].labels}
    a, b = _aligned(sides) if paired else sides
    compared: list[Difference] = []
    for name, statistic in metric.statistics.items():
        if statistic.needs_reference and reference is None:
            continue
        context = context_of(metric, name, statistic, identity=identity, seed=seed)
        compared += statistic.difference(a, b, reference, context, paired=paired)
    return compared


def _aligned(sides: tuple[Sample, Sample]) -> tuple[Sample, Sample]:
    """Return the clips that both samples scored, in one order of keys."""
    rows = [{key: row for row, key in enumerate(side.keys)} for side in sides]
    keys = [key for key in rows[0] if key in rows[1]]
    a, b = (side.take(np.array([own[key] for key in keys], np.int64)) for side, own in zip(sides, rows, strict=True))
    return a, b
