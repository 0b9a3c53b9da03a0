"""Encoders and language models of others: small random ones that transformers saved, through the real loaders."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from cdslm_eval_unit_lm.features import EncoderFeatures  # noqa: E402
from cdslm_eval_unit_lm.generate import SamplingConfig, UnitContinuer  # noqa: E402

from cdslm_eval.core.clips import ClipSet  # noqa: E402 - torch may be absent
from cdslm_eval.core.errors import EvalError  # noqa: E402
from cdslm_eval.plugin.host import Host  # noqa: E402
from cdslm_model.errors import ModelError  # noqa: E402

UNITS, OFFSET, VOCABULARY = 16, 4, 24
SMALL = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
ENCODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}


class Waves:
    """Speech that is only samples."""

    def __init__(self, samples):
        self._samples = samples

    def samples(self, rate_hz):
        assert rate_hz == 16_000
        return self._samples


@pytest.fixture(scope="session", params=["wav2vec2", "hubert"])
def encoder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder") / request.param
    kinds = {
        "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model),
        "hubert": (transformers.HubertConfig, transformers.HubertModel),
    }
    config, model = kinds[request.param]
    torch.manual_seed(0)
    model(config(**ENCODER)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True}))
    return folder


def language_model(folder, kind="opt"):
    """Save a random model whose likeliest next token depends on its past."""
    torch.manual_seed(1)
    if kind == "opt":
        config = transformers.OPTConfig(
            **SMALL, ffn_dim=48, word_embed_proj_dim=32, max_position_embeddings=64, init_std=0.5, dropout=0.0
        )
        model = transformers.OPTForCausalLM(config)
    else:
        config = transformers.LlamaConfig(
            **SMALL, intermediate_size=48, max_position_embeddings=64, initializer_range=0.5
        )
        model = transformers.LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return model.eval()


@pytest.fixture(scope="session")
def centroids(tmp_path_factory):
    values = np.random.default_rng(0).standard_normal((UNITS, 4 * 80)).astype(np.float32)
    path = tmp_path_factory.mktemp("centroids") / "km.npy"
    np.save(path, values)
    return path


@pytest.fixture
def bring_in(unit_lm, shards, centroids, tmp_path):
    def run(folder, *more, centroids=centroids):
        options = ("--centroids", centroids, "--data", shards / "train", "--out", tmp_path / "run", "--stride", "4")
        return unit_lm(
            "import", folder, *options, "--offset", OFFSET, "--context-seconds", "0.5", "--device", "cpu", *more
        )

    return run


def test_an_encoder_trains_and_generates(unit_lm, encoder, shards, corpus, short, tmp_path):
    run = tmp_path / "run"
    options = ("--encoder", encoder, "--layer", "2", "--steps", "3")
    done = unit_lm("train", "--data", shards, "--out", run, *short, *options)
    assert done.returncode == 0, done.stderr
    generator = Host().make("generator", f"unit-lm:{run}")
    (clip,) = generator.clips(ClipSet.open(corpus / "valid"), 1, 0.5, 0)
    assert len(clip.samples) == clip.rate_hz // 2
    assert "layer 2, 50 a second" in generator.info().conventions["units"]
    torch.manual_seed(9)
    original = (encoder / "model.safetensors").read_bytes()
    try:
        transformers.AutoModel.from_config(transformers.AutoConfig.from_pretrained(encoder)).save_pretrained(encoder)
        with pytest.raises(EvalError, match="not those that"):
            list(generator.clips(ClipSet.open(corpus / "valid"), 1, 0.5, 0))
    finally:
        (encoder / "model.safetensors").write_bytes(original)


def test_one_vector_a_hop_whatever_the_loudness_where_the_encoder_normalises(encoder):
    features = EncoderFeatures(str(encoder), 1, torch.device("cpu"))
    assert features.rate_hz == 50
    samples = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * 0.1
    whole = features(Waves(samples))
    assert whole.shape == (50, 32)
    np.testing.assert_allclose(features(Waves(0.3 * samples)), whole, atol=1e-3)
    assert len(features(Waves(samples[:300]))) == 0
    assert len(features(Waves(np.tile(samples, 21)))) == 21 * 50
    (encoder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    try:
        plain = EncoderFeatures(str(encoder), 1, torch.device("cpu"))
        assert np.abs(plain(Waves(0.3 * samples)) - plain(Waves(samples))).max() > 0.01
    finally:
        (encoder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True}))


def test_the_first_layer_is_what_transformers_calls_so(encoder):
    """The inner vectors of a clip are those that the model gives for the same samples on the same grid."""
    features = EncoderFeatures(str(encoder), 2, torch.device("cpu"))
    model = transformers.AutoModel.from_pretrained(encoder).eval()
    samples = np.random.default_rng(1).standard_normal(8000).astype(np.float32)
    scaled = (samples - samples.mean()) / samples.std()
    # 400 samples feed a vector and a hop is 320, so 40 on either side centre each vector on its hop
    with torch.inference_mode():
        padded = torch.from_numpy(np.pad(scaled, (40, 360)))[None]
        states = model(padded, output_hidden_states=True).hidden_states[2][0, :25].numpy()
    np.testing.assert_allclose(features(Waves(samples)), states, atol=1e-3)


@pytest.mark.parametrize("layer", [0, 3])
def test_a_layer_that_the_encoder_has_not_is_refused(encoder, layer):
    with pytest.raises(ModelError, match=f"has 2 layers; there is no layer {layer}"):
        EncoderFeatures(str(encoder), layer, torch.device("cpu"))


@pytest.mark.parametrize("kind", ["opt", "llama"])
def test_an_imported_model_continues_as_transformers_does(bring_in, tmp_path, kind):
    model = language_model(tmp_path / "lm", kind)
    done = bring_in(tmp_path / "lm", "--window", "40")
    assert done.returncode == 0, done.stderr
    continuer = UnitContinuer(tmp_path / "run", SamplingConfig(temperature=0.0), "cpu")
    past = np.array([3, 1, 4, 1, 5])
    frames = 4 * 12
    (continuation,) = continuer.continuations([past], [0], frames)
    forbidden = [token for token in range(VOCABULARY) if not OFFSET <= token < OFFSET + UNITS]
    ids = torch.cat([torch.tensor([model.config.bos_token_id]), torch.from_numpy(past) + OFFSET])[None]
    answer = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12, suppress_tokens=forbidden
    )
    assert continuation.tolist() == (answer[0, len(ids[0]) :] - OFFSET).tolist()
    assert len(set(continuation.tolist())) > 1, "a constant continuation would prove little"
    info = Host().make("generator", f"unit-lm:{tmp_path / 'run'}").info()
    assert info.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert info.tokens is None
    assert info.flops is None


def test_centroids_come_from_safetensors_too(bring_in, centroids, tmp_path):
    from safetensors.numpy import save_file

    language_model(tmp_path / "lm")
    save_file({"centers": np.load(centroids)}, tmp_path / "km.safetensors")
    assert bring_in(tmp_path / "lm", centroids=tmp_path / "km.safetensors").returncode == 0


def pickled(folder):
    np.save(folder / "km.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return folder / "km.npy"


def narrow(folder):
    np.save(folder / "km.npy", np.zeros((UNITS, 7), np.float32))
    return folder / "km.npy"


def many(folder):
    np.save(folder / "km.npy", np.zeros((VOCABULARY, 320), np.float32))
    return folder / "km.npy"


def flat(folder):
    np.save(folder / "km.npy", np.zeros(320, np.float32))
    return folder / "km.npy"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (pickled, "a pickled k-means"),
        (narrow, "of 7 dimensions, and the encoder's are 320"),
        (many, "has 24 tokens; 24 units do not fit from --offset 4 on"),
        (flat, "holds [320]"),
    ],
)
def test_centroids_that_do_not_fit_are_refused(bring_in, tmp_path, make, message):
    language_model(tmp_path / "lm")
    done = bring_in(tmp_path / "lm", centroids=make(tmp_path))
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_models_that_lack_something_are_refused(bring_in, tmp_path):
    from safetensors.torch import load_file, save_file

    assert "no such folder" in bring_in(tmp_path / "nowhere").stderr
    language_model(tmp_path / "lm")
    weights = load_file(tmp_path / "lm" / "model.safetensors")
    weights.pop(min(name for name in weights if "fc1" in name))
    save_file(weights, tmp_path / "lm" / "model.safetensors", metadata={"format": "pt"})
    done = bring_in(tmp_path / "lm")
    assert (done.returncode, "lacks weights" in done.stderr) == (2, True), done.stderr
    (tmp_path / "lm" / "model.safetensors").unlink()
    torch.save({}, tmp_path / "lm" / "pytorch_model.bin")
    done = bring_in(tmp_path / "lm")
    assert (done.returncode, "not a causal language model" in done.stderr) == (2, True), done.stderr
