"""Phones of a clip depend on the clip alone, and odd clips end normally."""

from __future__ import annotations

import numpy as np
import pytest

from cdslm_eval.builtin.generators.espeak import RATE_HZ, open_espeak
from cdslm_eval.builtin.recognizers.inventory import ARPABET
from cdslm_eval.builtin.recognizers.pocketsphinx import PocketsphinxOptions, PocketsphinxRecognizer
from cdslm_eval.core.audio import Clip
from cdslm_eval.plugin.contract import Failed


def clip(samples, rate_hz=16_000):
    return Clip(key="x", samples=np.asarray(samples, np.float32), rate_hz=rate_hz).at_rate(16_000)


@pytest.fixture(scope="module")
def clips():
    rng = np.random.default_rng(0)
    with open_espeak() as espeak:
        spoken = [
            clip(espeak.synthesize(text, voice=voice), RATE_HZ)
            for text, voice in [("see the seven sisters", "en-us+f3"), ("a mango in my room", "en-us+m3")]
        ]
    odd = [[], [0.1], np.zeros(16_000), np.full(9_000, 3.0), rng.normal(0, 5, 16_000), np.full(8_000, 3.1e-5)]
    return [*spoken, *(clip(samples) for samples in odd)]


def recognized(clips, lw=2.0):
    recognizer = PocketsphinxRecognizer(PocketsphinxOptions(lw=lw))
    with recognizer.open("cpu"):
        return [tuple(phones) for phones in recognizer.recognize(clips)]


def test_phones_do_not_depend_on_what_was_decoded_before(clips):
    alone = [recognized([one])[0] for one in clips]
    assert recognized(clips) == alone
    assert recognized(clips[::-1])[::-1] == alone
    assert recognized(clips + clips) == alone + alone


def test_phones_are_arpabet_and_sound_like_what_was_said(clips):
    sisters, mango, *odd = recognized(clips)
    assert ARPABET.issuperset(sisters + mango)
    hissing = {"S", "Z", "SH", "ZH"}
    assert sum(phone in hissing for phone in sisters) >= 2 > sum(phone in hissing for phone in mango)
    assert odd[:3] == [(), (), ()]


def test_samples_that_are_not_finite_are_a_failure():
    recognizer = PocketsphinxRecognizer()
    with recognizer.open("cpu"):
        (result,) = recognizer.recognize([clip([0.0, np.nan] * 1000)])
    assert isinstance(result, Failed)


def test_identity_names_the_engine():
    assert set(PocketsphinxRecognizer().fingerprint()) == {"pocketsphinx", "model"}
