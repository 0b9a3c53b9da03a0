"""How espeak-ng's en-us voice spells phones, and how a row of phones becomes input that it can speak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from cdslm_eval.builtin.recognizers.inventory import ARPABET_TO_IPA, unstressed

__all__ = ["spelled", "utterance"]

_CONSONANTS = MappingProxyType(
    {
        "b": "b",
        "tʃ": "tS",
        "d": "d",
        "ð": "D",
        "f": "f",
        "ɡ": "g",
        "g": "g",
        "h": "h",
        "dʒ": "dZ",
        "k": "k",
        "l": "l",
        "m": "m",
        "n": "n",
        "ŋ": "N",
        "p": "p",
        "ɹ": "r",
        "r": "r",
        "s": "s",
        "ʃ": "S",
        "t": "t",
        "θ": "T",
        "v": "v",
        "w": "w",
        "j": "j",
        "z": "z",
        "ʒ": "Z",
        "ɾ": "t#",
        "ʔ": "?",
        "n̩": "n-",
        "ɬ": "l",
        "x": "k",
        "ɫ": "l",
        "ʍ": "w",
    }
)
_VOWELS = MappingProxyType(
    {
        "ɑː": "A:",
        "ɑ": "A:",
        "æ": "a",
        "ʌ": "V",
        "ɔː": "O:",
        "ɔ": "O:",
        "aʊ": "aU",
        "aɪ": "aI",
        "ɛ": "E",
        "ɜː": "3:",
        "ɝ": "3:",
        "eɪ": "eI",
        "ɪ": "I",
        "iː": "i:",
        "i": "i",
        "oʊ": "oU",
        "ɔɪ": "OI",
        "ʊ": "U",
        "uː": "u:",
        "u": "u:",
        "ə": "@",
        "ɐ": "a#",
        "ɚ": "3",
        "ᵻ": "I2",
        "əl": "@L",
        "ɑːɹ": "A@",
        "ɔːɹ": "o@",
        "oːɹ": "o@",
        "ɪɹ": "i@3",
        "ɛɹ": "e@",
        "ʊɹ": "U@",
        "aɪɚ": "aI3",
        "aɪə": "aI@",
        "iə": "i@",
        "e": "E",
        "o": "oU",
        "a": "a",
    }
)
_REDUCED = frozenset({"@", "a#", "3", "I2", "@L", "i"})
_ARPABET: Mapping[str, str] = MappingProxyType(ARPABET_TO_IPA)


def spelled(phone: str) -> str | None:
    """Return espeak-ng's mnemonic of an IPA or ARPAbet phone, or None where its en-us voice has none."""
    # ARPAbet is upper case or has a stress digit, IPA is neither, but for "b", "d" ... which are the same in both.
    ipa = _ARPABET.get(unstressed(phone), phone) if phone[:1].isupper() or phone[-1:].isdigit() else phone
    return _VOWELS.get(ipa) or _CONSONANTS.get(ipa)


def utterance(phones: Sequence[str], rng: np.random.Generator) -> str:
    """Return one sentence in mnemonics: words of about five phones, each stressed on its first full vowel.

    Args:
        phones: Phones that `spelled` knows.
        rng: Decides where words end; espeak-ng swallows phones of words that are much longer.
    """
    words: list[list[str]] = [[]]
    for phone in phones:
        mnemonic = spelled(phone)
        assert mnemonic is not None
        words[-1].append(mnemonic)
        if len(words[-1]) >= 2 and rng.random() < 0.3:
            words.append([])
    return " ".join(_word(word) for word in words if word) + " _:"


def _word(mnemonics: Sequence[str]) -> str:
    vowels = set(_VOWELS.values())
    stressed = next((i for i, m in enumerate(mnemonics) if m in vowels and m not in _REDUCED), None)
    # "|" keeps "t" and "S" from being read as the one mnemonic "tS".
    return "|".join(f"'{mnemonic}" if i == stressed else mnemonic for i, mnemonic in enumerate(mnemonics))
