"""The row of real speech: what the reference itself scores under metrics that compare with nothing."""

from __future__ import annotations

from collections.abc import Sequence

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.plugin.contract import UPSTREAM_FEATURES, Metric
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.run import Measurement
from cdslm_eval.run.samples import context_of, sample_of

__all__ = ["REAL", "measurable", "real_estimates"]

REAL = "real speech"


def measurable(reference: ClipSet, metrics: Sequence[Metric]) -> list[Metric]:
    """Return the metrics under which a reference has a value of its own.

    Left out are metrics that compare with the reference, and those that need what none of its clips has.

    Args:
        reference: Real speech.
        metrics: The metrics of the run.
    """
    offers = reference.offers() | frozenset(UPSTREAM_FEATURES)
    return [
        metric
        for metric in metrics
        if set(metric.needs) <= offers and not any(s.needs_reference for s in metric.statistics.values())
    ]


def real_estimates(real: Measurement, metrics: Sequence[Metric], seed: int) -> tuple[Estimate, ...]:
    """Return what the reference scores under its `measurable` metrics, estimated as for any system.

    Args:
        real: The measured reference.
        metrics: The metrics of the run; those that the reference was not measured under are left out.
        seed: Randomness of every interval.
    """
    estimates: list[Estimate] = []
    for metric in measurable(real.request.clips, metrics):
        if metric not in real.request.metrics:
            continue
        sample, identity = sample_of(real, metric), real.identity(metric).ident
        for name, statistic in metric.statistics.items():
            context = context_of(metric, name, statistic, identity=identity, system=REAL, seed=seed)
            estimates += statistic.estimate(sample, None, context).estimates
    return tuple(estimates)
