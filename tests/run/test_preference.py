"""Pairs share their context, length and level; accuracy counts ties half and is clustered by family."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cdslm_eval import UsageError
from cdslm_eval.plugin.scorer import Score, Scorer
from cdslm_eval.run.preference import KINDS, Pair, made_pairs, preference
from cdslm_eval.testing.clips import spoken


class Table(Scorer):
    """Scores a clip by the number in its key."""

    kind = "nats"

    def scores(self, clips, *, context_s=0.0, seed=0):
        for clip in clips:
            total = float(clip.key)
            yield Score(total=total, per_second=total / clip.seconds, frames=1, std_error=0.0, kind=self.kind)


def pairs(differences, per_family=1):
    clip = spoken()[0]
    for number, difference in enumerate(differences):
        better, worse = (dataclasses.replace(clip, key=str(value)) for value in (difference, 0.0))
        yield Pair(better, worse, f"family {number // per_family}", "made")


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
        assert levels[1] == pytest.approx(levels[0], rel=0.05)
    again = list(made_pairs(clips, kind, 0.3, seed=1))
    assert [pair.worse.digest for pair in again] == [pair.worse.digest for pair in made]


def test_accuracy_ties_and_families():
    rng = np.random.default_rng(0)
    found = preference(Table(), pairs([1.0, 2.0, -1.0, 0.0]))
    assert (found.value, found.n_scored) == (2.5 / 4, 4)
    assert 0 <= found.low < found.value < found.high <= 1
    # pairs of a family that agree are worth one
    alike = np.repeat(rng.choice([1.0, -1.0], 20), 10)
    apart, together = (preference(Table(), pairs(alike, per_family)) for per_family in (1, 10))
    assert apart.value == together.value
    assert together.high - together.low > 2 * (apart.high - apart.low)
    assert preference(Table(), pairs([float("nan"), 1.0])).n_failed == 1


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(UsageError, match="no pair to compare"):
        preference(Table(), [])
    with pytest.raises(UsageError, match="pairs of the kind 'backwards': one of wrong-continuation"):
        list(made_pairs(spoken(), "backwards", 0.3))
    assert list(made_pairs([dataclasses.replace(c, speaker=None) for c in spoken()], "speaker-switched", 0.3)) == []
