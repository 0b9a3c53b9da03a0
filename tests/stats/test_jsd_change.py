"""The change of a divergence over windows against its true value, for phones of known frequencies."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cdslm_eval.core.store import Outcome
from cdslm_eval.stats.jsd.statistic import LEAST_MARGIN, JensenShannon
from cdslm_eval.stats.positions import tracks_of
from cdslm_eval.stats.sample import gather
from cdslm_eval.stats.statistic import Context

WINDOWS, CLIPS, PHONES = 4, 30, 60
REAL, OTHER = (np.random.default_rng(seed).dirichlet(np.full(12, 3.0)) for seed in (1, 2))
CONTEXT = Context(name="pjsd", metric="pjsd", system="s", unit="bits", better="lower")


def divergence(p, q):
    middle = (p + q) / 2
    return sum(np.sum(side * np.log2(side / middle)) for side in (p, q)) / 2


def rows(rng, clips, shares, phones=PHONES):
    """Return clips of windows whose phones come from the other distribution to a share that changes."""
    return [
        Outcome("ok", "", {"phones": [chr(97 + code) for code in rng.choice(12, phones, p=law)]})
        for _ in range(clips)
        for law in ((1 - share) * REAL + share * OTHER for share in shares)
    ]


OWNERS, POSITIONS = np.repeat(np.arange(CLIPS), WINDOWS), np.tile(np.arange(WINDOWS), CLIPS)


def samples(shares, seed, phones=PHONES):
    rng = np.random.default_rng(seed)
    sample = gather(rows(rng, CLIPS, shares, phones), OWNERS.tolist())
    return sample, gather(rows(rng, 60, [0.0]), list(range(60)))


def track(shares, seed, phones=PHONES):
    sample, reference = samples(shares, seed, phones)
    return tracks_of(JensenShannon(orders=(1,)), sample, OWNERS, POSITIONS, 10.0, reference, CONTEXT)[0]


@pytest.mark.parametrize(("shares", "verdict"), [((0.6,) * 4, "holds"), ((0.3, 0.5, 0.8, 1.0), "drifts")])
def test_the_change_is_that_of_the_true_divergences(shares, verdict):
    values = [divergence((1 - share) * REAL + share * OTHER, REAL) for share in shares]
    times = np.arange(WINDOWS) - 1.5
    truth = times @ np.array(values) / (times @ times) * (WINDOWS - 1)
    statistic, changes = JensenShannon(orders=(1,)).change(WINDOWS), []
    for seed in range(12):
        sample, reference = samples(shares, seed)
        sample.numbers = {"window": POSITIONS.astype(float)}
        changes.append(statistic.estimate(sample, reference, CONTEXT).estimates[0])
    found = np.array([own.value for own in changes])
    assert abs(found.mean() - truth) < 4 * found.std(ddof=1) / np.sqrt(len(found))
    assert sum(own.low <= truth <= own.high for own in changes) >= 10
    own = track(shares, 0)
    assert own.change == pytest.approx(changes[0].value)
    assert own.verdict == verdict
    assert own.margin == pytest.approx(max(own.values[0] / 2, LEAST_MARGIN))


def test_a_rise_differs_from_none():
    statistic = JensenShannon(orders=(1,)).change(WINDOWS)
    (rising, reference), (steady, _) = samples((0.3, 0.5, 0.8, 1.0), 1), samples((0.6,) * 4, 2)
    for sample in (rising, steady):
        sample.numbers = {"window": POSITIONS.astype(float)}
    (difference,) = statistic.difference(rising, steady, reference, CONTEXT, paired=False)
    changes = [statistic.estimate(side, reference, CONTEXT).estimates[0].value for side in (rising, steady)]
    assert difference.difference == pytest.approx(changes[0] - changes[1])
    assert difference.low > 0
    (same,) = statistic.difference(rising, rising, reference, CONTEXT, paired=True)
    assert same.difference == 0
    assert same.p_value == pytest.approx(1.0)


@pytest.mark.parametrize("speaking", [1, 2, 4])
def test_a_window_in_which_few_clips_speak_has_no_interval(speaking):
    rng = np.random.default_rng(3)
    outcomes = rows(rng, CLIPS, (0.3, 0.5, 0.8, 1.0))
    for clip in range(speaking, CLIPS):
        outcomes[clip * WINDOWS + 3] = Outcome("ok", "", {"phones": []})
    sample, reference = gather(outcomes, OWNERS.tolist()), gather(rows(rng, 60, [0.0]), list(range(60)))
    own = tracks_of(JensenShannon(orders=(1,)), sample, OWNERS, POSITIONS, 10.0, reference, CONTEXT)[0]
    assert own.verdict == ""
    assert own.reason == f"with phones of {speaking} clips (or speakers) in a window its change has no interval"


def test_too_little_speech_has_no_verdict_but_a_reason():
    few = track((0.0,) * 4, 0, phones=1)
    assert few.verdict == ""
    assert "has no interval" in few.reason
    statistic = JensenShannon(orders=(1,)).change(2)
    sample = gather(rows(np.random.default_rng(0), 5, [0.0]), list(range(5)))
    sample.numbers = {"window": np.zeros(5)}
    estimate = statistic.estimate(sample, dataclasses.replace(sample), CONTEXT).estimates[0]
    assert "window 2 of 2 has no phones" in estimate.reason
