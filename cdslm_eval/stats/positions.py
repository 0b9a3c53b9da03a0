"""Values by position in the clip: each window's value, and the slope of a straight line over the windows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from cdslm_eval.results.estimate import Estimate
from cdslm_eval.results.over_time import Track, verdict_of
from cdslm_eval.stats.change import POSITION
from cdslm_eval.stats.sample import Sample
from cdslm_eval.stats.statistic import Context, Statistic

__all__ = ["common_windows", "tracks_of"]

Ints = npt.NDArray[np.int64]


def common_windows(counts: Ints) -> int:
    """Return how many windows are looked at: as many as half of the clips with several windows have.

    Args:
        counts: Windows of each clip, `[clips]`.

    Example:
        >>> common_windows(np.array([6, 6, 6, 2, 1])), common_windows(np.array([1, 1]))
        (6, 0)
    """
    several = np.sort(counts[counts > 1])[::-1]
    return int(several[(len(several) - 1) // 2]) if len(several) else 0


def tracks_of(
    statistic: Statistic,
    sample: Sample,
    owners: Ints,
    positions: Ints,
    window_s: float,
    reference: Sample | None,
    context: Context,
) -> list[Track]:
    """Return the values of a statistic by window, one track per name of the statistic.

    Args:
        statistic: The statistic.
        sample: Rows of windows, clustered by speaker, or by the clip that they are of.
        owners, positions: Clip of each window of the set, and its number there, `[windows]`.
        window_s: Length of a window in seconds.
        reference: Rows of whole clips of the reference, where the statistic compares with one.
        context: Names and seed.
    """
    counts = np.bincount(owners) if len(owners) else np.zeros(0, np.int64)
    windows = common_windows(counts)
    long_enough = counts >= max(windows, 2)
    clips, left_out = int(long_enough.sum()), int((counts > 0).sum() - long_enough.sum())
    if windows < 2 or not len(sample):
        return []
    window_of = positions[sample.scored]
    used = long_enough[owners[sample.scored]] & (window_of < windows)
    chosen = sample.take(used)
    chosen.numbers = {**chosen.numbers, POSITION: window_of[used].astype(np.float64)}
    own = chosen.numbers[POSITION]
    parts = (dataclasses.replace(chosen.take(own == window), n_failed=0, n_skipped=0) for window in range(windows))
    by_window = [{e.name: e for e in statistic.estimate(part, reference, context).estimates} for part in parts]
    common = Track(
        system=context.system,
        metric=context.metric,
        identity=context.identity,
        name=context.name,
        unit=context.unit,
        window_s=window_s,
        starts_s=tuple(round(window * window_s, 9) for window in range(windows)),
        values=(),
        lows=(),
        highs=(),
        n_scored=(),
        clips=clips,
        left_out=left_out,
        reason="the slope of this kind of value is not estimated",
    )
    tracks = [_with_values(common, name, by_window) for name in statistic.names(context.name)]
    change = statistic.change(windows)
    if change is None:
        return tracks
    # a change is no share, whatever the value is
    changes = change.estimate(chosen, reference, dataclasses.replace(context, unit="")).estimates
    clusters = chosen.clusters.take(own == 0).count
    return [
        _with_change(track, changed, statistic.change_margin(first, clusters) if clusters else math.nan)
        for track, changed, first in zip(tracks, changes, by_window[0].values(), strict=True)
    ]


def _with_values(track: Track, name: str, by_window: Sequence[Mapping[str, Estimate]]) -> Track:
    """Return a track with the headlines of one name in each window."""
    headlines = [estimates[name].headline() for estimates in by_window]
    return dataclasses.replace(
        track,
        name=name,
        values=tuple(headline.value for headline in headlines),
        lows=tuple(headline.low for headline in headlines),
        highs=tuple(headline.high for headline in headlines),
        n_scored=tuple(estimates[name].n_scored for estimates in by_window),
    )


def _with_change(track: Track, change: Estimate, margin: float) -> Track:
    """Return a track with the change of its value, its interval, and the verdict."""
    verdict = verdict_of(change.low, change.high, margin)
    reason = "" if verdict else change.reason or "the spread between clips in the first window is not known"
    return dataclasses.replace(
        track, change=change.value, low=change.low, high=change.high, margin=margin, verdict=verdict, reason=reason
    )
