"""PESQ, STOI, ESTOI, SI-SDR: published values, a second implementation, and every sentinel told as what it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf
from cdslm_eval_perceptual.intrusive import Estoi, Pesq, PesqOptions, Stoi
from cdslm_eval_perceptual.paired import PairedOptions, SiSdr, SiSdrOptions, si_sdr
from hypothesis import given
from hypothesis import strategies as st

from cdslm_eval.core.audio import Clip, read_audio
from cdslm_eval.plugin.contract import Failed, Skipped
from cdslm_eval.testing import METRIC_CHECKS

METRICS = (Pesq, Stoi, Estoi, SiSdr)


@pytest.fixture(scope="module")
def pair(shared_data):
    real, tested = (read_audio(shared_data / "pairs/pesq" / name) for name in ("speech.wav", "speech_bab_0dB.wav"))
    return real.samples, tested.samples


def measured(metric, tested, real, rate_hz=16_000):
    def clip(samples, reference=None):
        return Clip(key="x", samples=np.asarray(samples, np.float32), rate_hz=rate_hz, reference=reference)

    with metric.open("cpu"):
        (row,) = metric.measure([clip(tested, clip(real))])
    return row


@pytest.mark.parametrize(("mode", "published"), [("wb", 1.0832337141036987), ("nb", 1.6072081327438354)])
def test_pesq_of_the_published_pair(pair, mode, published):
    row = measured(Pesq(PesqOptions(mode=mode)), pair[1], pair[0])
    assert row["pesq"] == pytest.approx(published, abs=1e-6)


@pytest.mark.parametrize("metric", [Stoi, Estoi])
def test_stoi_and_estoi_are_those_of_pystoi_and_leave_its_generator_alone(pair, metric):
    from pystoi import stoi

    before = np.random.get_state()[1].tolist()  # noqa: NPY002 - the generator that pystoi draws from
    value = measured(metric(), pair[1], pair[0])[metric.name]
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
    assert value == pytest.approx(stoi(*pair, 16_000, extended=metric.extended), abs=1e-6)


def test_estoi_of_a_clip_with_digital_silence_in_it_is_the_same_twice(pair):
    gappy = pair[1].copy()
    gappy[8000:40000] = 0
    assert measured(Estoi(), gappy, pair[0]) == measured(Estoi(), gappy, pair[0])


@pytest.mark.parametrize("zero_mean", [True, False])
def test_si_sdr_is_that_of_torchmetrics(pair, zero_mean):
    import torch

    functional = pytest.importorskip("torchmetrics.functional.audio")
    real, tested = pair[0] + np.float32(0.01), pair[1] * np.float32(0.3)
    row = measured(SiSdr(SiSdrOptions(zero_mean=zero_mean)), tested, real)
    theirs = functional.scale_invariant_signal_distortion_ratio(
        torch.from_numpy(tested).double(), torch.from_numpy(real).double(), zero_mean=zero_mean
    )
    assert row["si_sdr"] == pytest.approx(float(theirs), abs=1e-4)


@given(
    noise_db=st.floats(-60, 60), gain=st.floats(0.01, 100), offset=st.floats(-0.5, 0.5), seed=st.integers(0, 2**32 - 1)
)
def test_si_sdr_is_the_known_ratio_whatever_gain_and_offset(noise_db, gain, offset, seed):
    rng = np.random.default_rng(seed)
    real = rng.standard_normal(2000)
    real -= real.mean()
    noise = rng.standard_normal(2000)
    noise -= noise.mean() + real * (noise @ real) / (real @ real)
    noise *= np.sqrt((real @ real) / (noise @ noise)) * 10 ** (-noise_db / 20)
    assert si_sdr(real, gain * (real + noise) + offset) == pytest.approx(noise_db, abs=1e-6)


def _bursts(seconds):
    """Return noise in 50 bursts and more: what overruns the C code of PESQ when it is given all at once."""
    rng = np.random.default_rng(0)
    loud = (np.arange(int(seconds * 16_000)) // 6400) % 2 == 0
    return (0.2 * rng.standard_normal(len(loud)) * loud + 1e-5 * rng.standard_normal(len(loud))).astype(np.float32)


def test_pesq_of_a_clip_with_more_utterances_than_its_code_has_room_for_is_the_mean_of_parts():
    real = _bursts(90)
    tested = real + 0.02 * np.random.default_rng(1).standard_normal(len(real)).astype(np.float32)
    parts = [
        measured(Pesq(), b, a)["pesq"] for a, b in zip(np.array_split(real, 5), np.array_split(tested, 5), strict=True)
    ]
    assert measured(Pesq(), tested, real)["pesq"] == pytest.approx(np.mean(parts), abs=1e-6)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_lengths_are_aligned_by_the_stated_policy(pair, metric):
    real, tested = pair
    inside = measured(metric(), tested[:-1600], real)
    assert inside == measured(metric(), tested[:-1600], real[:-1600])
    beyond = measured(metric(), tested, real[:-1760])
    assert isinstance(beyond, Failed)
    assert "0.11 s longer than its reference" in beyond.reason
    assert "trim_s" in beyond.reason
    assert not isinstance(measured(metric(metric.Options(trim_s=0.2)), tested, real[:-1760]), Failed)
    assert PairedOptions().trim_s == 0.1


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
@pytest.mark.filterwarnings("error")
def test_what_has_no_score_is_skipped_with_its_reason_and_never_a_sentinel(pair, metric):
    real, tested = pair
    silent, nan = np.zeros_like(real), np.where(np.arange(len(real)) == 9, np.nan, real)
    for bad, reason in ((silent, "silent"), (nan, "not finite"), (real[:0], "no samples"), (real[:1600], "under")):
        assert isinstance(row := measured(metric(), bad, real[: len(bad)]), Skipped), row
        assert reason in row.reason
        assert isinstance(row := measured(metric(), tested[: len(bad)], bad), Skipped), row
        assert reason in row.reason
    faint = measured(metric(), tested, np.where(np.arange(len(real)) < 800, 0.9, 0).astype(np.float32))
    assert isinstance(faint, Skipped | dict)
    alone = Clip(key="x", samples=real, rate_hz=16_000)
    assert next(metric().measure([alone])) == Skipped("no reference audio")


def test_reasons_of_the_packages_own_sentinels(pair):
    real = pair[0]
    click = np.zeros(16_000, np.float32)
    click[8000:8100] = 0.9
    assert "0.4 s of the reference is speech" in measured(Stoi(), real[:16_000], click).reason
    assert "no utterance" in measured(Pesq(), real[:4100], real[:4100]).reason
    assert "infinite" in measured(SiSdr(), 0.5 * real, real).reason
    sine, cosine = (f(2 * np.pi * 100 * np.arange(16_000) / 16_000) for f in (np.sin, np.cos))
    assert "minus infinity" in measured(SiSdr(), sine, cosine).reason


def test_wide_band_at_8_khz_is_refused_and_narrow_band_arrives_at_it():
    with pytest.raises(ValueError, match="wide-band PESQ is at 16000 Hz"):
        PesqOptions(mode="wb", rate=8000)
    assert Pesq(PesqOptions(mode="nb", rate=8000)).rate_hz == 8000
    assert Pesq().rate_hz == Pesq.rate_hz == 16_000


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
@pytest.mark.parametrize("check", METRIC_CHECKS, ids=str)
def test_the_contract(metric, check):
    check(metric)


def test_a_reference_that_cannot_be_read_fails_paired_metrics_alone(tmp_path, pair):
    sf.write(tmp_path / "tested.wav", pair[1], 16_000)
    sf.write(tmp_path / "real.wav", pair[0], 16_000)
    manifest = tmp_path / "pairs.jsonl"
    lines = [
        {"key": "good", "path": "tested.wav", "reference": "real.wav"},
        {"key": "broken", "path": "tested.wav", "reference": "absent.wav"},
        {"key": "alone", "path": "tested.wav"},
    ]
    manifest.write_text("\n".join(map(json.dumps, lines)))
    environment = {**os.environ, "CDSLM_EVAL_STORE": str(tmp_path / "store.cdslm")}
    done = subprocess.run(
        [sys.executable, "-m", "cdslm_eval", "score", manifest, "-m", "pesq,si_sdr,signal", "--json", "-"],
        env=environment, capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    result = json.loads(done.stdout)
    counts = {one["name"]: (one["n_scored"], one["n_failed"], one["n_skipped"]) for one in result["estimates"]}
    assert counts["pesq"] == counts["si_sdr"] == (1, 1, 1)
    assert counts["duration"] == (3, 0, 0)
    reasons = {one["clip"]: one["reason"] for one in result["failures"]}
    assert "absent.wav: cannot be read" in reasons["broken"]
    assert reasons["alone"] == "no reference audio"
