"""The change over windows is that of least squares, its interval covers, and the verdict follows from it."""

from __future__ import annotations

import numpy as np
import pytest

from cdslm_eval import Context, Mean, Quantile, RatioOfSums
from cdslm_eval.core.store import Outcome
from cdslm_eval.stats.positions import tracks_of
from cdslm_eval.stats.sample import gather

CLIPS, WINDOWS = 24, 6


def track(values, statistic=None, per_cluster=1, rows=None):
    """Return the track of values `[clips, windows]`, whose clips are `per_cluster` to a speaker."""
    clips, windows = values.shape
    owners, positions = np.repeat(np.arange(clips), windows), np.tile(np.arange(windows), clips)
    rows = rows or [{"x": float(value)} for value in values.ravel()]
    sample = gather([Outcome("ok", "", row) for row in rows], (owners // per_cluster).tolist())
    context = Context(name="x", system="ours")
    (found,) = tracks_of(statistic or Mean("x"), sample, owners, positions, 10.0, None, context)
    return found


def test_the_change_is_that_of_a_line_through_the_means():
    values = np.random.default_rng(0).normal(size=(CLIPS, WINDOWS)) + 3
    found = track(values)
    times = np.arange(WINDOWS) * 10.0
    slope = np.polyfit(times, values.mean(axis=0), 1)[0]
    assert found.change == pytest.approx(slope * times[-1])
    assert found.slope_per_minute == pytest.approx(slope * 60)
    assert found.values == pytest.approx(values.mean(axis=0))
    assert found.starts_s == tuple(times)
    assert found.margin == pytest.approx(values[:, 0].std(ddof=1) / 2)


@pytest.mark.parametrize("per_cluster", [1, 3])
def test_the_interval_of_the_change_covers_the_truth_in_about_95_of_100_sets(per_cluster):
    rng = np.random.default_rng(per_cluster)
    covered = 0
    sets, truth = 120, 1.0
    for _ in range(sets):
        speakers = CLIPS // per_cluster
        # clips of a speaker share their level and their slope, and windows of a clip wander
        level = np.repeat(rng.normal(size=(speakers, 1)), per_cluster, 0)
        slope = truth + np.repeat(rng.normal(size=(speakers, 1)), per_cluster, 0)
        wander = np.cumsum(0.3 * rng.normal(size=(CLIPS, WINDOWS)), axis=1)
        found = track(level + slope * np.linspace(0, 1, WINDOWS) + wander, per_cluster=per_cluster)
        covered += found.low <= truth <= found.high
    # 4 standard errors of a share of .95 in 120 are .08
    assert 0.87 < covered / sets <= 1.0


def test_verdicts():
    rng = np.random.default_rng(1)
    clip, noise = rng.normal(size=(CLIPS, 1)), 0.1 * rng.normal(size=(CLIPS, WINDOWS))
    line = np.linspace(0, 1, WINDOWS)
    assert track(clip + noise).verdict == "holds"
    assert track(clip + noise + 2 * line).verdict == "drifts"
    assert track(clip + noise + 0.1 * line).verdict == "holds"  # a sure change, and a small one
    wild = clip + noise + 6 * rng.normal(size=(CLIPS, 1)) * line
    assert track(wild).verdict == "unclear"
    few = track((clip + noise)[:2])
    assert few.verdict == ""
    assert "at least 3 clips" in few.reason


def test_ratios_and_quantiles_are_followed_too():
    rng = np.random.default_rng(2)
    spoken = rng.integers(20, 60, (CLIPS, WINDOWS)).astype(float)
    pauses = spoken * (0.1 + 0.05 * np.arange(WINDOWS))
    rows = [{"p": float(p), "s": float(s)} for p, s in zip(pauses.ravel(), spoken.ravel(), strict=True)]
    found = track(spoken, RatioOfSums("p", "s"), rows=rows)
    assert found.change == pytest.approx(0.25)
    values = rng.normal(size=(CLIPS, WINDOWS)) + 5 * np.arange(WINDOWS)
    assert track(values, Quantile("x")).verdict == "drifts"


def test_only_clips_that_reach_the_last_window_count():
    # short clips are quieter: mixing them into the first windows would look like a drift of the long ones
    owners = np.repeat(np.arange(20), [6] * 12 + [2] * 8)
    positions = np.concatenate([np.arange(6)] * 12 + [np.arange(2)] * 8)
    rng = np.random.default_rng(3)
    values = np.where(owners < 12, 5.0, 0.0) + rng.normal(size=20)[owners] + 0.1 * rng.normal(size=len(owners))
    sample = gather([Outcome("ok", "", {"x": float(value)}) for value in values], owners.tolist())
    (found,) = tracks_of(Mean("x"), sample, owners, positions, 1.0, None, Context(name="x", system="ours"))
    assert (found.clips, found.left_out, len(found.values)) == (12, 8, 6)
    assert found.verdict == "holds"
    assert found.n_scored == (12,) * 6
