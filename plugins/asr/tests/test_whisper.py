"""The transcriber against decoding written out step by step; batches against one by one; long clips; the contract."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import transformers
from cdslm_eval_asr import Whisper
from cdslm_eval_asr.whisper import WINDOW, WhisperOptions, windows

from cdslm_eval.core.audio import Clip
from cdslm_eval.core.errors import EvalError
from cdslm_eval.testing import TRANSCRIBER_CHECKS


def transcribed(folder, clips, **options):
    component = Whisper(WhisperOptions(model=str(folder), **options))
    with component.open("cpu"):
        return list(component.transcribe(clips))


def step_by_step(folder, clip, language, task):
    """Greedy decoding by the network's forward pass alone: prefix, suppressed tokens, the likeliest each time."""
    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    features = transformers.WhisperFeatureExtractor.from_pretrained(folder)(
        clip.samples, sampling_rate=16_000, return_tensors="pt"
    ).input_features
    prefix = ["<|startoftranscript|>", *([f"<|{language}|>", f"<|{task}|>"] if language else []), "<|notimestamps|>"]
    tokens = tokenizer.convert_tokens_to_ids(prefix)
    decoded = []
    with torch.inference_mode():
        encoded = model.model.encoder(features)
        while len(decoded) < 32 - 8:
            logits = model(encoder_outputs=encoded, decoder_input_ids=torch.tensor([tokens + decoded])).logits[0, -1]
            logits[model.generation_config.suppress_tokens] = -torch.inf
            if int(logits.argmax()) == model.generation_config.eos_token_id:
                break
            decoded.append(int(logits.argmax()))
    return " ".join(tokenizer.decode(decoded).split())


def test_it_says_what_decoding_step_by_step_says(whisper, english_whisper, clips):
    expected = [step_by_step(whisper, clip, "en", "transcribe") for clip in clips]
    assert len(set(expected)) > 3  # the network tells the clips apart
    assert transcribed(whisper, clips) == expected
    german = [step_by_step(whisper, clip, "de", "translate") for clip in clips[:2]]
    assert transcribed(whisper, clips[:2], language="de", task="translate") == german
    assert transcribed(english_whisper, clips[:2]) == [
        step_by_step(english_whisper, clip, "", "") for clip in clips[:2]
    ]


def test_a_batch_gives_what_clips_give_one_by_one(whisper, clips):
    assert transcribed(whisper, clips) == [transcribed(whisper, [clip])[0] for clip in clips]


def test_a_long_clip_is_cut_in_its_pauses_and_nothing_is_lost():
    rng = np.random.default_rng(0)
    samples = (0.3 * rng.standard_normal(70 * 16_000)).astype(np.float32)
    pauses = [int(23.6 * 16_000), int(46.2 * 16_000)]
    for at in pauses:
        samples[at : at + 3_200] = 0.0
    parts = windows(samples)
    assert np.array_equal(np.concatenate(parts), samples)
    assert max(map(len, parts)) <= WINDOW
    cuts = np.cumsum([len(part) for part in parts])[:-1]
    assert all(at <= cut <= at + 3_200 for at, cut in zip(pauses, cuts, strict=True))


def test_a_long_clip_says_what_its_windows_say_and_silence_says_nothing(whisper, clips):
    samples = np.concatenate([np.tile(clips[2].samples, 5), np.zeros(40 * 16_000, np.float32)])
    long = Clip(key="long", samples=samples, rate_hz=16_000)
    parts = [dataclasses.replace(long, samples=part) for part in windows(samples)]
    decoded = transcribed(whisper, parts)
    assert decoded[-1] == ""
    assert decoded[0] != ""
    assert transcribed(whisper, [long]) == [" ".join(filter(None, decoded))]


def test_an_english_checkpoint_refuses_other_languages(english_whisper, clips):
    with pytest.raises(EvalError, match="knows English only"):
        transcribed(english_whisper, clips[:1], language="de")


def test_a_language_that_it_does_not_know_is_refused(whisper, clips):
    with pytest.raises(EvalError, match="Did you mean 'german'"):
        transcribed(whisper, clips[:1], language="germann")


def test_language_and_weights_are_part_of_the_identity(whisper):
    facts = Whisper(WhisperOptions(model=str(whisper))).fingerprint()
    assert {"model.safetensors", "config.json", "tokenizer.json", "generation_config.json"} <= set(facts)


@pytest.mark.parametrize("check", TRANSCRIBER_CHECKS, ids=str)
def test_the_contract(check, whisper):
    check(Whisper(WhisperOptions(model=str(whisper))))
