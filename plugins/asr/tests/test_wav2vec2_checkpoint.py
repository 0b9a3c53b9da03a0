"""wav2vec2 against checkpoints that load but must not count: no phone head, stress in the vocabulary, precision."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cdslm_eval_asr.wav2vec2 import Wav2vec2Options, Wav2vec2Recognizer

from cdslm_eval.core.audio import Clip
from cdslm_eval.core.errors import EvalError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SYMBOLS = ["<pad>", "ˈa", "ə", "tʃ", "k"]


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(7)
    config = transformers.Wav2Vec2Config(
        vocab_size=len(SYMBOLS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        pad_token_id=0,
    )
    network = transformers.Wav2Vec2ForCTC(config)
    torch.nn.init.constant_(network.lm_head.weight, 0.0)
    torch.nn.init.constant_(network.lm_head.bias, 0.0)
    network.lm_head.bias.data[1] = 1.0  # whatever the audio, it emits the stressed symbol
    network.save_pretrained(tmp_path)
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps({symbol: i for i, symbol in enumerate(SYMBOLS)}))
    return tmp_path


def recognizer(folder, **options):
    return Wav2vec2Recognizer(Wav2vec2Options(model=str(folder), **options))


def test_stress_is_dropped(checkpoint):
    clip = Clip(key="a", samples=np.ones(16_000, np.float32), rate_hz=16_000)
    with (component := recognizer(checkpoint)).open("cpu"):
        assert list(component.recognize([clip])) == [["a"]]


def test_a_network_without_a_phone_head_is_refused(checkpoint):
    transformers.Wav2Vec2Model.from_pretrained(checkpoint).save_pretrained(checkpoint)
    with pytest.raises(EvalError, match=r"lacks lm_head"), recognizer(checkpoint).open("cpu"):
        pass


def test_precision_is_part_of_the_identity(checkpoint):
    full, half = (recognizer(checkpoint, precision=p).fingerprint() for p in ("float32", "bfloat16"))
    assert full["precision"] == "float32"
    assert {name for name in full if full[name] != half[name]} == {"precision"}
    assert recognizer(checkpoint).fingerprint()["precision"] in {"float32", "bfloat16"}
