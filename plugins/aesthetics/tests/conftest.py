"""A small random checkpoint of Audiobox Aesthetics in both of its forms, written by upstream's own code."""

from __future__ import annotations

import numpy as np
import pytest

from cdslm_eval.core.audio import Clip

torch = pytest.importorskip("torch")
aes = pytest.importorskip("audiobox_aesthetics.model.aes")

SMALL = {
    "encoder_layers": 2,
    "encoder_embed_dim": 32,
    "encoder_ffn_embed_dim": 48,
    "encoder_attention_heads": 4,
    "conv_feature_layers": "[(24,10,5)] + [(24,3,2)] * 4 + [(24,2,2)] * 2",
    "conv_pos": 16,
    "conv_pos_groups": 4,
}
HEADS = {
    "proj_num_layer": 2,
    "proj_ln": True,
    "proj_act_fn": "gelu",
    "proj_dropout": 0.0,
    "nth_layer": 3,
    "use_weighted_layer_sum": True,
    "precision": "32",
    "normalize_embed": True,
    "output_dim": 1,
}
SCALE = {axis: {"mean": 5.0 + index, "std": 1.0 + index / 4} for index, axis in enumerate(aes.AXES_NAME)}


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def small_sizes():
    """Have upstream build small networks: it takes the sizes of its encoder from a module constant."""
    with pytest.MonkeyPatch.context() as patch:
        sizes = aes.WavLMConfig({**vars(aes.DEFAULT_AUDIO_CFG), **SMALL})
        patch.setattr(aes, "DEFAULT_AUDIO_CFG", sizes)
        yield


@pytest.fixture(scope="session")
def upstream_model(small_sizes):
    torch.manual_seed(3)
    with pytest.warns(FutureWarning, match="weight_norm"):
        model = aes.AesMultiOutput(**HEADS, target_transform=SCALE).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layer_weights" in name or "norm" in name:  # else all equal, and a mix-up would not be seen
                parameter.add_(0.3 * torch.randn_like(parameter))
            elif "proj_layer" in name and parameter.ndim == 2:
                parameter.mul_(8)
    return model


@pytest.fixture(scope="session")
def folder(upstream_model, tmp_path_factory):
    where = tmp_path_factory.mktemp("aesthetics")
    upstream_model.save_pretrained(where)
    return where


@pytest.fixture(scope="session")
def pt_file(upstream_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("pt") / "checkpoint.pt"
    state = {f"model.{name}": tensor for name, tensor in upstream_model.state_dict().items()}
    torch.save({"state_dict": state, "model_cfg": HEADS, "target_transform": SCALE}, path)
    return path


@pytest.fixture(scope="session")
def clips():
    """Return noise with a moving pitch, of lengths around what matters: frames, windows, half a minute."""
    rng = np.random.default_rng(5)
    lengths = [1_601, 16_000, 3 * 16_000 + 77, 159_600, 159_999, 160_000, 160_001, 163_000, 400_123, 48_000]
    made = []
    for index, length in enumerate(lengths):
        t = np.arange(length) / 16_000
        wave = 0.3 * np.sin(2 * np.pi * (150 + 60 * index + 40 * np.sin(t)) * t) * np.abs(np.sin(2 * t))
        samples = (wave + 0.02 * rng.standard_normal(length)).astype(np.float32)
        made.append(Clip(key=str(index), samples=samples, rate_hz=16_000))
    return made
