"""Log-mels against librosa, back to samples by Griffin-Lim, and vocoders that installed distributions bring."""

from __future__ import annotations

import importlib
import itertools
import sys

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cdslm_model.data.mel import LogMel, MelSpec, Normalizer
from cdslm_model.errors import ModelError
from cdslm_model.sample.vocoder import GriffinLim, find_vocoder, roundtrip


def voice(seconds=1.0, seed=0, rate=24_000):
    """Return something like a vowel: harmonics of a gliding pitch under two formants, and a breath of noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(120 + 20 * np.sin(2 * np.pi * 1.5 * t)) / rate
    wave = sum(
        np.sin(k * phase) * (np.exp(-(((120 * k - 600) / 300) ** 2)) + 0.3 * np.exp(-(((120 * k - 1800) / 400) ** 2)))
        for k in range(1, 30)
    )
    envelope = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * t)
    return torch.from_numpy((0.1 * envelope * wave + 0.001 * rng.standard_normal(len(t))).astype(np.float32))[None]


def test_log_mels_are_those_of_librosa():
    samples = voice()
    spec = MelSpec()
    mel = librosa.feature.melspectrogram(
        y=samples[0].numpy(),
        sr=24_000,
        n_fft=2048,
        hop_length=300,
        win_length=1200,
        n_mels=80,
        fmin=80,
        fmax=7600,
        power=1.0,
        pad_mode="constant",
    )
    wanted = np.log10(np.maximum(mel, 1e-10)).T
    actual = LogMel(spec)(samples)[0].numpy()
    assert actual.shape == (80, 80)
    np.testing.assert_allclose(actual, wanted[:80], atol=2e-4)


@given(
    cuts=st.lists(st.integers(0, 9_000), max_size=6),
    shape=st.sampled_from([(2048, 1200, 300), (512, 400, 256), (64, 64, 64), (101, 100, 7)]),
    length=st.integers(0, 9_000),
)
@settings(max_examples=60, deadline=None)
def test_pieces_and_blocks_give_the_frames_of_the_whole(cuts, shape, length):
    fft, window, hop = shape
    log_mel = LogMel(MelSpec(fft=fft, window=window, hop=hop, mels=4, high_hz=12_000.0, low_hz=0.0))
    samples = torch.from_numpy(np.random.default_rng(length).standard_normal(length).astype(np.float32))
    # The whole by torch's own framing, without blocks
    spectrum = torch.stft(
        torch.nn.functional.pad(samples, (0, fft)), fft, hop, window, torch.hann_window(window),
        pad_mode="constant", return_complex=True,
    )[:, : length // hop]  # fmt: skip
    wanted = (spectrum.abs().T @ log_mel.get_buffer("_filters")).clamp(min=1e-10).log10()
    stream = log_mel.stream()
    edges = itertools.pairwise(sorted({0, length, *(min(cut, length) for cut in cuts)}))
    parts = [stream.add(samples[start:stop]) for start, stop in edges]
    pieces = torch.cat([*parts, stream.end()])
    torch.testing.assert_close(pieces, wanted, rtol=0, atol=1e-5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cdslm_model.data.mel._BLOCK_FRAMES", 7)
        torch.testing.assert_close(log_mel(samples[None])[0], wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("samples", [0, 1, 299, 300, 301, 2400])
def test_there_is_a_frame_per_whole_hop_and_silence_is_the_floor(samples):
    spec = MelSpec()
    actual = LogMel(spec)(torch.zeros(2, samples))
    assert actual.shape == (2, samples // 300, 80)
    assert (actual == spec.silence).all()
    assert GriffinLim(spec)(actual).shape == (2, spec.samples(samples // 300))


def test_specs_differ_by_digest_and_impossible_ones_are_refused():
    assert MelSpec().digest == MelSpec(low_hz=80.0).digest
    assert len({MelSpec().digest, MelSpec(hop=240).digest, MelSpec(floor=1e-5).digest}) == 3
    for wrong in ({"hop": 0}, {"window": 4096}, {"high_hz": 13_000.0}, {"low_hz": 8000.0}, {"floor": 0.0}):
        with pytest.raises(ModelError):
            MelSpec(**wrong)


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(1, 99), max_size=4), seed=st.integers(0, 99))
def test_the_normalizer_of_pieces_is_that_of_the_whole(cuts, seed):
    values = torch.randn(100, 3, generator=torch.Generator().manual_seed(seed)) * torch.tensor([1.0, 5.0, 0.1]) - 1e3
    edges = [0, *sorted(set(cuts)), 100]
    fitted = Normalizer.fit(values[low:high] for low, high in itertools.pairwise(edges))
    torch.testing.assert_close(fitted.mean.double(), values.double().mean(0))
    torch.testing.assert_close(fitted.std.double(), values.double().std(0, correction=0))
    again = Normalizer.from_dict(fitted.as_dict())
    assert again.digest == fitted.digest
    torch.testing.assert_close(again.denormalize(again.normalize(values)), values)


@pytest.mark.parametrize("values", [{"mean": [0.0]}, {"mean": [0.0], "std": [0.0]}, {"mean": [0.0], "std": [1.0, 1.0]}])
def test_a_normalizer_that_cannot_be_is_refused(values):
    with pytest.raises(ModelError, match=r"mean and std|one value per band"):
        Normalizer.from_dict(values)
    with pytest.raises(ModelError, match="above 0"):
        Normalizer.fit([torch.zeros(5, 2)])
    with pytest.raises(ModelError, match="no frames"):
        Normalizer.fit([])


def test_the_round_trip_of_griffin_lim_is_near_and_better_than_one_iteration():
    samples = voice(1.5)
    near, far = (roundtrip(samples, find_vocoder(name, MelSpec())) for name in ("griffin-lim", "griffin-lim:1"))
    assert near["log_mel_rmse_db"] < 2.0 < far["log_mel_rmse_db"]
    assert near["spectral_convergence"] < 0.15 < far["spectral_convergence"]
    with pytest.raises(ModelError, match="at least one frame"):
        roundtrip(samples[:, :200], find_vocoder("griffin-lim", MelSpec()))


def test_what_griffin_lim_says_does_not_depend_on_the_batch():
    mels = LogMel(MelSpec())(torch.cat([voice(0.5, 1), voice(0.5, 2)]))
    vocoder = GriffinLim(MelSpec(), iterations=8)
    torch.testing.assert_close(vocoder(mels)[1:], vocoder(mels[1:]), rtol=1e-3, atol=1e-5)


@pytest.fixture
def installed_vocoders(tmp_path, monkeypatch):
    """Install a distribution that provides vocoders."""
    (tmp_path / "some_vocoders.py").write_text(
        "from cdslm_model.data.mel import MelSpec\n"
        "from cdslm_model.sample.vocoder import GriffinLim\n"
        "def other(spec, argument):\n    return GriffinLim(MelSpec(hop=256))\n"
        "def same(spec, argument):\n    return GriffinLim(spec, iterations=int(argument))\n"
    )
    info = tmp_path / "some_vocoders-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-vocoders\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[cdslm_model.vocoders]\nother = some_vocoders:other\nsame = some_vocoders:same\nbroken = some_vocoders:gone\n"
        "griffin-lim = some_vocoders:same\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield
    sys.modules.pop("some_vocoders", None)


def test_vocoders_come_from_installed_distributions_and_must_fit(installed_vocoders):
    assert find_vocoder("same:3", MelSpec()).spec == MelSpec()
    for name, message in [
        ("other", "was made for .*hop=256"),
        ("broken", "cannot be loaded: AttributeError"),
        ("samee", "Did you mean 'same'"),
        ("griffin-lim", "provided by cdslm-eval and by some-vocoders"),
        ("same:x", "cannot be loaded: ValueError"),
    ]:
        with pytest.raises(ModelError, match=message):
            find_vocoder(name, MelSpec())


def test_a_wrong_number_of_iterations_is_reported():
    with pytest.raises(ModelError, match="griffin-lim:60"):
        find_vocoder("griffin-lim:many", MelSpec())
