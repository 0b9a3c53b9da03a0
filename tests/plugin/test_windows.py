"""Windows of a long clip lose no phone and count none twice."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cdslm_eval.plugin.models import VOICE_FRAME, join_windows, pause_cuts, window_starts

HOP = 320
BLANK = 9


def joined(clip, best, blank, window, overlap):
    starts = window_starts(len(clip), window, overlap)
    parts = [best(clip[start : start + window]) for start in starts]
    return join_windows(parts, starts, len(clip), window, blank)


def spikes(shift):
    """Return a network that writes each non-zero sample as one frame, `shift` frames late in windows but the first."""

    def best(window):
        frames = np.full(len(window) // HOP, BLANK)
        for position in np.flatnonzero(window):
            late = position // HOP + (shift if best.calls else 0)
            if 0 <= late < len(frames):
                frames[late] = int(window[position])
        best.calls += 1
        return frames

    best.calls = 0
    return best


@pytest.mark.parametrize("samples", [1, 99, 100, 101, 150, 1000, 1234])
def test_windows_cover_the_clip_and_overlap(samples):
    starts = window_starts(samples, 100, 10)
    assert starts[0] == 0
    assert max(starts) == max(0, samples - 100)
    assert all(0 < right - left <= 90 for left, right in itertools.pairwise(starts))


@pytest.mark.parametrize("shift", [-1, 0, 1])
@pytest.mark.parametrize("seed", range(5))
def test_a_phone_next_to_a_seam_is_neither_lost_nor_doubled(seed, shift):
    rng = np.random.default_rng(seed)
    places = np.cumsum(rng.integers(5, 9, 300))
    clip = np.zeros(int(places[-1] + 10) * HOP, np.float32)
    phones = rng.integers(1, 9, len(places))
    clip[places * HOP + HOP // 2] = phones
    path = joined(clip, spikes(shift), BLANK, window=200 * HOP, overlap=30 * HOP)
    assert path[path != BLANK].tolist() == phones.tolist()


def test_without_a_pause_the_seam_is_the_middle_of_the_overlap():
    clip = np.ones(300 * HOP, np.float32)
    path = joined(clip, lambda window: np.ones(len(window) // HOP, int), BLANK, window=200 * HOP, overlap=30 * HOP)
    assert len(path) == 300


@pytest.mark.parametrize("seed", range(5))
def test_pieces_between_pauses_cover_a_clip_and_none_is_too_long(seed):
    rng = np.random.default_rng(seed)
    frames, longest = 2000, 300 * VOICE_FRAME
    samples = frames * VOICE_FRAME - int(rng.integers(VOICE_FRAME))
    speech = np.repeat(rng.random(400) > 0.2, 5) * 0.9
    bounds = np.array(pause_cuts(speech, samples, longest))
    assert (bounds[0], bounds[-1]) == (0, samples)
    lengths = np.diff(bounds)
    assert lengths.max() <= longest
    assert lengths[:-1].min() >= longest // 2 - VOICE_FRAME
    # with this much silence every cut is in a pause
    assert not speech[bounds[1:-1] // VOICE_FRAME].any()


def test_where_nobody_pauses_the_cut_is_where_speech_is_least_probable():
    speech = np.full(40, 0.9)
    speech[23] = 0.6
    assert pause_cuts(speech, 40 * VOICE_FRAME, 30 * VOICE_FRAME) == [0, 23 * VOICE_FRAME, 40 * VOICE_FRAME]
    assert pause_cuts(speech[:30], 30 * VOICE_FRAME, 30 * VOICE_FRAME) == [0, 30 * VOICE_FRAME]
