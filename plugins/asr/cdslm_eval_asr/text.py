"""Text normalisation, so that spelling, case and punctuation do not count as errors."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from typing import Any, Literal

from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.languages import primary_subtag
from cdslm_eval.plugin.contract import Options, Transcriber

__all__ = ["NormalizerOptions", "check_language", "facts", "normalizer", "normalizer_for", "unspaced"]

Name = Literal["auto", "english", "basic", "none"]
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
"""Scripts without spaces between words, by the first word of the Unicode names of their letters."""


class NormalizerOptions(Options):
    """Options of metrics that read words.

    Attributes:
        normalizer: "english": Whisper's English normaliser (case, punctuation, contractions, numbers, fillers), with no
            table of British spellings; "basic": for any language (case, punctuation, symbols), which keeps the marks
            that spell vowels in Thai or Hindi; "auto": "english" for texts in Latin letters, "basic" for others and
            for clips whose manifest names another language than English; "none".
    """

    normalizer: Name = "auto"


def facts(options: NormalizerOptions) -> Mapping[str, str]:
    """Return what of the normalisation can move a number beside its name."""
    return {} if options.normalizer == "none" else {"transformers": version("transformers")}


def check_language(metric: str, name: Name, transcriber: Transcriber) -> None:
    """Refuse the English normaliser where a transcriber writes another language.

    Raises:
        UsageError: It does so.
    """
    options = transcriber.options
    language = str(getattr(options, "language", "en")).lower()
    english = language.partition("-")[0] in ("en", "english") or getattr(options, "task", "") == "translate"
    if name in ("auto", "english") and not english:
        raise UsageError(
            f"{metric}: normalizer={name} is for English, and {transcriber.name} transcribes {language!r}. "
            f"Use: {metric}:normalizer=basic"
        )


def normalizer_for(name: Name, language: str | None) -> Callable[[str], str]:
    """Return the function that normalises a text whose language may be known, as an ISO 639 code.

    Under "auto", a text that is known not to be English is normalised by "basic", whatever its letters.
    """
    english = language is None or primary_subtag(language) in ("en", "eng")
    return normalizer("basic" if name == "auto" and not english else name)


@cache
def normalizer(name: Name) -> Callable[[str], str]:
    """Return the function that normalises a text.

    Source: Radford et al. (2023), "Robust Speech Recognition via Large-Scale Weak Supervision", appendix C; "basic"
    differs from theirs in that it keeps combining marks.
    """
    if name == "none":
        return lambda text: " ".join(text.split())
    if name == "basic":
        return _basic
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    english: Any = EnglishTextNormalizer  # it carries no types
    clean = english({})
    if name == "auto":
        return lambda text: " ".join(clean(text).split()) if _is_latin(text) else _basic(text)
    return lambda text: " ".join(clean(text).split())


def unspaced(text: str) -> str:
    """Return the script of a text whose words are not separated by spaces, such as "Thai"; "" for others."""
    letters = [unicodedata.name(character, "").partition(" ")[0] for character in text if character.isalpha()]
    scripts = [name for name in letters if name in _UNSPACED]
    if 2 * len(scripts) <= len(letters):
        return ""
    name = max(_UNSPACED, key=scripts.count)
    return "Chinese" if name == "CJK" else name.capitalize()


def _is_latin(text: str) -> bool:
    """Return whether at least half of the letters of a text are Latin."""
    letters = [character for character in text if character.isalpha()]
    return 2 * sum(unicodedata.name(character, "").startswith("LATIN") for character in letters) >= len(letters)


def _basic(text: str) -> str:
    """Return a text in lower case, without what is in brackets, punctuation, symbols and invisible characters."""
    text = re.sub(r"[<\[][^>\]]*[>\]]|\([^)]+?\)", "", unicodedata.normalize("NFKC", text).lower())
    characters = []
    for character in text:
        category = unicodedata.category(character)
        # marks stay, because they spell vowels; joiners are invisible, and transcribers differ in them
        if category != "Cf":
            characters.append(" " if category[0] in "SPC" else character)
    return " ".join("".join(characters).split())
