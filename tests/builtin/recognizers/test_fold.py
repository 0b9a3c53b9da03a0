"""IPA folds to ARPAbet as dictionaries and espeak-ng write it."""

from __future__ import annotations

import pytest

from cdslm_eval.builtin.recognizers.fold import arpabet, is_phone, to_arpabet
from cdslm_eval.builtin.recognizers.inventory import ARPABET, ARPABET_TO_IPA
from cdslm_eval.builtin.recognizers.phonemize import phonemize


def test_the_ipa_of_each_arpabet_phone_folds_back():
    assert {phone: arpabet(ipa) for phone, ipa in ARPABET_TO_IPA.items()} == {phone: (phone,) for phone in ARPABET}
    assert to_arpabet(["AH0", "NG", "ER1"]) == ["AH", "NG", "ER"]


def test_espeak_text_folds_to_the_phones_of_the_dictionary():
    (phones,) = phonemize(["the cat judged nothing pure"])
    assert to_arpabet(phones) == "DH AH K AE T JH AH JH D N AH TH IH NG P Y UH R".split()  # noqa: SIM905


def test_marks_are_dropped_and_diphthongs_split():
    symbols = ["oː", "d͡ʒ", "ã", "ʔ", "eə"]
    assert [arpabet(symbol) for symbol in symbols] == [("OW",), ("JH",), ("AA",), (), ("EY", "AH")]


def test_specials_and_marks_are_no_phones():
    assert not any(map(is_phone, ["<wb>", "[PAD]", "²", "ː", "˥", "不"]))
    assert is_phone("t͡ʃ")


def test_a_letter_without_an_english_phone_is_an_error():
    with pytest.raises(KeyError, match="ǃ"):
        arpabet("ǃ")
