"""Turns by hand, and conversations made of speech with known gaps, overlaps and backchannels on two channels."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec

import numpy as np
import pytest
import soundfile as sf
from cdslm_eval_perceptual.turns import TurnOptions, TurnTaking, conversation
from hypothesis import given, settings
from hypothesis import strategies as st

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


def test_speech_within_the_others_takes_no_turn_and_leaves_no_gap():
    talk = conversation([(0, 10), (10.5, 15)], [(3, 5)], 1.0)
    assert (talk.turns, talk.turn_s, talk.changes, talk.gaps) == (1, 15, 0, 0)
    assert (talk.pauses, talk.overlaps, talk.overlap_s, talk.backchannels) == (1, 1, 2, 0)
    alone = conversation([(0, 30)], [(5, 6.5), (15, 16.5)], 1.0)
    assert (alone.turns, alone.turn_s, alone.pauses, alone.offset_s) == (1, 30, 0, 0)
    # both begin and end together: a turn each
    assert conversation([(0, 5)], [(0, 5)], 1.0).turns == 2


@given(st.lists(st.floats(0, 60).map(lambda value: round(value, 2)), max_size=24, unique=True), st.integers(0, 24))
@settings(max_examples=200, deadline=None)
def test_a_gap_is_silent_on_both_channels_and_no_speaker_matters_more(times, cut):
    """Against marks on a grid of 10 ms, which know nothing of turns."""
    cut = min(cut, len(times)) // 2 * 2
    first, second = (list(zip(own[::2], own[1::2], strict=False)) for own in (sorted(times[:cut]), sorted(times[cut:])))
    speaks = np.zeros((2, 6001), bool)
    for side, own in enumerate((first, second)):
        for start, end in own:
            speaks[side, round(100 * start) : round(100 * end)] = True
    talk = conversation(first, second, 0.0)
    assert talk.gap_s <= np.sum(~speaks.any(axis=0)) / 100 + 1e-6
    assert talk.overlap_s == pytest.approx(np.sum(speaks.all(axis=0)) / 100, abs=1e-6)
    assert talk.turns <= len(first) + len(second)
    swapped = conversation(second, first, 0.0)
    if not {start for start, _ in first} & {start for start, _ in second}:
        for name in ("turns", "changes", "gaps", "pauses", "overlaps"):
            assert getattr(swapped, name) == getattr(talk, name)


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
def test_one_recording_on_both_channels_fails():
    clip = spoken()[1]
    copy = dataclasses.replace(clip, reference=dataclasses.replace(clip, samples=0.3 * clip.samples, reference=None))
    metric = TurnTaking(TurnOptions())
    with metric.open("cpu"):
        (failed,) = metric.measure([copy])
    assert failed.reason == "its channels are the same sound (correlation 1.00); a conversation has a speaker on each"


@needs_silero
@pytest.mark.parametrize("check", check_metric(TurnTaking), ids=str)
def test_the_contract(check):
    check()
