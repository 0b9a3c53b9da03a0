"""Known degradations are measured as what they are, and matching them brings other clips into the same channel."""

from __future__ import annotations

import numpy as np
import pytest

from cdslm_eval.core.audio import resample
from cdslm_eval.core.channel import BANDS, Channel, pooled, profile
from cdslm_eval.core.channel_match import match_channel
from cdslm_eval.core.degradation import active_level, add_noise, band_limit, change_speed, clip_rng, reverberate

RATE_HZ = 16_000
SILENT = np.full(BANDS, -100.0)


def syllables(seed, seconds=6.0):
    """Return a voice-like clip: harmonics and hiss under an envelope of syllables, with pauses between."""
    rng = np.random.default_rng(seed)
    times = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    pitch = rng.uniform(100, 220)
    voice = sum(np.sin(2 * np.pi * k * pitch * times + k) / k for k in range(1, 20))
    hiss = rng.standard_normal(len(times)) * 0.2
    gate = (np.sin(2 * np.pi * 2.5 * times + seed) > 0.2).astype(float)
    ramp = np.convolve(gate, np.hanning(320) / np.hanning(320).sum(), "same")
    return (0.1 * ramp * (voice + hiss) + 1e-4 * rng.standard_normal(len(times))).astype(np.float32)


CLIPS = [syllables(seed) for seed in range(12)]
OWN, OTHERS = CLIPS[:6], CLIPS[6:]
DEGRADATIONS = {
    "clean": lambda clip: clip,
    "20 dB": lambda clip: add_noise(clip, RATE_HZ, 20, clip_rng(clip, 1)),
    "5 dB": lambda clip: add_noise(clip, RATE_HZ, 5, clip_rng(clip, 1)),
    "3.4 kHz": lambda clip: band_limit(clip, RATE_HZ, 3400),
    "reverberation": lambda clip: reverberate(clip, RATE_HZ, 0.6, 3.0, clip_rng(clip, 1)),
}


def channel_of(clips):
    return pooled([profile(clip) for clip in clips])


def test_white_noise_has_the_snr_that_was_set():
    measured = {
        snr_db: channel_of([add_noise(clip, RATE_HZ, snr_db, clip_rng(clip)) for clip in OWN]).snr_db
        for snr_db in (0, 10, 20, 30)
    }
    assert [measured[20], measured[30]] == pytest.approx([20, 30], abs=1.5)
    # pauses that noise fills count as speech, which is then taken for weaker than it is
    assert [measured[0], measured[10]] == pytest.approx([0, 10], abs=4)


@pytest.mark.parametrize("bandwidth_hz", [2500, 3400, 4000, 6000])
def test_the_bandwidth_is_where_a_resampler_cut(bandwidth_hz):
    narrow = [band_limit(clip, RATE_HZ, bandwidth_hz) for clip in OWN]
    assert channel_of(narrow).bandwidth_hz == pytest.approx(bandwidth_hz, rel=0.06)


def test_reverberation_slows_the_decay_and_a_gain_changes_nothing_but_the_level():
    clean = channel_of(OWN)
    decays = [
        channel_of([reverberate(clip, RATE_HZ, 0.6, wet, clip_rng(clip)) for clip in OWN]).decay_db_s
        for wet in (0.1, 1.0, 10.0)
    ]
    assert clean.decay_db_s > decays[0] > decays[1] > decays[2]
    quiet = channel_of([clip * 0.1 for clip in OWN])
    assert quiet.level_dbfs == pytest.approx(clean.level_dbfs - 20, abs=0.01)
    np.testing.assert_allclose(quiet.spectrum_db, clean.spectrum_db, atol=0.01)
    assert quiet.snr_db == pytest.approx(clean.snr_db, abs=0.01)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_a_matched_channel_measures_like_the_one_it_was_matched_to(name):
    target = channel_of([DEGRADATIONS[name](clip) for clip in OWN])
    matching = match_channel(target, OTHERS)
    matched = channel_of([matching.apply(clip) for clip in OTHERS])
    assert matched.snr_db == pytest.approx(target.snr_db, abs=3)
    assert matched.bandwidth_hz == pytest.approx(target.bandwidth_hz, abs=200)
    assert matched.decay_db_s == pytest.approx(target.decay_db_s, rel=0.3)
    loud = target.spectrum_db > target.spectrum_db.max() - 40
    assert np.abs(matched.spectrum_db - target.spectrum_db)[loud].mean() < 2
    assert (matching.bandwidth_hz is not None) == (name == "3.4 kHz")
    # where noise fills every pause no decay is seen, and some reverberation may be matched for nothing
    assert name == "5 dB" or (matching.wet >= 0.1) == (name == "reverberation")


def test_what_other_sentences_alone_differ_by_is_no_channel():
    assert match_channel(channel_of(OWN), OTHERS).is_neutral
    louder = channel_of([clip * 3 for clip in OWN])
    assert match_channel(louder, OTHERS).is_neutral


def test_the_same_clip_always_gets_the_same_noise_whatever_came_before():
    channel = Channel(3400.0, 0.3, np.zeros(BANDS), np.full(BANDS, -30.0))
    first = channel.apply(OWN[0])
    channel.apply(OWN[1])
    assert channel.apply(OWN[0]).tobytes() == first.tobytes()
    assert np.abs(first).max() <= 0.99


def test_a_gain_per_band_colours_and_the_neutral_channel_does_nothing():
    neutral = Channel(None, 0.0, np.zeros(BANDS), SILENT)
    np.testing.assert_array_equal(neutral.apply(OWN[0]), OWN[0])
    tilt = Channel(None, 0.0, np.linspace(0, -12, BANDS), SILENT)
    change = profile(tilt.apply(OWN[0])).spectrum_db - profile(OWN[0]).spectrum_db
    assert change[5] - change[-5] == pytest.approx(12 * (BANDS - 10) / (BANDS - 1), abs=1.5)


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros(100), np.full(1000, 0.5), np.zeros(RATE_HZ)])
def test_too_short_and_silent_clips_have_no_profile_and_pass_unchanged(samples):
    samples = samples.astype(np.float32)
    assert profile(samples) is None
    channel = Channel(3400.0, 1.0, np.zeros(BANDS), np.full(BANDS, -30.0))
    assert len(channel.apply(samples)) == len(samples)


def test_speed_and_level_of_degraded_clips():
    clip = OWN[0]
    assert len(change_speed(clip, 1.25)) == pytest.approx(len(clip) / 1.25, abs=2)
    assert active_level(np.zeros(500, np.float32), RATE_HZ) == 0.0
    assert active_level(clip * 2, RATE_HZ) == pytest.approx(2 * active_level(clip, RATE_HZ))
    np.testing.assert_array_equal(band_limit(clip, RATE_HZ, 8000), clip)
    assert len(band_limit(resample(clip, RATE_HZ, 11_025), 11_025, 3333.0)) == len(resample(clip, RATE_HZ, 11_025))
