"""The speaker encoder against the package's own code on ten clips, and against known voices."""

from __future__ import annotations

import sys
import types
from importlib.util import find_spec

import numpy as np
import pytest
from cdslm_eval_embeddings import resemblyzer
from cdslm_eval_embeddings.encoder import Which
from cdslm_eval_embeddings.resemblyzer import ResemblyzerEncoder, mel_power
from cdslm_eval_embeddings.sets import EmbeddingOptions, Kad
from cdslm_eval_embeddings.speaker import SpeakerOptions, SpeakerSimilarity
from pydantic import ValidationError

from cdslm_eval.core.audio import Clip
from cdslm_eval.core.errors import EvalError
from cdslm_eval.plugin.identity import identify
from cdslm_eval.testing import METRIC_CHECKS
from cdslm_eval.testing.clips import spoken

torch = pytest.importorskip("torch")
if not resemblyzer.usable():
    pytest.skip("Resemblyzer is not installed", allow_module_level=True)


def ten_clips():
    """Return ten clips: five voices, at full level and so quiet that they are raised."""
    voices = [clip.samples for clip in spoken()]
    return [*voices, *(np.float32(0.01) * np.tile(voice, 2) for voice in voices)]


@pytest.fixture
def package(monkeypatch):
    """Import the package's code with an empty webrtcvad, which only its trimming of silences calls."""
    pytest.importorskip("librosa")
    monkeypatch.setitem(sys.modules, "webrtcvad", types.ModuleType("webrtcvad"))
    if find_spec("scipy.ndimage.morphology") is None:
        old = types.ModuleType("scipy.ndimage.morphology")
        old.binary_dilation = None
        monkeypatch.setitem(sys.modules, "scipy.ndimage.morphology", old)
    import resemblyzer as imported

    return imported


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_embeddings_are_those_of_the_package(package):
    network = package.VoiceEncoder("cpu", verbose=False)
    clips = ten_clips()
    expected = [
        network.embed_utterance(package.audio.normalize_volume(clip, -30, increase_only=True)) for clip in clips
    ]
    encoder = ResemblyzerEncoder(Which())
    with encoder.open("cpu"):
        vectors = encoder.encode(clips)
    np.testing.assert_allclose(vectors, expected, atol=1e-4)


def test_mel_power_is_librosas():
    librosa = pytest.importorskip("librosa")
    samples = spoken()[1].samples
    expected = librosa.feature.melspectrogram(y=samples, sr=16_000, n_fft=400, hop_length=160, n_mels=40)
    np.testing.assert_allclose(mel_power(samples), expected.T, rtol=1e-3, atol=1e-5 * expected.max())


def test_halves_of_a_clip_are_nearer_than_other_voices_and_no_batch_matters(monkeypatch):
    voices = [clip.reference.samples for clip in spoken() if len(clip.samples) > 40_000]
    halves = [half for voice in voices for half in np.array_split(voice, 2)]
    encoder = ResemblyzerEncoder(Which())
    with encoder.open("cpu"):
        together = encoder.encode(halves)
        monkeypatch.setattr(resemblyzer, "_BATCH_PARTS", 1)
        np.testing.assert_allclose(encoder.encode(halves), together, atol=1e-5)
    cosine = together @ together.T
    same = np.eye(len(halves) // 2, dtype=bool).repeat(2, 0).repeat(2, 1)
    assert cosine[same].mean() > cosine[~same].mean() + 0.05


def test_other_weights_are_refused_and_code_in_them_never_runs(tmp_path, monkeypatch):
    path = tmp_path / "resemblyzer" / "pretrained.pt"
    path.parent.mkdir()
    torch.save({"model_state": {"linear.weight": torch.zeros(1)}}, path)
    with pytest.raises(EvalError, match="no speaker encoder of Resemblyzer"):
        resemblyzer._load(path)
    monkeypatch.setattr(resemblyzer, "_SHA256", "0" * 64)
    with pytest.raises(EvalError, match="SHA-256"), ResemblyzerEncoder(Which()).open("cpu"):
        pass


def test_it_is_the_offline_default_and_takes_no_model_elsewhere():
    assert SpeakerSimilarity.fetches() is None
    assert identify(SpeakerSimilarity()).ident == identify(SpeakerSimilarity(SpeakerOptions(model="resemblyzer"))).ident
    with pytest.raises(ValidationError, match="resemblyzer has no model"):
        EmbeddingOptions(encoder="resemblyzer", layer=3)


def test_a_clip_is_most_like_itself():
    first, second = (clip.samples for clip in spoken()[1:3])
    real = Clip(key="r", samples=first, rate_hz=16_000)
    pair = [Clip(key="a", samples=samples, rate_hz=16_000, reference=real) for samples in (first, second)]
    metric = SpeakerSimilarity()
    with metric.open("cpu"):
        own, other = metric.measure(pair)
    assert own["similarity"] == pytest.approx(1)
    assert other["similarity"] < 0.95


@pytest.mark.parametrize("check", METRIC_CHECKS, ids=str)
def test_the_contract(check):
    check(SpeakerSimilarity())


def test_the_embedding_serves_distances():
    metric = Kad(EmbeddingOptions(encoder="resemblyzer"))
    with metric.open("cpu"):
        rows = list(metric.measure(list(spoken())))
    assert all(row["embedding"].shape == (256,) and row["embedding"].min() >= 0 for row in rows)
