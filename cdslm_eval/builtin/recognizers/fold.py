"""IPA symbols folded to the 39 ARPAbet phones of CMUdict."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType

from cdslm_eval.builtin.recognizers.inventory import ARPABET, unstressed

__all__ = ["arpabet", "is_phone", "to_arpabet"]

# One key per ARPAbet phone: the IPA letters of English dictionaries and of espeak-ng, and the nearest English phone for
# letters of other languages, which multilingual vocabularies have and English clips rarely get.
_IPA: Mapping[str, str] = MappingProxyType(
    {
        "AA": "ɑ ɒ a ä à å",
        "AE": "æ",
        "AH": "ʌ ə ɐ ɘ ᵊ ɤ",
        "AO": "ɔ",
        "AW": "aʊ",
        "AY": "aɪ",
        "B": "b ɓ β ʙ",
        "CH": "tʃ tɕ tʂ",
        "D": "d ɖ ɗ",
        "DH": "ð",
        "EH": "ɛ œ",
        "ER": "ɝ ɚ ɜ ɵ",
        "EY": "eɪ e ø",
        "F": "f ɸ",
        "G": "ɡ g ɢ ɣ ɰ",
        "HH": "h ħ ɦ x χ",
        "IH": "ɪ ɨ ᵻ ʏ",
        "IY": "i y ì ǐ",
        "JH": "dʒ ɟ dʑ dʐ",
        "K": "k c q",
        "L": "l ɫ ɮ ʎ ɭ ɬ",
        "M": "m ɱ",
        "N": "n ɲ ɴ ɳ",
        "NG": "ŋ",
        "OW": "oʊ o əʊ",
        "OY": "ɔɪ",
        "P": "p",
        "R": "ɹ r ɻ ɽ ʀ ʁ",
        "S": "s",
        "SH": "ʃ ʂ ɕ ç",
        "T": "t ʈ ɾ",
        "TH": "θ",
        "UH": "ʊ",
        "UW": "u ʉ ɯ",
        "V": "v ʋ",
        "W": "w ʍ ɥ",
        "Y": "j ʝ",
        "Z": "z",
        "ZH": "ʒ ʐ ʑ",
    }
)
_TO_ARPABET = {letters: phone for phone, symbols in _IPA.items() for letters in symbols.split()}
_LONGEST = max(map(len, _TO_ARPABET))
_HAN = 0x3000  # CJK signs stray into vocabularies that were collected from dictionaries; letters from here on are none


def is_phone(symbol: str) -> bool:
    """Return whether a vocabulary entry is a phone: a letter, and no special, mark, tone, digit or punctuation."""
    return bool(_letters(symbol)) and not (symbol[0] in "<[" and symbol[-1] in ">]")


@cache
def arpabet(symbol: str) -> tuple[str, ...]:
    """Return an IPA or ARPAbet symbol as ARPAbet phones; () for a mark, a tone or the glottal stop.

    Args:
        symbol: One entry of a vocabulary, such as "t͡ʃ", "oː", "AH0" or "eə" (which becomes two phones).

    Raises:
        KeyError: It holds a letter that the table does not know.

    Example:
        >>> arpabet("t͡ʃ"), arpabet("eə"), arpabet("ˈ")
        (('CH',), ('EY', 'AH'), ())
    """
    if (plain := unstressed(symbol)) in ARPABET and symbol.isascii() and symbol[0].isupper():
        return (plain,)
    letters = _letters(symbol).replace("ʔ", "")
    phones: list[str] = []
    while letters:
        size = next((size for size in range(_LONGEST, 0, -1) if letters[:size] in _TO_ARPABET), None)
        if size is None:
            raise KeyError(letters[0])
        phones.append(_TO_ARPABET[letters[:size]])
        letters = letters[size:]
    return tuple(phones)


def to_arpabet(symbols: Iterable[str]) -> list[str]:
    """Return IPA or ARPAbet symbols as ARPAbet phones, marks dropped.

    Raises:
        KeyError: A symbol holds a letter without an English phone.
    """
    return [phone for symbol in symbols for phone in arpabet(symbol)]


def _letters(symbol: str) -> str:
    """Return the letters of a symbol without stress, length, tie bars and diacritics."""
    plain = unicodedata.normalize("NFD", symbol)
    return "".join(sign for sign in plain if unicodedata.category(sign) in {"Ll", "Lu", "Lo"} and ord(sign) < _HAN)
