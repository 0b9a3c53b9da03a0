"""From measured rows to what statistics take: samples with one clustering, and the context of each value."""

from __future__ import annotations

from collections.abc import Iterable

from cdslm_eval.core.store import Outcome
from cdslm_eval.plugin.contract import Metric
from cdslm_eval.run import Measurement
from cdslm_eval.stats.sample import ClipLabel, Sample, gather
from cdslm_eval.stats.statistic import Context, Statistic

__all__ = ["context_of", "sample_of"]


def sample_of(measurement: Measurement, metric: Metric, outcomes: Iterable[Outcome] | None = None) -> Sample:
    """Return the rows of a measured set under a metric, clustered by speaker where one is known.

    Args:
        measurement: The set.
        metric: Which rows.
        outcomes: The set's outcomes, where the caller reads them too.
    """
    sources = measurement.request.clips.sources
    clusters = [source.speaker or ("clip", source.key) for source in sources]
    labels = [
        ClipLabel(source.key, str(source.address), digest or "")
        for source, digest in zip(sources, measurement.digests(), strict=True)
    ]
    return gather(measurement.outcomes(metric) if outcomes is None else outcomes, clusters, labels)


def context_of(
    metric: Metric, name: str, statistic: Statistic, *, identity: str, system: str = "", seed: int = 0
) -> Context:
    """Return the context of a metric's statistic: its names, and its unit where it differs from the metric's."""
    return Context(
        name=name,
        metric=metric.name,
        identity=identity,
        system=system,
        unit=statistic.unit or metric.unit,
        better=statistic.better or metric.better,
        seed=seed,
    )
