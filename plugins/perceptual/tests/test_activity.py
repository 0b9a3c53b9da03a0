"""Voice activity: the ONNX network against the TorchScript one, segments by hand, known silences, the contract."""

from __future__ import annotations

import warnings
from importlib.metadata import distribution
from importlib.util import find_spec

import numpy as np
import pytest
from cdslm_eval_perceptual.activity import Activity, ActivityOptions, segments

from cdslm_eval.core.audio import Clip
from cdslm_eval.plugin.models import VOICE_FRAME, onnx_session, silero_path, speech_probabilities
from cdslm_eval.testing import check_metric
from cdslm_eval.testing.clips import spoken

pytest.importorskip("onnxruntime")
if find_spec("silero_vad") is None:
    pytest.skip("silero-vad is not installed", allow_module_level=True)


def measured(samples, **options):
    metric = Activity(ActivityOptions(**options))
    with metric.open("cpu"):
        (row,) = metric.measure([Clip(key="x", samples=np.asarray(samples, np.float32), rate_hz=16_000)])
    return row


def test_probabilities_are_those_of_the_packages_torchscript_network():
    torch = pytest.importorskip("torch")
    path = distribution("silero-vad").locate_file("silero_vad/data/silero_vad.jit")
    with warnings.catch_warnings():  # torch.jit.load is deprecated, and the only other form in which it is published
        warnings.simplefilter("ignore", DeprecationWarning)
        network = torch.jit.load(str(path)).eval()
    for clip in spoken()[1:3]:
        samples = clip.samples[: len(clip.samples) // VOICE_FRAME * VOICE_FRAME]
        network.reset_states()
        with torch.no_grad():
            expected = [float(network(torch.from_numpy(frame), 16_000)) for frame in samples.reshape(-1, VOICE_FRAME)]
        np.testing.assert_allclose(speech_probabilities(onnx_session(str(silero_path())), samples), expected, atol=1e-3)


def test_segments_by_hand():
    second = 16_000 / VOICE_FRAME
    assert segments(np.zeros(20), ActivityOptions()) == []
    blip = np.zeros(40)
    blip[5:9] = 0.9  # 0.128 s
    assert segments(blip, ActivityOptions()) == []
    assert segments(blip, ActivityOptions(min_speech_s=4 / second)) == [(5, 9)]
    gap = np.full(40, 0.9)
    gap[20:24] = 0.0
    assert segments(gap, ActivityOptions()) == [(0, 40)]
    assert segments(gap, ActivityOptions(min_pause_s=0)) == [(0, 20), (24, 40)]


def test_an_inserted_pause_and_silence_at_the_ends_are_measured():
    speech = spoken()[1].reference.samples
    whole = measured(speech)
    silence = np.zeros(16_000, np.float32)
    row = measured(np.concatenate([silence, speech, silence, silence, speech, silence]))
    assert row["pauses"] == 2 * whole["pauses"] + 1
    assert row["longest_silence_s"] == pytest.approx(2.0, abs=0.5)
    assert row["speech_s"] == pytest.approx(2 * whole["speech_s"], abs=0.3)


def test_noise_and_silence_hold_no_speech():
    noise = 0.05 * np.random.default_rng(0).standard_normal(48_000)
    for samples in (noise, np.zeros(48_000)):
        row = measured(samples)
        assert row["speech_s"] == 0
        assert row["pauses"] == 0
        assert row["pause_median_s"] is None
        assert row["longest_silence_s"] == pytest.approx(3.0)


@pytest.mark.parametrize("check", check_metric(Activity), ids=str)
def test_the_contract(check):
    check()
