"""Encoders against transformers on each clip alone, whatever the batch; checkpoints that must not be loaded."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from cdslm_eval_embeddings import batching
from cdslm_eval_embeddings.encoder import ENCODERS, Which
from cdslm_eval_embeddings.sets import EmbeddingOptions, Fad
from cdslm_eval_embeddings.speaker import SpeakerOptions, SpeakerSimilarity

from cdslm_eval.core.audio import Clip
from cdslm_eval.core.errors import EvalError
from cdslm_eval.plugin.contract import Skipped
from cdslm_eval.plugin.identity import identify

sys.path.insert(0, str(Path(__file__).parent))
import checkpoints

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

RNG = np.random.default_rng(0)
CLIPS = [(0.1 * RNG.standard_normal(n)).astype(np.float32) for n in (16_000, 12_345, 30_000, 9_000, 11_700, 8_001)]


@pytest.fixture(autouse=True)
def one_wide_batch(monkeypatch):
    """Put all clips into one batch, so that most of it is padding."""
    monkeypatch.setattr(batching, "_WASTE", 1.0)


def normalized(samples):
    return (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)


def alone(network, samples, layer):
    """The output of transformers for a clip without batch, padding or mask."""
    with torch.no_grad():
        out = network(torch.from_numpy(normalized(samples))[None], output_hidden_states=True)
    return (out.last_hidden_state if layer is None else out.hidden_states[layer])[0].mean(0).numpy()


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
@pytest.mark.parametrize("group", [True, False], ids=["group norm", "layer norm"])
@pytest.mark.parametrize(("kind", "encoder"), [("WavLM", "wavlm"), ("Wav2Vec2", "wav2vec2"), ("Hubert", "hubert")])
def test_a_batch_equals_transformers_on_each_clip_alone(tmp_path, kind, encoder, group):
    network = checkpoints.waveform(tmp_path, kind, group=group)
    for layer in (None, 2):
        made = ENCODERS[encoder].make(Which(str(tmp_path), layer=layer))
        with made.open("cpu"):
            vectors = made.encode(CLIPS)
        np.testing.assert_allclose(vectors, [alone(network, clip, layer) for clip in CLIPS], atol=1e-5)


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
@pytest.mark.parametrize("kind", ["WavLM", "Wav2Vec2"])
def test_speaker_embeddings_are_those_of_transformers_alone(tmp_path, kind):
    sizes = {"tdnn_dim": (16, 16, 16, 16, 24), "xvector_output_dim": 20, "use_weighted_layer_sum": True}
    network = checkpoints.waveform(tmp_path, kind, group=True, head="ForXVector", **sizes)
    metric = SpeakerSimilarity(SpeakerOptions(model=str(tmp_path)))
    with torch.no_grad():
        expected = [network(torch.from_numpy(normalized(clip))[None]).embeddings[0].numpy() for clip in CLIPS]
    with metric.open("cpu"):
        np.testing.assert_allclose(metric.embed(CLIPS), expected, atol=1e-4)
        real, short = (Clip(key="r", samples=one, rate_hz=16_000) for one in (CLIPS[1], CLIPS[1][:4000]))
        clips = [Clip(key="a", samples=CLIPS[0], rate_hz=16_000, reference=one) for one in (real, short)]
        same = Clip(key="b", samples=CLIPS[1], rate_hz=16_000, reference=real)
        rows = list(metric.measure([*clips, same]))
    cosine = expected[0] @ expected[1] / np.linalg.norm(expected[0]) / np.linalg.norm(expected[1])
    assert rows[0]["similarity"] == pytest.approx(cosine, abs=1e-5)
    assert rows[1] == Skipped("its reference: under 0.5 s")
    assert rows[2]["similarity"] == pytest.approx(1)


def test_whisper_pools_the_frames_that_hold_the_clip(tmp_path):
    network = checkpoints.whisper(tmp_path).get_encoder()
    extractor = transformers.WhisperFeatureExtractor(chunk_length=3)
    made = ENCODERS["whisper"].make(Which(str(tmp_path)))
    with made.open("cpu"):
        vectors = made.encode([*CLIPS, np.tile(CLIPS[0], 5)])
    for samples, vector in zip(CLIPS, vectors, strict=False):
        features = extractor(samples, sampling_rate=16_000, return_tensors="pt").input_features
        with torch.no_grad():
            hidden = network(features).last_hidden_state[0]
        np.testing.assert_allclose(vector, hidden[: -(-len(samples) // 320)].mean(0).numpy(), atol=1e-5)
    assert np.isfinite(vectors[-1]).all()  # 5 s go through two windows


def test_a_long_clip_is_the_mean_of_its_windows(tmp_path, monkeypatch):
    monkeypatch.setattr(batching.over_windows, "__defaults__", (1.0,))
    checkpoints.waveform(tmp_path, "Wav2Vec2", group=False)
    made = ENCODERS["wav2vec2"].make(Which(str(tmp_path)))
    with made.open("cpu"):
        (whole,) = made.encode([CLIPS[2]])
        parts = made.encode([CLIPS[2][:15_000], CLIPS[2][15_000:]])
    np.testing.assert_allclose(whole, parts.mean(axis=0), atol=1e-5)


def test_other_weights_are_another_identity_and_the_same_are_not(tmp_path):
    def ident():
        return identify(Fad(EmbeddingOptions(encoder="wav2vec2", model=str(tmp_path)))).ident

    network = checkpoints.waveform(tmp_path, "Wav2Vec2", group=True)
    first = ident()
    assert ident() == first
    with torch.no_grad():
        network.encoder.layers[0].attention.q_proj.bias += 1
    checkpoints.saved(network, tmp_path)
    assert ident() != first


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
def test_pickled_weights_load_as_tensors_only(tmp_path):
    network = checkpoints.waveform(tmp_path, "Wav2Vec2", group=True)
    made = ENCODERS["wav2vec2"].make(Which(str(tmp_path)))
    with made.open("cpu"):
        expected = made.encode(CLIPS)
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    made = ENCODERS["wav2vec2"].make(Which(str(tmp_path)))
    with made.open("cpu"):
        np.testing.assert_allclose(made.encode(CLIPS), expected, atol=1e-6)


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def spoil_with_code(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"w": Trap(folder / "owned")}))


def spoil_weights(folder):
    (folder / "model.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00notjson!")


def spoil_config(folder):
    (folder / "config.json").write_text("[]")


def other_kind(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "hubert"}))


def other_size(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 5}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_with_code, r"pytorch_model\.bin cannot be loaded"),
        (spoil_weights, r"model\.safetensors cannot be loaded"),
        (spoil_config, r"config\.json holds no JSON object"),
        (other_kind, r"is a 'hubert' checkpoint. Use: model=, with wav2vec2"),
        (other_size, r"lacks encoder\.layers\.3"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"no model\.safetensors or pytorch_model\.bin in it"),
        (lambda folder: (folder / "config.json").unlink(), r"no config\.json in it; encoder wav2vec2 needs"),
    ],
)
def test_a_bad_checkpoint_is_one_sentence_that_names_the_file(tmp_path, spoil, message):
    checkpoints.waveform(tmp_path, "Wav2Vec2", group=True)
    spoil(tmp_path)
    with pytest.raises(EvalError, match=message) as caught, ENCODERS["wav2vec2"].make(Which(str(tmp_path))).open("cpu"):
        pass
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "owned").exists()


def test_a_layer_that_is_not_there_is_refused(tmp_path):
    checkpoints.waveform(tmp_path, "WavLM", group=True)
    with (
        pytest.raises(EvalError, match="has 3 layers"),
        ENCODERS["wavlm"].make(Which(str(tmp_path), layer=9)).open("cpu"),
    ):
        pass


def test_without_a_network_the_wanted_files_are_named(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EvalError, match=r"download config\.json, model\.safetensors or pytorch_model\.bin"):
        identify(Fad(EmbeddingOptions(encoder="wavlm", model="nobody/has-this")))
