"""The contrast inside a set, and what recognition errors leave of it, against known truths."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cdslm_eval import Context, JensenShannon
from cdslm_eval.results.recognition_gain import RecognitionGain, gain_lines
from cdslm_eval.stats.clusters import Clusters
from cdslm_eval.stats.jsd.contrast import most_different, recognition_gains
from cdslm_eval.stats.jsd.ngrams import PhoneSequences
from cdslm_eval.stats.sample import ClipLabel, Sample

PHONES = np.array([f"p{code:02d}" for code in range(20)])
A = np.array([2.0] * 10 + [1.0] * 10) / 30
B = A[::-1]


def sample(clips, keys=None):
    keys = [str(number) for number in range(len(clips))] if keys is None else keys
    return Sample(
        sequences={"phones": PhoneSequences.from_lists(clips)} if clips else {},
        scored=np.arange(len(clips)),
        clusters=Clusters.alone(len(clips)),
        labels=[ClipLabel(key) for key in keys],
    )


def texts(seed=0, count=120, length=60):
    """Return clips of two sources in turn."""
    rng = np.random.default_rng(seed)
    return [PHONES[rng.choice(20, length, p=(A, B)[number % 2])].tolist() for number in range(count)]


def misrecognized(clips, rate, seed=1):
    """Return clips in which a share of the phones is any of the twenty."""
    rng = np.random.default_rng(seed)
    return [
        [str(rng.choice(PHONES)) if error else phone for phone, error in zip(clip, rng.random(len(clip)) < rate)]  # noqa: B905
        for clip in clips
    ]


def divergence(p, q):
    """Return the Jensen-Shannon divergence of two distributions in bits, by its definition."""
    mean = (p + q) / 2
    return float(np.sum(p * np.log2(p / mean) + q * np.log2(q / mean)) / 2)


def test_the_two_sources_of_a_set_are_its_contrast():
    upper = most_different(PhoneSequences.from_lists(texts()))
    odd = np.arange(120) % 2 == 1
    assert max(np.mean(upper == odd), np.mean(upper == ~odd)) > 0.95
    empty = most_different(PhoneSequences.from_lists([[]] * 30))
    assert not empty.any()


def test_a_rare_kind_of_clip_is_no_side_of_its_own():
    clips = texts(count=100)
    clips[7] = ["p00"] * 60
    upper = most_different(PhoneSequences.from_lists(clips))
    assert 0.1 <= upper.mean() <= 0.9


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.6])
def test_the_gain_is_what_an_error_channel_leaves(rate):
    clips = texts()
    gain = recognition_gains(sample(clips), sample(misrecognized(clips, rate)), "phones", (1,))[1]
    blurred = [(1 - rate) * source + rate / 20 for source in (A, B)]
    expected = divergence(*blurred) / divergence(A, B)
    assert gain.text == pytest.approx(divergence(A, B), rel=0.15)
    assert gain.share == pytest.approx(expected, abs=0.07)
    assert gain.text_low < gain.text < gain.text_high


def test_phones_of_other_clips_recover_nothing():
    clips = texts()
    gain = recognition_gains(sample(clips), sample(texts(seed=5)[:60] + texts(seed=6)[1:61]), "phones", (1,))[1]
    assert abs(gain.share) < 0.1


def test_clips_are_paired_by_key_and_those_without_a_partner_are_left_out():
    clips = texts()
    keys = [str(number) for number in range(len(clips))]
    shuffled = np.random.default_rng(3).permutation(len(clips))[:100]
    recognized = sample([clips[row] for row in shuffled], [keys[row] for row in shuffled])
    gain = recognition_gains(sample(clips), recognized, "phones", (1,))[1]
    assert sum(gain.clips) == 100
    assert gain.share == pytest.approx(1.0)


def test_too_few_texts_have_a_reason():
    few = sample(texts(count=8))
    for text, recognized in ((few, few), (sample([]), few), (few, sample([]))):
        (gain,) = recognition_gains(text, recognized, "phones", (1,)).values()
        assert math.isnan(gain.share)
        assert "too few" in gain.reason


def test_the_sentence_has_the_lowest_two_orders_that_are_known():
    clips = texts()
    context = Context(name="pjsd", metric="pjsd", unit="bits", better="lower", identity="", seed=0)
    gains = JensenShannon("phones", orders=(1, 2, 3)).recognition_gains(sample(clips), sample(clips), context)
    assert [gain.name for gain in gains] == ["pjsd_1", "pjsd_2", "pjsd_3"]
    gains = [
        RecognitionGain(name=f"pjsd_{n}", reference="real", text=t, text_low=t / 2, recognized=r)
        for n, t, r in ((1, 0.246, 0.031), (2, 0.716, 0.169), (3, 0.889, 0.413))
    ]
    (line,) = gain_lines(gains)
    assert line == (
        "recognition gain: between the clips of real whose texts differ most, of pjsd_1 0.246 in text this recognizer "
        "recovers 0.031; of pjsd_2 0.716 in text this recognizer recovers 0.169"
    )
    (line,) = gain_lines([RecognitionGain(name="pjsd", reference="real", reason="its texts cannot be phonemized")])
    assert line == "recognition gain of real: not known: its texts cannot be phonemized"
