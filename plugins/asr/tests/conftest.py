"""Small random checkpoints of Whisper and of a causal language model, saved as transformers saves them."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from cdslm_eval.core.audio import Clip

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

WORDS = """the boat came in late nobody asked old man why he had painted every door
house green seven birds rain""".split()  # noqa: SIM905
SPECIALS = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|de|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|notimestamps|>",
)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _bytes_to_letters():
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return list(bytes_to_unicode().values())


def whisper_folder(where, multilingual=True, further_pieces=()):
    torch.manual_seed(11)
    vocabulary = {
        piece: at for at, piece in enumerate([*_bytes_to_letters(), *(f"Ġ{word}" for word in WORDS), *further_pieces])
    }
    merges = []
    tokenizer = transformers.WhisperTokenizer(vocab=vocabulary, merges=merges)
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIALS)})
    ids = dict(zip(SPECIALS, tokenizer.convert_tokens_to_ids(list(SPECIALS)), strict=True))
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    config = transformers.WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=80,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=64,
        max_source_positions=1500,
        max_target_positions=32,
        decoder_start_token_id=start,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    model = transformers.WhisperForConditionalGeneration(config)
    with torch.no_grad():  # the audio must decide the tokens: a random network attends to itself only
        for layer in model.model.decoder.layers:
            layer.encoder_attn.out_proj.weight.mul_(20)
        model.model.encoder.conv1.weight.mul_(30)
        model.model.decoder.embed_positions.weight.mul_(20)
    tasks = {"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]}
    names = {"lang_to_id": {name: ids[name] for name in ("<|en|>", "<|de|>")}, "task_to_id": tasks}
    model.generation_config = transformers.GenerationConfig(
        decoder_start_token_id=start,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        max_length=32,
        is_multilingual=multilingual,
        **(names if multilingual else {}),
        no_timestamps_token_id=ids["<|notimestamps|>"],
        suppress_tokens=[*range(256), *(number for name, number in ids.items() if name != "<|endoftext|>")],
        begin_suppress_tokens=[],
    )
    model.save_pretrained(where)
    tokenizer.save_pretrained(where)
    transformers.WhisperFeatureExtractor(feature_size=80).save_pretrained(where)
    return where


def lm_folder(where, context=48):
    torch.manual_seed(12)
    from tokenizers import Tokenizer, models, pre_tokenizers

    pieces = {"<s>": 0, "<unk>": 1, **{word: at for at, word in enumerate(WORDS, 2)}}
    plain = Tokenizer(models.WordLevel(pieces, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=plain, bos_token="<s>", unk_token="<unk>")
    config = transformers.GPT2Config(
        vocab_size=len(pieces), n_positions=context, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    model = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        model.transformer.wte.weight.mul_(30)
    model.save_pretrained(where)
    tokenizer.save_pretrained(where)
    return where


@pytest.fixture(scope="session")
def whisper(tmp_path_factory):
    return whisper_folder(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="session")
def converted_whisper(tmp_path_factory):
    """Return the folders of one multilingual checkpoint as transformers and as CTranslate2 write it."""
    converters = pytest.importorskip("ctranslate2.converters")
    where = tmp_path_factory.mktemp("converted")
    # CTranslate2 takes a vocabulary for multilingual that has the empty piece, as that of OpenAI's multilingual models
    source = whisper_folder(where / "transformers", further_pieces=[""])
    converter = converters.TransformersConverter(str(source), copy_files=["tokenizer.json"])
    converter.convert(str(where / "ctranslate2"))
    return source, where / "ctranslate2"


@pytest.fixture(scope="session")
def english_whisper(tmp_path_factory):
    return whisper_folder(tmp_path_factory.mktemp("english"), multilingual=False)


@pytest.fixture(scope="session")
def lm(tmp_path_factory):
    return lm_folder(tmp_path_factory.mktemp("lm"))


@pytest.fixture(scope="session")
def clips():
    """Return sounds that differ in pitch, level and length."""
    rng = np.random.default_rng(2)
    made = []
    for index, seconds in enumerate([3.0, 0.4, 7.5, 1.2, 12.0, 2.2]):
        t = np.arange(int(seconds * 16_000)) / 16_000
        wave = np.sin(2 * np.pi * 150 * (index + 1) * t * (1 + 0.2 * np.sin(t))) * (0.1 + 0.1 * index)
        samples = (wave + 0.02 * (index + 1) * rng.standard_normal(len(t))).astype(np.float32)
        made.append(Clip(key=str(index), samples=samples, rate_hz=16_000, digest=str(index)))
    return made


@pytest.fixture
def cli(tmp_path):
    """Return a function that runs the command line with one thread and an empty cache of the hub."""

    def run(*args, code=0, **environment):
        own = {"OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path / "hub"), "CDSLM_EVAL_STORE": str(tmp_path / "store")}
        command = [sys.executable, "-m", "cdslm_eval", *map(str, args)]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **own, **environment}, check=False
        )
        assert done.returncode == code, done.stderr
        return done

    return run
