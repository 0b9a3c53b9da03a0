"""The log-mel embedding against spectra that are known, and the contract of every metric here."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from cdslm_eval_embeddings import logmel
from cdslm_eval_embeddings.encoder import Which
from cdslm_eval_embeddings.logmel import BANDS, LogMelEncoder, log_mel
from cdslm_eval_embeddings.sets import Diversity, EmbeddingOptions, Fad, Kad
from cdslm_eval_embeddings.speaker import SpeakerOptions, SpeakerSimilarity
from pydantic import ValidationError

from cdslm_eval.testing import METRIC_CHECKS, check_metric

sys.path.insert(0, str(Path(__file__).parent))
import checkpoints

ENCODER = LogMelEncoder(Which())


def tone(hz, seconds=1.0):
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(int(16_000 * seconds)) / 16_000)).astype(np.float32)


def test_a_tone_is_loudest_in_the_band_it_lies_in():
    mel = 2595 * np.log10(1 + np.array([60.0, 7600.0]) / 700)
    centres = 700 * (10 ** (np.linspace(*mel, BANDS + 2)[1:-1] / 2595) - 1)
    for band in (3, 12, 28):
        assert int(log_mel(tone(centres[band])).mean(axis=0).argmax()) == band


def test_white_noise_is_flat_and_a_steady_clip_does_not_move():
    noise = 0.1 * np.random.default_rng(0).standard_normal(16_000 * 20).astype(np.float32)
    (vector,) = ENCODER.encode([noise])
    # the mean of a log lies a little under the log of the mean, most where a band averages few bins
    assert np.ptp(vector[:BANDS]) < 0.25
    assert abs(vector[:BANDS].mean()) < 0.15
    (still,) = ENCODER.encode([tone(1000, 3)])
    assert still[BANDS:].max() < 0.1


def test_level_does_not_count_but_bandwidth_does():
    noise = 0.1 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    dull = np.convolve(noise, np.ones(8, np.float32) / 8, "same")
    plain, soft, muffled = ENCODER.encode([noise, noise * np.float32(1e-3), dull])
    np.testing.assert_allclose(soft, plain, atol=1e-4)
    assert np.abs(muffled - plain).max() > 0.3


def test_frames_do_not_depend_on_how_they_are_blocked(monkeypatch):
    samples = 0.1 * np.random.default_rng(0).standard_normal(16_000 * 2).astype(np.float32)
    whole = log_mel(samples)
    assert len(whole) == 1 + (len(samples) - 400) // 160
    monkeypatch.setattr(logmel, "_BLOCK_FRAMES", 7)
    np.testing.assert_allclose(log_mel(samples), whole, atol=1e-6)


@pytest.mark.parametrize(
    "options", [{"model": "x"}, {"layer": 3}, {"encoder": "vggish"}, {"encoder": "wavlm", "layer": -1}]
)
def test_options_that_mean_nothing_are_refused(options):
    with pytest.raises(ValidationError):
        EmbeddingOptions(**options)


@pytest.mark.parametrize("metric", [Fad, Kad, Diversity])
@pytest.mark.parametrize("number", range(len(METRIC_CHECKS)), ids=[str(check) for check in METRIC_CHECKS])
def test_the_contract(metric, number):
    check_metric(metric)[number]()


@pytest.fixture(scope="module")
def speaker_folder(tmp_path_factory):
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("speaker")
    sizes = {"tdnn_dim": (16, 16, 16, 16, 24), "xvector_output_dim": 20}
    checkpoints.waveform(folder, "WavLM", group=True, head="ForXVector", **sizes)
    return folder


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
@pytest.mark.parametrize("check", METRIC_CHECKS, ids=str)
def test_the_contract_of_speaker_similarity(check, speaker_folder):
    check(SpeakerSimilarity(SpeakerOptions(model=str(speaker_folder))))
