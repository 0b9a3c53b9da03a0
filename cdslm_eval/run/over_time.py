"""Measures the windows of clips, and follows each value from the first window to the last."""

from __future__ import annotations

from collections.abc import Sequence

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.progress import Progress
from cdslm_eval.core.windows import WindowedSet, windowed
from cdslm_eval.plugin.contract import Metric
from cdslm_eval.results.over_time import REAL_SPEECH, Track
from cdslm_eval.run.runner import Measurement, Request, Runner
from cdslm_eval.run.samples import context_of, sample_of
from cdslm_eval.stats.positions import tracks_of
from cdslm_eval.stats.sample import ClipLabel, Sample, gather

__all__ = ["check_window", "follow"]

_RANGE_S = (0.25, 3600.0)


def check_window(window_s: float) -> None:
    """Refuse a length of windows that cannot be measured.

    Raises:
        UsageError: It lies outside .25 s to an hour.
    """
    if not _RANGE_S[0] <= window_s <= _RANGE_S[1]:
        raise UsageError(f"windows of {window_s:g} s: use {_RANGE_S[0]:g} to {_RANGE_S[1]:g} s, such as 10")


def follow(
    runner: Runner,
    systems: Sequence[ClipSet],
    real: Measurement | None,
    metrics: Sequence[Metric],
    window_s: float,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[list[Track], list[str]]:
    """Return the values of systems, and of the reference, by window, and sentences on what is not known.

    Args:
        runner: Measures what the store does not hold.
        systems: The systems.
        real: The reference as whole clips, with which divergences in each window compare.
        metrics: What to measure; those that need a text or a paired clip apply to no window.
        window_s: Length of a window in seconds.
        seed: Randomness of every interval.
        progress: Called with (windows done, windows to do).
    """
    sets = list(systems)
    if real is not None:
        sets.append(ClipSet(REAL_SPEECH, real.request.clips.sources, real.request.clips.origin))
    cut = [(clips, windowed(clips, window_s)) for clips in sets]
    long_enough = [(clips, parts) for clips, parts in cut if parts.positions.any()]
    notes = [
        f"{clips.name}: no clip has two windows of {window_s:g} s, so that nothing is known of it over time"
        for clips, parts in cut
        if not parts.positions.any() and clips.name != REAL_SPEECH
    ]
    notes += [
        f"{clips.name}: {parts.n_unread} of {len(clips.sources)} clips cannot be read, and have no window"
        for clips, parts in cut
        if parts.n_unread
    ]
    measured = runner.run([Request(parts.clips, tuple(metrics)) for _, parts in long_enough], progress)
    tracks = [
        track
        for (clips, parts), measurement in zip(long_enough, measured, strict=True)
        for metric in metrics
        for track in _tracks(clips, parts, measurement, metric, real, window_s, seed)
    ]
    return tracks, notes


def _tracks(
    clips: ClipSet,
    parts: WindowedSet,
    measurement: Measurement,
    metric: Metric,
    real: Measurement | None,
    window_s: float,
    seed: int,
) -> list[Track]:
    sample = _sample(clips, parts, measurement, metric)
    tracks: list[Track] = []
    for name, statistic in metric.statistics.items():
        compares = statistic.needs_reference or statistic.wants_reference
        if statistic.needs_reference and (real is None or clips.name == REAL_SPEECH):
            continue  # the reference's windows are parts of what they would be compared with
        known = compares and real is not None and metric in real.request.metrics
        reference = sample_of(real, metric) if known and real is not None else None
        if statistic.needs_reference and reference is None:
            continue
        identity = measurement.identity(metric).ident
        context = context_of(metric, name, statistic, identity=identity, system=clips.name, seed=seed)
        tracks += tracks_of(statistic, sample, parts.owners, parts.positions, window_s, reference, context)
    return tracks


def _sample(clips: ClipSet, parts: WindowedSet, measurement: Measurement, metric: Metric) -> Sample:
    """Return the rows of windows, those of one speaker in one cluster, and those of one clip always."""
    sources = [clips.sources[owner] for owner in parts.owners]
    clusters = [source.speaker or ("clip", source.key) for source in sources]
    labels = [ClipLabel(source.key, str(source.address)) for source in parts.clips.sources]
    return gather(measurement.outcomes(metric), clusters, labels)
