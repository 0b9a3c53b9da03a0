"""A tiny random checkpoint, saved and loaded through the real path: a batch gives what clips give one by one."""

from __future__ import annotations

import json
import shutil
from itertools import groupby

import numpy as np
import pytest
from cdslm_eval_asr import wav2vec2
from cdslm_eval_asr.wav2vec2 import Wav2vec2Options, Wav2vec2Recognizer, collapsed

from cdslm_eval.core.audio import Clip
from cdslm_eval.core.errors import EvalError
from cdslm_eval.plugin.contract import Failed
from cdslm_eval.plugin.identity import identify
from cdslm_eval.testing import RECOGNIZER_CHECKS

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

VOCABULARY = ["<pad>", "<s>", "</s>", "<unk>", "|", "a", "b", "tʃ", "ə", "s", "n", "iː"]


def saved(folder, norm, vocabulary=VOCABULARY):
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        feat_extract_norm=norm,
        do_stable_layer_norm=norm == "layer",
        pad_token_id=0,
    )
    model = transformers.Wav2Vec2ForCTC(config)
    # A random head prefers one token for all frames; larger weights make the path vary with the sound.
    model.lm_head.weight.data *= 50
    model.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({symbol: i for i, symbol in enumerate(vocabulary)}))
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True}))
    return folder


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=["layer", "group"])
def checkpoint(request, tmp_path_factory):
    return saved(tmp_path_factory.mktemp(request.param), request.param)


def clip_of(samples):
    return Clip(key="x", samples=np.asarray(samples, np.float32), rate_hz=16_000)


@pytest.fixture(scope="module")
def clips():
    rng = np.random.default_rng(0)
    lengths = [8_000, 2_000, 15_011, 401, 4_500, 11_111]
    return [clip_of(np.cumsum(rng.normal(0, 0.01, n)) * np.sin(np.arange(n) / 900)) for n in lengths]


def recognized(folder, clips, **options):
    recognizer = Wav2vec2Recognizer(Wav2vec2Options(model=str(folder), **options))
    with recognizer.open("cpu"):
        return list(recognizer.recognize(clips))


def test_a_batch_gives_what_clips_give_one_by_one(checkpoint, clips):
    together = recognized(checkpoint, clips)
    assert together == [recognized(checkpoint, [clip])[0] for clip in clips]
    assert together == recognized(checkpoint, clips[::-1])[::-1]
    inventory = {phone for phones in together for phone in phones}
    assert len(inventory) >= 2
    assert inventory <= set(VOCABULARY[5:])


def test_it_is_the_forward_pass_of_transformers(checkpoint, clips):
    model = transformers.Wav2Vec2ForCTC.from_pretrained(checkpoint).eval()
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    inputs = extractor(clips[0].samples, sampling_rate=16_000, return_tensors="pt").input_values
    with torch.no_grad():
        best = model(inputs).logits[0].argmax(-1).tolist()
    wanted = [VOCABULARY[token] for token, _ in groupby(best) if token >= 5]
    assert recognized(checkpoint, clips[:1]) == [wanted]


def test_a_long_clip_is_cut_into_windows_that_overlap(checkpoint, clips, monkeypatch):
    """The seam lies in the overlap: what is far from it are the phones of each window alone."""
    monkeypatch.setattr(wav2vec2, "WINDOW_SECONDS", 0.6)
    monkeypatch.setattr(wav2vec2, "OVERLAP_SECONDS", 0.2)
    samples = clips[2].samples  # 0.94 s: two windows of 0.6 s, the second from 0.34 s
    first, second, whole = recognized(checkpoint, [clip_of(samples[:9600]), clip_of(samples[-9600:]), clips[2]])
    shared = len(first) + len(second) - len(whole)
    assert shared >= 0
    assert whole[: len(first) - shared - 1] == first[: len(first) - shared - 1]
    assert whole[len(whole) - len(second) + shared + 1 :] == second[shared + 1 :]


@pytest.fixture(scope="module")
def padded_checkpoint(tmp_path_factory):
    """Return a checkpoint whose clips share padded batches."""
    return saved(tmp_path_factory.mktemp("padded"), "layer")


@pytest.mark.parametrize("check", RECOGNIZER_CHECKS, ids=str)
def test_the_contract(check, padded_checkpoint):
    # random weights know no speech: of a sentence at another speed they make another one
    if check.name != "another speed keeps sentences apart":
        check(Wav2vec2Recognizer(Wav2vec2Options(model=str(padded_checkpoint))))


def test_odd_clips_end_normally(checkpoint):
    empty, one, silent, broken = recognized(
        checkpoint, [clip_of([]), clip_of([0.5]), clip_of(np.zeros(8_000)), clip_of([np.nan] * 800)]
    )
    assert empty == one == []
    assert silent == []
    assert isinstance(broken, Failed)


def test_identity_follows_the_weights(tmp_path):
    (tmp_path / "a").mkdir()
    folder = saved(tmp_path / "a", "layer")
    before = dict(Wav2vec2Recognizer(Wav2vec2Options(model=str(folder))).fingerprint())
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    after = dict(Wav2vec2Recognizer(Wav2vec2Options(model=str(folder))).fingerprint())
    assert {name for name in before if before[name] != after[name]} == {"model.safetensors"}


def test_weights_in_several_files_are_the_same_network_and_all_identify_it(tmp_path, clips):
    whole, parts = (tmp_path / name for name in ("whole", "parts"))
    for folder in (whole, parts):
        folder.mkdir()
    saved(whole, "layer")
    shutil.copytree(whole, parts, dirs_exist_ok=True)
    (parts / "model.safetensors").unlink()
    transformers.Wav2Vec2ForCTC.from_pretrained(whole).save_pretrained(parts, max_shard_size="40KB")
    shards = sorted(path.name for path in parts.glob("model-*-of-*.safetensors"))
    assert len(shards) > 1
    assert recognized(parts, clips) == recognized(whole, clips)
    before = dict(Wav2vec2Recognizer(Wav2vec2Options(model=str(parts))).fingerprint())
    assert {*shards, "model.safetensors.index.json"} <= set(before)
    weights = parts / shards[-1]
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    after = dict(Wav2vec2Recognizer(Wav2vec2Options(model=str(parts))).fingerprint())
    assert {name for name in before if before[name] != after[name]} == {shards[-1]}
    weights.unlink()
    with pytest.raises(EvalError, match="cannot be loaded"):
        recognized(parts, clips)


def test_pickled_weights_are_refused(tmp_path):
    for name in ("config.json", "vocab.json", "pytorch_model.bin"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(EvalError, match=r"pytorch_model\.bin is pickled and is not loaded"):
        recognized(tmp_path, [])


def test_the_same_weights_elsewhere_are_the_same_recognizer(tmp_path):
    (tmp_path / "a").mkdir()
    first = saved(tmp_path / "a", "layer")
    second = shutil.copytree(first, tmp_path / "b")
    one, two = (identify(Wav2vec2Recognizer(Wav2vec2Options(model=str(folder)))) for folder in (first, second))
    assert one.ident == two.ident
    assert str(tmp_path) not in json.dumps(dict(one.parts))
    (second / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    assert identify(Wav2vec2Recognizer(Wav2vec2Options(model=str(second)))).ident != one.ident


def test_an_absent_model_is_told_with_the_files_that_are_wanted(monkeypatch):
    def nowhere(*args, **kwargs):
        raise OSError("offline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", nowhere)
    monkeypatch.setattr("cdslm_eval.plugin.models.files._reachable", lambda endpoint: False)
    with pytest.raises(EvalError, match=r"config\.json, vocab\.json, model\.safetensors"):
        Wav2vec2Recognizer(Wav2vec2Options(model="nobody/nothing")).fingerprint()


def test_collapse():
    assert collapsed(np.array([0, 3, 3, 0, 3, 4, 4, 0, 0]), 0) == [3, 3, 4]
    assert collapsed(np.array([], int), 0) == []
