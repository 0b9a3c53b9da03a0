"""Pairs share their context, length, level and joins; accuracy counts ties half and is clustered by family."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
from scipy.signal import lfilter

from cdslm_eval import UsageError
from cdslm_eval.builtin.generators.stationary import StationaryGenerator
from cdslm_eval.core.audio import Clip
from cdslm_eval.run.preference import KINDS, accuracy_of, made_pairs
from cdslm_eval.testing.clips import spoken

RATE_HZ = 8000


@pytest.mark.parametrize("kind", KINDS)
def test_made_pairs_differ_after_their_context_only(kind):
    clips = [dataclasses.replace(clip, speaker=speaker) for clip in spoken() for speaker in ("a", "b")]
    made = list(made_pairs(clips, kind, 0.3, seed=1))
    assert made
    for pair in made:
        border = round(0.3 * pair.better.rate_hz)
        better, worse = pair.better.samples, pair.worse.samples
        np.testing.assert_array_equal(better[:border], worse[:border])
        assert len(better) == len(worse)
        assert np.abs(better[border:] - worse[border:]).max() > 0.01 or kind == "speaker-switched"
        levels = [np.sqrt(np.mean(np.square(side[border:], dtype=float))) for side in (better, worse)]
        assert levels[1] == pytest.approx(levels[0], rel=0.07)
    again = list(made_pairs(clips, kind, 0.3, seed=1))
    assert [pair.worse.digest for pair in again] == [pair.worse.digest for pair in made]


@pytest.mark.parametrize("kind", KINDS[:3])
def test_no_join_clicks(kind):
    """A slow tone has small steps between samples, and a jump within it would be many times as large."""
    times = np.arange(2 * RATE_HZ) / RATE_HZ
    clips = [
        Clip(key=f"c{number}", samples=(0.5 * np.sin(2 * np.pi * hertz * times)).astype(np.float32), rate_hz=RATE_HZ)
        for number, hertz in enumerate((60.3, 67.1, 75.7))
    ]
    largest = max(np.abs(np.diff(clip.samples)).max() for clip in clips)
    for pair in made_pairs(clips, kind, 0.5):
        for side in (pair.better, pair.worse):
            assert np.abs(np.diff(side.samples)).max() < 3 * largest
            assert abs(side.samples[-1]) < 0.01


@pytest.mark.parametrize("kind", ["reversed", "shuffled"])
def test_noise_that_grows_quiet_is_no_likelier_one_way(kind):
    """Speech ends quietly: where pairs lose different parts of a clip, noise with its spectrum distinguishes them."""
    rng = np.random.default_rng(5)
    fall = np.exp(-3 * np.arange(RATE_HZ) / RATE_HZ)
    clips = [
        Clip(key=f"c{number}", samples=(0.1 * fall * noise).astype(np.float32), rate_hz=RATE_HZ)
        for number, noise in enumerate(lfilter([1], [1, -0.9], rng.standard_normal((200, RATE_HZ))))
    ]
    scorer = StationaryGenerator(StationaryGenerator.Options(order=2))
    differences, families = [], []
    for pair in made_pairs(clips, kind, 0.25):
        better, worse = scorer.scores([pair.better, pair.worse], context_s=pair.context_s)
        differences.append(better.total - worse.total)
        families.append(pair.family)
    accuracy = accuracy_of(differences, families)
    assert accuracy.n_scored == 200
    assert accuracy.low < 0.5 < accuracy.high
    assert accuracy.high - accuracy.low < 0.16


def test_accuracy_ties_and_families():
    families = [f"family {number}" for number in range(200)]
    estimate = accuracy_of([1.0, 2.0, -1.0, 0.0], families[:4])
    assert (estimate.value, estimate.n_scored) == (2.5 / 4, 4)
    assert 0 <= estimate.low < estimate.value < estimate.high <= 1
    # pairs of a family that agree are worth one
    alike = np.repeat(np.random.default_rng(0).choice([1.0, -1.0], 20), 10).tolist()
    apart, together = accuracy_of(alike, families), accuracy_of(alike, np.repeat(families[:20], 10).tolist())
    assert apart.value == together.value
    assert together.high - together.low > 2 * (apart.high - apart.low)
    assert accuracy_of(["a score that is not finite", 1.0], families[:2]).n_failed == 1


def test_clips_without_a_pair_are_counted_and_unknown_kinds_refused():
    with pytest.raises(UsageError, match="pairs of the kind 'backwards': one of wrong-continuation"):
        list(made_pairs(spoken(), "backwards", 0.3))
    alone = [dataclasses.replace(clip, speaker=None) for clip in spoken()]
    left_out: Counter[str] = Counter()
    assert list(made_pairs(alone, "speaker-switched", 0.3, left_out=left_out)) == []
    assert left_out == {"speaker-switched, no speaker is named": len(alone)}
    short = dataclasses.replace(alone[0], samples=alone[0].samples[: round(0.14 * alone[0].rate_hz)])
    assert list(made_pairs([short], "shuffled", 0.05, left_out=left_out)) == []
    assert left_out["shuffled, shorter than twice the context, or than joins need"] == 1
