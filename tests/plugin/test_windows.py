"""Windows of a long clip lose no phone and count none twice."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cdslm_eval.plugin.models import join_windows, window_starts

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
