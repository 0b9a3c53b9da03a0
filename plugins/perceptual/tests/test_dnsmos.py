"""DNSMOS against the code that published scores come from, and what must hold whatever the clip."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from cdslm_eval_perceptual import speechmos_files
from cdslm_eval_perceptual.dnsmos import Dnsmos, DnsmosOptions
from cdslm_eval_perceptual.mel import mel_filterbank
from cdslm_eval_perceptual.p808 import log_mels
from cdslm_eval_perceptual.p835 import P835Network
from cdslm_eval_perceptual.windows import BLOCK, WINDOW, scored_windows
from hypothesis import given, settings
from hypothesis import strategies as st

from cdslm_eval.core.audio import Clip, read_audio
from cdslm_eval.core.errors import EvalError
from cdslm_eval.plugin.contract import Failed, Skipped
from cdslm_eval.plugin.models import onnx_session
from cdslm_eval.testing import check_metric

LENGTHS = {24: 64_000, 25: 47_680, 26: 45_001, 27: 37_123, 28: 20_000, 29: 160_000}
"""Whole seconds, multiples of 20 ms and others are repeated differently; the last is longer than a window."""
NAMES = ("p808", "sig", "bak", "ovrl")


@pytest.fixture(scope="module")
def speech(shared_data):
    """Return 10 clips of generated and 20 of real speech, cut to many lengths."""
    generated = sorted((shared_data / "slm_samples/tgslm").rglob("*.flac"))
    real = sorted((shared_data / "speech/librispeech_mini").rglob("*.ogg"))
    chosen = generated[:: len(generated) // 10][:10] + real[:: len(real) // 20][:20]
    assert len(chosen) == 30
    clips = []
    for number, path in enumerate(chosen):
        audio = read_audio(path)
        clip = Clip(key=path.stem, samples=audio.samples, rate_hz=audio.rate_hz).at_rate(16_000)
        # the reference refuses arrays beyond full scale; most lengths come to one window, which is quick
        length = LENGTHS.get(number, 74_000 + 100 * number if number % 2 else 152_000)
        clips.append(np.clip(clip.samples[:length], -1.0, 1.0))
    return clips


def scored(metric, clips):
    with metric.open("cpu"):
        return list(metric.measure([Clip(key=str(i), samples=clip, rate_hz=16_000) for i, clip in enumerate(clips)]))


@pytest.fixture(scope="module")
def reference():
    for module in ("librosa", "requests"):
        pytest.importorskip(module)
    return pytest.importorskip("speechmos.dnsmos")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("personalised", [False, True], ids=["plain", "personalised"])
def test_thirty_clips_have_the_scores_of_speechmos(speech, reference, personalised):
    clips = [speech[0], speech[26]] if personalised else speech
    rows = scored(Dnsmos(DnsmosOptions(personalised=personalised)), clips)
    for samples, row in zip(clips, rows, strict=True):
        theirs = reference.run(samples, 16_000, "dnsmos_personalized" if personalised else "dnsmos")
        for name in NAMES:
            assert row[name] == pytest.approx(theirs[f"{name}_mos"], abs=1e-3), name


@pytest.mark.filterwarnings("default")
def test_mel_front_end_is_that_of_librosa(speech, reference):
    import librosa

    for samples in speech[24:27]:
        windows = scored_windows(samples)
        for start, mine in zip(windows.starts, log_mels(windows), strict=True):
            theirs = librosa.feature.melspectrogram(
                y=windows.samples[start * BLOCK :][: WINDOW - BLOCK], sr=16_000, n_fft=321, hop_length=160, n_mels=120
            )
            assert np.abs(mine - (librosa.power_to_db(theirs, ref=np.max).T + 40) / 40).max() < 1e-3
    for rate_hz, fft, mels, high in (
        (16_000, 321, 120, 8000.0),
        (48_000, 4096, 48, 20_000.0),
        (22_050, 512, 80, 7600.0),
    ):
        theirs = librosa.filters.mel(sr=rate_hz, n_fft=fft, n_mels=mels, fmax=high)
        assert np.abs(mel_filterbank(rate_hz, fft, mels, high) - theirs).max() < 1e-6


def _as_published(length):
    """Return the starts of the windows that the published loop scores, step by step as it does."""
    total = length
    while total < int(9.01 * 16_000):
        total += total
    starts = []
    for i in range(int(np.floor(total / 16_000) - 9.01) + 1):
        begin, end = int(i * 16_000), int((i + 9.01) * 16_000)
        if min(end, total) - begin >= int(9.01 * 16_000):
            starts.append(begin)
    return starts


@given(length=st.integers(1, 16_000 * 60))
@settings(max_examples=150, deadline=None)
def test_windows_are_those_of_the_published_loop_equal_ones_once(length):
    samples = np.arange(length, dtype=np.float32)
    windows = scored_windows(samples)
    starts = _as_published(length)
    assert sum(windows.counts) == len(starts)
    tiled = np.resize(samples, starts[-1] + WINDOW)
    expected = {}
    for start in starts:
        head = (tiled[start], length < WINDOW)
        expected[head] = expected.get(head, 0) + 1
    predictions = {
        (windows.samples[s * BLOCK], length < WINDOW): n for s, n in zip(windows.starts, windows.counts, strict=True)
    }
    assert predictions == expected


def test_a_clip_of_half_a_minute_is_heard_to_its_end_only_when_asked():
    rng = np.random.default_rng(0)
    loud = (0.1 * rng.standard_normal(16_000 * 30)).astype(np.float32)
    assert sum(scored_windows(loud).counts) == 7
    assert max(scored_windows(loud).starts) * BLOCK + WINDOW < 16 * 16_000
    assert sum(scored_windows(loud, all_windows=True).counts) == 21
    parts = list(scored_windows(loud, all_windows=True).groups(8))
    assert [len(part.starts) for part in parts] == [8, 8, 5]
    assert all(len(part.samples) <= 17 * 16_000 for part in parts)


@given(length=st.integers(3_000, 16_000 * 26), seed=st.integers(0, 99))
@settings(max_examples=3, deadline=None)
def test_the_shared_half_gives_each_window_what_the_whole_network_gives_it(length, seed):
    rng = np.random.default_rng(seed)
    samples = (0.1 * rng.standard_normal(length) * (1 + np.sin(np.arange(length) / 3000))).astype(np.float32)
    windows = scored_windows(samples)
    path = speechmos_files.network_path(speechmos_files.P835)
    whole = onnx_session(str(path))
    predictions = P835Network(path).scores(windows)
    for start, prediction in list(zip(windows.starts, predictions, strict=True))[-1:]:
        cut = windows.samples[start * BLOCK :][:WINDOW]
        assert np.abs(whole.run(None, {"input_1": cut[None]})[0][0] - prediction).max() < 1e-4


def test_a_call_past_the_hosts_gates_is_safe():
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    rows = scored(
        Dnsmos(), [noise[:0], 0 * noise, np.where(noise > 3, np.nan, noise), 0.1 * noise[:1000], 1e30 * noise]
    )
    reasons = [row.reason for row in rows]
    assert [type(row) for row in rows] == [Skipped] * 4 + [Failed]
    assert reasons[:4] == ["no samples", "silent", "samples that are not finite", "under 0.25 s"]


def test_a_network_that_is_missing_or_another_one_is_named_with_the_fix(tmp_path, monkeypatch):
    metadata = tmp_path / "speechmos-0.0.9.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: speechmos\nVersion: 0.0.9\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert Dnsmos().fingerprint()[speechmos_files.P835] == "missing"
    with pytest.raises(EvalError, match=r"model_v8\.onnx: no such file .*0\.0\.9 .*speechmos==0\.0\.1\.1"):
        scored(Dnsmos(), [])
    (tmp_path / "speechmos/dnsmos_models").mkdir(parents=True)
    (tmp_path / "speechmos/dnsmos_models/model_v8.onnx").write_bytes(b"another")
    with pytest.raises(EvalError, match=r"model_v8\.onnx: SHA-256 .*expected 9246480c5856.*speechmos 0\.0\.9"):
        scored(Dnsmos(), [])


@pytest.mark.parametrize("check", check_metric(Dnsmos), ids=str)
def test_the_contract(check):
    check()


def test_scoring_needs_neither_librosa_nor_the_code_of_speechmos():
    code = (
        "import sys, numpy as np\n"
        "sys.modules['librosa'] = sys.modules['requests'] = None\n"
        "from cdslm_eval.core.audio import Clip\n"
        "from cdslm_eval_perceptual.dnsmos import Dnsmos\n"
        "noise = 0.1 * np.random.default_rng(0).standard_normal(80_000).astype(np.float32)\n"
        "metric = Dnsmos()\n"
        "with metric.open('cpu'):\n"
        "    (row,) = metric.measure([Clip(key='x', samples=noise, rate_hz=16_000)])\n"
        "print(row['windows'], 'speechmos' in sys.modules, 1 < row['p808'] < 5)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False", "True"]
