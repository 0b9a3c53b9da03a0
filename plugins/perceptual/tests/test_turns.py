"""Turns by hand, and conversations made of speech with known gaps, overlaps and backchannels on two channels."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec

import numpy as np
import pytest
import soundfile as sf
from cdslm_eval_perceptual.turns import TurnOptions, TurnTaking, conversation

import cdslm_eval
from cdslm_eval.conversations import split_channels
from cdslm_eval.testing import check_metric
from cdslm_eval.testing.clips import spoken

RATE_HZ = 16_000


def test_gaps_overlaps_pauses_and_backchannels_by_hand():
    first = [(0.0, 2.0), (2.5, 5.0), (9.0, 12.0), (12.5, 12.9)]
    second = [(1.0, 1.4), (2.1, 2.3), (5.5, 8.0), (11.0, 14.0)]
    talk = conversation(first, second, 1.0)
    # "1.0..1.4" and "2.1..2.3" fall into a turn of the first speaker, "12.5..12.9" into one of the second
    assert talk.backchannels == 3
    assert (talk.turns, talk.changes, talk.pauses) == (4, 3, 1)
    assert talk.turn_s == pytest.approx(5.0 + 2.5 + 3.0 + 3.0)
    assert (talk.gaps, talk.gap_s) == (2, pytest.approx(0.5 + 1.0))
    assert talk.offset_s == pytest.approx(0.5 + 1.0 - 1.0)
    assert (talk.overlaps, talk.overlap_s) == (3, pytest.approx(0.4 + 1.0 + 0.4))
    assert talk.balance == pytest.approx((0.4 + 0.2 + 2.5 + 3.0) / (7.9 + 6.1))
    # a short answer that the other does not go on after is a turn
    assert conversation([(0.0, 2.0)], [(2.5, 3.0)], 1.0).turns == 2
    swapped = conversation(second, first, 1.0)
    assert dataclasses.replace(swapped, overlap_s=0.0) == dataclasses.replace(talk, overlap_s=0.0)
    silent = conversation([], [], 1.0)
    assert (silent.turns, silent.balance) == (0, None)


needs_silero = pytest.mark.skipif(
    find_spec("silero_vad") is None or find_spec("onnxruntime") is None, reason="silero-vad is not installed"
)


@pytest.fixture
def talks(tmp_path):
    """Return recordings of a dialogue: A, .8 s of gap, B, .6 s of overlap, A with a word of B in its midst."""
    c, a, word, b, _ = (clip.reference.samples for clip in spoken())
    starts, at = [], RATE_HZ // 2
    for speech, offset_s in ((a, 0.8), (b, -0.6), (a, 1.0), (c, 0.0)):
        starts.append(at)
        at += len(speech) + round(offset_s * RATE_HZ)
    channels = np.zeros((at + RATE_HZ // 2, 2), np.float32)
    for speech, start, side in zip((a, b, a, c), starts, (0, 1, 0, 1), strict=True):
        channels[start : start + len(speech), side] += speech
    within = starts[2] + round(1.6 * RATE_HZ)
    channels[within : within + len(word), 1] += word
    folder = tmp_path / "talks"
    folder.mkdir()
    sf.write(folder / "dialogue.wav", channels, RATE_HZ)
    sf.write(folder / "alone.wav", channels[:, 0], RATE_HZ)
    return folder


@needs_silero
def test_known_turns_are_found_on_the_channels_of_a_recording(talks, tmp_path):
    manifest, left_out = split_channels(talks, tmp_path / "out")
    assert left_out == {"alone": "1 channel; a conversation has 2"}
    result = cdslm_eval.score(
        manifest, metrics="turn_taking:min_pause_s=0.5", recognizer="sidecar", jobs=1, store=tmp_path / "s.cdslm",
        note=lambda _: None,
    )  # fmt: skip
    minutes = sf.info(talks / "dialogue.wav").duration / 60

    def value(name):
        return result.estimate(name).value

    assert value("turns_per_minute") * minutes == pytest.approx(4)
    assert value("gaps_per_minute") * minutes == pytest.approx(2)
    # boundaries are those of 32 ms frames, and speech begins and ends softly
    assert value("gap_length") == pytest.approx((0.8 + 1.0) / 2, abs=0.25)
    assert value("floor_offset") == pytest.approx((0.8 - 0.6 + 1.0) / 3, abs=0.25)
    assert value("backchannels_per_minute") * minutes == pytest.approx(1)
    assert value("overlaps_per_minute") * minutes == pytest.approx(2)


@needs_silero
def test_channels_of_two_lengths_fail(tmp_path):
    long, short = spoken()[1], spoken()[0]
    clip = dataclasses.replace(long, reference=dataclasses.replace(short, reference=None))
    metric = TurnTaking(TurnOptions())
    with metric.open("cpu"):
        (failed,) = metric.measure([clip])
    assert "its channels are" in failed.reason


@needs_silero
@pytest.mark.parametrize("check", check_metric(TurnTaking), ids=str)
def test_the_contract(check):
    check()
