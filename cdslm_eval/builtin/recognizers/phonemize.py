"""Text to IPA phones through phonemizer and the espeak-ng that espeakng-loader bundles."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any, ClassVar, Literal

from cdslm_eval.core.audio import Clip
from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.languages import primary_subtag
from cdslm_eval.plugin.contract import Failed, Options, Recognizer, Skipped

__all__ = ["SPEECH_EXTRA", "LanguageOptions", "PhonemizingRecognizer", "phonemize", "voice_of"]

SPEECH_EXTRA = "cdslm-eval[speech]"
"""Requirement that installs phonemizer and espeak-ng; they are GPL-3.0, so the base install is without them."""
MAX_WORDS = 150
"""Spoken words between two pauses that espeak-ng gets at once: it loses words beyond about 300 without a message."""

_SCRIPTS: Mapping[str, str] = {
    **dict.fromkeys(("ar", "fa", "ku", "sd", "ug", "ur"), "ARABIC"),
    **dict.fromkeys(("am", "ti"), "ETHIOPIC"),
    **dict.fromkeys(("as", "bn", "bpy"), "BENGALI"),
    **dict.fromkeys(["ba", "be", "bg", "cv", "kaa", "kk", "ky", "mk", "nog", "ru", "sr", "tt", "uk"], "CYRILLIC"),
    **dict.fromkeys(("cmn", "hak", "yue"), "CJK"),
    **dict.fromkeys(("el", "grc"), "GREEK"),
    **dict.fromkeys(("hi", "kok", "mr", "ne"), "DEVANAGARI"),
    **dict.fromkeys(("hy", "hyw"), "ARMENIAN"),
    **dict.fromkeys(("my", "shn"), "MYANMAR"),
    "chr": "CHEROKEE",
    "gu": "GUJARATI",
    "he": "HEBREW",
    "ja": "HIRAGANA KATAKANA CJK",
    "ka": "GEORGIAN",
    "kn": "KANNADA",
    "ko": "HANGUL",
    "ml": "MALAYALAM",
    "or": "ORIYA",
    "pa": "GURMUKHI",
    "si": "SINHALA",
    "ta": "TAMIL",
    "te": "TELUGU",
    "th": "THAI",
}
"""Primary language -> scripts that its voice reads beside Latin, by the first words of their letters' Unicode names."""
_VOICES: Mapping[str, str] = {
    "en": "en-us",
    "fr": "fr-fr",
    "nn": "nb",
    "no": "nb",
    "zh": "cmn",
    "zh-hk": "yue",
}
"""Language -> voice, where espeak-ng calls it otherwise than ISO 639."""
_KNOWN_SCRIPTS = frozenset(" ".join(_SCRIPTS.values()).split())
_PAUSE = re.compile(r"[.,;:!?\u3002\uff0c\u0964]$")


class LanguageOptions(Options):
    """Options of recognizers that phonemize text.

    Attributes:
        language: espeak-ng's name of the language of the texts; where a text has a language of its own, that one's
            voice reads it.
    """

    language: str = "en-us"


class PhonemizingRecognizer(Recognizer):
    """Phones of a text that a clip carries; a subclass names the field of the clip that holds it."""

    requires: ClassVar[Mapping[str, str]] = {"phonemizer": SPEECH_EXTRA, "espeakng_loader": SPEECH_EXTRA}
    inventory = "ipa"
    positional = "language"
    batch_clips = 64
    Options = LanguageOptions
    field: ClassVar[Literal["text", "transcript"]]
    absent: ClassVar[str]

    def fingerprint(self) -> Mapping[str, str]:
        """Return the versions of phonemizer and of the wheel that holds espeak-ng."""
        return {name: version(name) for name in ("phonemizer", "espeakng-loader")}

    def recognize(self, clips: Sequence[Clip]) -> Iterator[Sequence[str] | Skipped | Failed]:
        """Yield the IPA phones of each clip's text; none for a text without words.

        A text in a script that the voice does not read is skipped: espeak-ng would read "Chinese letter" for each sign.
        """
        texts: list[str | None] = [getattr(clip, self.field) for clip in clips]
        voices = [self._voice(clip) for clip in clips]
        skipped = [self._why_not(clip, text, voice) for clip, text, voice in zip(clips, texts, voices, strict=True)]
        rows: list[list[str]] = [[] for _ in clips]
        for voice in dict.fromkeys(voices):
            numbers = [number for number, other in enumerate(voices) if other == voice and not skipped[number]]
            for number, phones in zip(numbers, phonemize([texts[n] or "" for n in numbers], voice), strict=True):
                rows[number] = phones
        yield from (Skipped(reason) if reason else row for reason, row in zip(skipped, rows, strict=True))

    def _voice(self, clip: Clip) -> str:
        """Return the voice that reads a clip's text; "" where there is none for its language."""
        if "language" not in self.wants or clip.language is None:
            return str(self.options.language)
        return voice_of(clip.language, self.options.language)

    def _why_not(self, clip: Clip, text: str | None, voice: str) -> str:
        if text is None:
            return self.absent
        if not voice:
            return f"espeak-ng has no voice for the language {clip.language!r}"
        script = foreign_script(text, voice)
        return f"text in {script} letters, which the voice {voice} does not read" if script else ""


def voice_of(language: str, preferred: str = "en-us") -> str:
    """Return espeak-ng's voice for a language; "" where it has none.

    Args:
        language: ISO 639 code, such as "de" or "pt-BR".
        preferred: The voice that is taken where it is of that language, and `language` names no region.

    Example:
        >>> voice_of("pt-BR"), voice_of("zh"), voice_of("en", "en-gb"), voice_of("tlh")
        ('pt-br', 'cmn', 'en-gb', '')
    """
    tag, primary = language.strip().lower().replace("_", "-"), primary_subtag(language)
    if tag == primary == primary_subtag(preferred):
        return preferred
    names = (tag, _VOICES.get(tag, ""), primary, _VOICES.get(primary, ""))
    known = _espeak_voices()
    return next((known[name] for name in names if name in known), "")


@cache
def _espeak_voices() -> dict[str, str]:
    """Return the voices of espeak-ng by their names in small letters."""
    return {name.lower(): name for name in _espeak().supported_languages()}


def phonemize(texts: Sequence[str], language: str = "en-us") -> list[list[str]]:
    """Return the IPA phones of each text, without stress and word boundaries; [] for a text without words.

    Args:
        texts: One text per utterance, at once (a call costs more than a text).
        language: espeak-ng's name of the language.

    Returns:
        One list of phones per text, in order.

    Raises:
        UsageError: phonemizer is not installed, or espeak-ng does not know the language.
    """
    if not texts:
        return []
    backend_type = _espeak()
    from phonemizer.separator import Separator

    logger = logging.getLogger("cdslm_eval.phonemizer")
    logger.setLevel(logging.CRITICAL)
    if not backend_type.is_supported_language(language):
        raise UsageError(f"espeak-ng knows no language {language!r}; 'espeak-ng --voices' lists names such as 'en-us'")
    backend = backend_type(
        language, with_stress=False, language_switch="remove-flags", words_mismatch="ignore", logger=logger
    )
    pieces = [_pieces(text) for text in texts]
    lines = iter(
        backend.phonemize(
            [piece for of_text in pieces for piece in of_text],
            separator=Separator(phone=" ", word="\t", syllable=""),
            strip=True,
        )
    )
    return [[phone for _ in of_text for phone in next(lines).split()] for of_text in pieces]


def _espeak() -> Any:
    """Return phonemizer's backend for the espeak-ng of its loader's wheel.

    Raises:
        UsageError: phonemizer is not installed.
    """
    try:
        import espeakng_loader
        from phonemizer.backend import EspeakBackend
        from phonemizer.backend.espeak.wrapper import EspeakWrapper
    except ModuleNotFoundError as error:
        raise UsageError(f"text cannot be phonemized: {error}. Install: pip install {SPEECH_EXTRA!r}") from error

    # Both are needed: with the library alone espeak-ng looks for its data where it was built, and ends the process.
    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    return EspeakBackend


def foreign_script(text: str, language: str) -> str:
    """Return the script of most letters of a text where a voice does not read it, such as "Hiragana", or "".

    Args:
        text: The text.
        language: espeak-ng's name of the voice; a voice of no known script is taken to read Latin letters.
    """
    readable = {"LATIN", *_SCRIPTS.get(language.lower().partition("-")[0], "").split()}
    letters = Counter(
        unicodedata.name(character, "").partition(" ")[0]
        for character in text
        if not character.isascii() and unicodedata.category(character).startswith("L")
    )
    n_latin = sum(character.isascii() and character.isalpha() for character in text)
    foreign = Counter({name: n for name, n in letters.items() if name in _KNOWN_SCRIPTS and name not in readable})
    if foreign.total() * 2 <= letters.total() + n_latin:
        return ""
    name = foreign.most_common(1)[0][0]
    return "Chinese" if name == "CJK" else name.capitalize()


def _pieces(text: str) -> list[str]:
    """Return a text without control characters, cut between words where it has no pause for `MAX_WORDS` words."""
    # espeak-ng ends a text at its first NUL; surrogates cannot be encoded
    text = "".join(" " if unicodedata.category(character) in ("Cc", "Cs") else character for character in text)
    pieces: list[list[str]] = [[]]
    n_words = 0
    for word in text.split():
        # hyphens separate words, and a digit is read as up to three of them
        n_spoken = len(re.findall(r"[^\W\d]+", word)) + 3 * sum(character.isdigit() for character in word)
        if n_words and n_words + n_spoken > MAX_WORDS:
            pieces.append([])
            n_words = 0
        pieces[-1].append(word)
        n_words = 0 if _PAUSE.search(word) else n_words + n_spoken
    return [" ".join(piece) for piece in pieces]
