"""Phones from text and from sidecars."""

from __future__ import annotations

import json

import pytest

from cdslm_eval.builtin.recognizers import cdslm_recognizers
from cdslm_eval.builtin.recognizers.inventory import ARPABET, ARPABET_TO_IPA, to_ipa
from cdslm_eval.builtin.recognizers.phonemize import LanguageOptions, voice_of
from cdslm_eval.builtin.recognizers.sidecar import SidecarRecognizer
from cdslm_eval.builtin.recognizers.transcript import TranscriptRecognizer
from cdslm_eval.core.audio import Clip
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.contract import Skipped
from cdslm_eval.plugin.identity import content_needs, subject


def clip(text=None, phones=None, language=None):
    return Clip(key="x", samples=None, rate_hz=16_000, text=text, phones=phones, language=language)


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


def test_a_language_of_its_own_chooses_the_voice_of_a_text():
    """Each text as when its voice reads it alone, whatever stands next to it; English keeps the voice of the option."""
    pairs = [("schön", "de", "de"), ("naïve thoughts", None, "en-gb"), ("ação", "pt_BR", "pt-br"),
             ("nice", "en", "en-gb"), ("你好", "zh", "cmn"), ("schöne Grüße", "de-AT", "de")]  # fmt: skip
    rows = list(
        TranscriptRecognizer(LanguageOptions(language="en-gb")).recognize(
            [clip(text, language=language) for text, language, _ in pairs]
        )
    )
    for row, (text, _, voice) in zip(rows, pairs, strict=True):
        assert row == next(TranscriptRecognizer(LanguageOptions(language=voice)).recognize([clip(text)]))
    assert rows[0] != next(TranscriptRecognizer().recognize([clip("schön")]))
    (unvoiced,) = TranscriptRecognizer().recognize([clip("nuqneH", language="tlh")])
    assert unvoiced == Skipped("espeak-ng has no voice for the language 'tlh'")


def test_the_language_is_part_of_what_a_row_belongs_to(tmp_path):
    """One text in two languages is two rows: `chat` is no cat in English."""
    rows = [{"path": "a.wav", "key": name, "text": "chat", "language": name} for name in ("en", "fr")]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = ClipSet.open(tmp_path / "m.jsonl").sources
    needs = content_needs(TranscriptRecognizer(), {})
    assert len({subject(needs, source, None, None) for source in sources}) == 2
    (tmp_path / "m.jsonl").write_text(json.dumps({**rows[0], "language": "english"}) + "\n")
    with pytest.raises(UsageError, match="line 1: the language 'english' is unknown; write an ISO 639 code"):
        ClipSet.open(tmp_path / "m.jsonl")


def test_codes_of_three_letters_name_the_same_language_as_those_of_two(tmp_path):
    """Codes of ISO 639-2 and 639-3, as corpora write them, choose the voice and the row of the shorter code."""
    codes = {"eng": "en", "deu": "de", "ger": "de", "zho": "zh", "chi-Hant": "zh-Hant", "ENG-GB": "en-GB", "cmn": "cmn"}
    rows = [{"path": f"{code}.wav", "text": "x", "language": code} for code in codes]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    languages = [source.language for source in ClipSet.open(tmp_path / "m.jsonl").sources]
    assert languages == list(codes.values())
    assert [voice_of(language) for language in languages] == ["en-us", "de", "de", "cmn", "cmn", "en-gb", "cmn"]


def test_sidecar_hands_out_the_phones_of_the_clip():
    given, absent = SidecarRecognizer().recognize([clip(phones=("a", "b")), clip()])
    assert tuple(given) == ("a", "b")
    assert isinstance(absent, Skipped)


def test_inventory_holds_39_phones_one_to_one():
    assert len(ARPABET) == len(set(ARPABET_TO_IPA.values())) == 39
    assert to_ipa(["hh", "AH0", "L", "OW1"]) == ["h", "ʌ", "l", "oʊ"]


def test_hook_names_the_recognizers():
    assert {"pocketsphinx", "sidecar", "transcript"} <= {kind.name for kind in cdslm_recognizers()}
