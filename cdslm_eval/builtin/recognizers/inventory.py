"""Phone sets: the 39 ARPAbet phones of CMUdict in IPA, as the en-us voice of espeak-ng writes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

__all__ = ["ARPABET", "ARPABET_TO_IPA", "to_ipa", "unstressed"]

ARPABET_TO_IPA: Mapping[str, str] = MappingProxyType(
    {
        "AA": "ɑː",
        "AE": "æ",
        "AH": "ʌ",
        "AO": "ɔː",
        "AW": "aʊ",
        "AY": "aɪ",
        "B": "b",
        "CH": "tʃ",
        "D": "d",
        "DH": "ð",
        "EH": "ɛ",
        "ER": "ɜː",
        "EY": "eɪ",
        "F": "f",
        "G": "ɡ",
        "HH": "h",
        "IH": "ɪ",
        "IY": "iː",
        "JH": "dʒ",
        "K": "k",
        "L": "l",
        "M": "m",
        "N": "n",
        "NG": "ŋ",
        "OW": "oʊ",
        "OY": "ɔɪ",
        "P": "p",
        "R": "ɹ",
        "S": "s",
        "SH": "ʃ",
        "T": "t",
        "TH": "θ",
        "UH": "ʊ",
        "UW": "uː",
        "V": "v",
        "W": "w",
        "Y": "j",
        "Z": "z",
        "ZH": "ʒ",
    }
)
ARPABET = frozenset(ARPABET_TO_IPA)


def unstressed(phone: str) -> str:
    """Return an ARPAbet phone in upper case without its stress digit: "ah0" -> "AH"."""
    return phone.upper().rstrip("012")


def to_ipa(phones: Iterable[str]) -> list[str]:
    """Return ARPAbet phones in IPA.

    Args:
        phones: ARPAbet phones, with or without stress digits.

    Raises:
        KeyError: One of them is no ARPAbet phone.
    """
    return [ARPABET_TO_IPA[unstressed(phone)] for phone in phones]
