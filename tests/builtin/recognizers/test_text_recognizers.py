"""Phones from text and from sidecars."""

from __future__ import annotations

import pytest

from cdslm_eval.builtin.recognizers import cdslm_recognizers
from cdslm_eval.builtin.recognizers.inventory import ARPABET, ARPABET_TO_IPA, to_ipa
from cdslm_eval.builtin.recognizers.phonemize import LanguageOptions
from cdslm_eval.builtin.recognizers.sidecar import SidecarRecognizer
from cdslm_eval.builtin.recognizers.transcript import TranscriptRecognizer
from cdslm_eval.core.audio import Clip
from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.contract import Skipped


def clip(text=None, phones=None):
    return Clip(key="x", samples=None, rate_hz=16_000, text=text, phones=phones)


TEXTS = ["Hello there, my friends.", "", "...", "The quick bird\nmeasured chess."]


def test_transcript_gives_ipa_without_stress_or_word_marks():
    first, empty, dots, last, absent = TranscriptRecognizer().recognize([*map(clip, TEXTS), clip()])
    assert first == ["h", "ə", "l", "oʊ", "ð", "ɛɹ", "m", "aɪ", "f", "ɹ", "ɛ", "n", "d", "z"]
    assert empty == dots == []
    assert last[-3:] == ["tʃ", "ɛ", "s"]
    assert isinstance(absent, Skipped)


def test_transcript_does_not_depend_on_the_batch():
    one_by_one = [next(TranscriptRecognizer().recognize([clip(text)])) for text in TEXTS]
    assert list(TranscriptRecognizer().recognize([clip(text) for text in TEXTS])) == one_by_one


@pytest.mark.parametrize(("word", "n"), [("b c", 200), ("b-c", 200), ("123456789", 60)])
def test_a_long_line_without_a_pause_loses_no_word(word, n):
    """espeak-ng lost 16 % of 400 words of one letter, from the 300th on."""
    words = iter(TranscriptRecognizer().recognize([clip(word), clip(f"{word} " * n)]))
    assert next(words) * n == next(words)


def test_control_characters_do_not_end_a_text():
    hidden, plain = TranscriptRecognizer().recognize([clip("go\x00 on\x1b \ud800now"), clip("go on now")])
    assert hidden == plain


@pytest.mark.parametrize(
    ("text", "language", "script"),
    [("你好世界", "en-us", "Chinese"), ("こんにちは", "en-us", "Hiragana"), ("привет мир", "en-us", "Cyrillic"),
     ("你好世界", "ja", ""), ("привет", "ru", ""), ("café naïve", "en-us", ""), ("say 你好", "en-us", "")],
)  # fmt: skip
def test_a_text_in_letters_that_the_voice_does_not_read_is_skipped(text, language, script):
    (outcome,) = TranscriptRecognizer(LanguageOptions(language=language)).recognize([clip(text)])
    if script:
        assert outcome == Skipped(f"text in {script} letters, which the voice {language} does not read")
    else:
        assert outcome


def test_unknown_language_is_told_in_one_sentence():
    with pytest.raises(UsageError, match="no language 'klingonese'"):
        list(TranscriptRecognizer(LanguageOptions(language="klingonese")).recognize([clip("a")]))


def test_sidecar_hands_out_the_phones_of_the_clip():
    given, absent = SidecarRecognizer().recognize([clip(phones=("a", "b")), clip()])
    assert tuple(given) == ("a", "b")
    assert isinstance(absent, Skipped)


def test_inventory_holds_39_phones_one_to_one():
    assert len(ARPABET) == len(set(ARPABET_TO_IPA.values())) == 39
    assert to_ipa(["hh", "AH0", "L", "OW1"]) == ["h", "ʌ", "l", "oʊ"]


def test_hook_names_the_recognizers():
    assert {"pocketsphinx", "sidecar", "transcript"} <= {kind.name for kind in cdslm_recognizers()}
