"""Batches of like length against one clip at a time, on mixed lengths: aesthetics, transcripts, perplexity.

Random networks of a size that computes rather than waits (half of WavLM Base; Whisper tiny; half of GPT-2), one thread.
"""

from __future__ import annotations

import time
import warnings
from contextlib import ExitStack

import numpy as np
import pytest

from cdslm_eval.core.audio import Clip

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
aes = pytest.importorskip("audiobox_aesthetics.model.aes")
SECONDS = (1.5, 2.0, 2.5, 3.0, 3.0, 4.0, 4.5, 5.0, 6.0, 7.0, 9.0, 10.0)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def clips():
    rng = np.random.default_rng(0)
    lengths = rng.permutation([int(16_000 * seconds) for seconds in SECONDS])
    noise = [(0.1 * rng.standard_normal(length)).astype(np.float32) for length in lengths]
    return [Clip(key=str(index), samples=samples, rate_hz=16_000) for index, samples in enumerate(noise)]


@pytest.fixture(scope="module")
def aesthetics(tmp_path_factory):
    """Return upstream's network and the folder it was saved to."""
    torch.manual_seed(0)
    small = {"encoder_layers": 6, "encoder_embed_dim": 384, "encoder_ffn_embed_dim": 1536}
    small["conv_feature_layers"] = "[(256,10,5)] + [(256,3,2)] * 4 + [(256,2,2)] * 2"
    scale = {axis: {"mean": 5.0, "std": 1.0} for axis in aes.AXES_NAME}
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        patch.setattr(aes, "DEFAULT_AUDIO_CFG", aes.WavLMConfig({**vars(aes.DEFAULT_AUDIO_CFG), **small}))
        model = aes.AesMultiOutput(nth_layer=7, target_transform=scale).eval()
    folder = tmp_path_factory.mktemp("aesthetics")
    model.save_pretrained(folder)
    return model, folder


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """Return the folder of a random network of the size of Whisper tiny."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("whisper")
    words = {f"w{index}": index for index in range(51_000)}
    specials = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    ids = {name: index for index, name in enumerate(specials, len(words))}
    tokenizer = transformers.WhisperTokenizer(vocab={**words, **ids}, merges=[])
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    config = transformers.WhisperConfig(
        vocab_size=len(words) + len(ids),
        decoder_start_token_id=start,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    model = transformers.WhisperForConditionalGeneration(config)
    model.generation_config = transformers.GenerationConfig(
        decoder_start_token_id=start,
        eos_token_id=end,
        pad_token_id=end,
        max_length=448,
        suppress_tokens=[end],
        is_multilingual=True,
        lang_to_id={"<|en|>": ids["<|en|>"]},
        task_to_id={"transcribe": ids["<|transcribe|>"]},
        no_timestamps_token_id=ids["<|notimestamps|>"],
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    return folder


def one_by_one(measure, clips):
    for clip in clips:
        list(measure([clip]))


def timed(action):
    """Return the least of three times in seconds, as other processes can only add to it."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def test_aesthetics_in_batches_against_one_by_one(benchmark, aesthetics, clips):
    from cdslm_eval_aesthetics import Aesthetics, AestheticsOptions

    upstream, folder = aesthetics
    metric = Aesthetics(AestheticsOptions(model=str(folder)))

    def padded():
        """One clip at a time, padded to 10 s, as upstream's command does it."""
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            for clip in clips:
                wave, mask = torch.zeros(1, 1, 160_000), torch.zeros(1, 1, 160_000, dtype=torch.bool)
                wave[0, 0, : len(clip.samples)] = torch.from_numpy(clip.samples)
                mask[..., : len(clip.samples)] = True
                upstream({"wav": wave, "mask": mask})

    with metric.open("cpu"):
        benchmark.pedantic(lambda: list(metric.measure(clips)), rounds=3, warmup_rounds=1)
        ours = benchmark.stats.stats.min
        benchmark.extra_info["ratio"] = timed(padded) / ours
        benchmark.extra_info["ratio_to_own_one_by_one"] = timed(lambda: one_by_one(metric.measure, clips)) / ours
    assert benchmark.extra_info["ratio"] > 1.3


def test_whisper_in_batches_against_one_by_one(benchmark, whisper, clips):
    from cdslm_eval_asr.whisper import Whisper, WhisperOptions

    component = Whisper(WhisperOptions(model=str(whisper)))
    with ExitStack() as stack:
        stack.enter_context(component.open("cpu"))
        # a random network does not stop by itself: about as many tokens as a clip has
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr("cdslm_eval_asr.whisper._TOKENS_PER_S", 4)
        patch.setattr("cdslm_eval_asr.whisper._TOKENS", 0)
        together = benchmark.pedantic(lambda: list(component.transcribe(clips)), rounds=3, warmup_rounds=1)
        alone = [next(component.transcribe([clip])) for clip in clips]
        benchmark.extra_info["equal"] = sum(mine == theirs for mine, theirs in zip(together, alone, strict=True))
        slow = timed(lambda: one_by_one(component.transcribe, clips))
    benchmark.extra_info["ratio"] = slow / benchmark.stats.stats.min
    # the encoder sees 30 s whatever is in them, and takes most of the time on a processor: only decoding is shared
    assert benchmark.extra_info["equal"] == len(clips)
    assert benchmark.extra_info["ratio"] > 1


def test_perplexity_in_batches_against_one_by_one(benchmark, tmp_path):
    from cdslm_eval_asr.perplexity import GenPpl, GenPplOptions
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(0)
    words = {"<s>": 0, "<unk>": 1, **{f"w{index}": index for index in range(2, 8000)}}
    plain = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=plain, bos_token="<s>", unk_token="<unk>").save_pretrained(
        tmp_path
    )
    config = transformers.GPT2Config(
        vocab_size=len(words), n_embd=384, n_layer=6, n_head=6, bos_token_id=0, eos_token_id=0
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{word}" for word in rng.integers(2, 8000, length)) for length in rng.integers(4, 40, 64)]
    spoken = [
        Clip(key=str(at), samples=np.zeros(0, np.float32), rate_hz=1, transcript=text) for at, text in enumerate(texts)
    ]
    metric = GenPpl(GenPplOptions(model=str(tmp_path)))
    with metric.open("cpu"):
        together = benchmark.pedantic(lambda: list(metric.measure(spoken)), rounds=5, warmup_rounds=1)
        alone = [next(metric.measure([clip])) for clip in spoken]
        slow = timed(lambda: one_by_one(metric.measure, spoken))
    benchmark.extra_info["ratio"] = slow / benchmark.stats.stats.min
    assert all(
        abs(mine["nll"] - theirs["nll"]) < 1e-4 * theirs["nll"] for mine, theirs in zip(together, alone, strict=True)
    )
    assert benchmark.extra_info["ratio"] > 1.3
