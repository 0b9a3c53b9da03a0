"""Text to IPA phones through phonemizer and the espeak-ng that espeakng-loader bundles."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import ClassVar, Literal

from cdslm_eval.core.audio import Clip
from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.contract import Failed, Options, Recognizer, Skipped

__all__ = ["SPEECH_EXTRA", "LanguageOptions", "PhonemizingRecognizer", "phonemize"]

SPEECH_EXTRA = "cdslm-eval[speech]"
"""Requirement that installs phonemizer and espeak-ng; they are GPL-3.0, so the base install is without them."""


class LanguageOptions(Options):
    """Options of recognizers that phonemize text.

    Attributes:
        language: espeak-ng's name of the language of the texts.
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
        """Yield the IPA phones of each clip's text; none for a text without words."""
        texts: list[str | None] = [getattr(clip, self.field) for clip in clips]
        phones = iter(phonemize([text for text in texts if text is not None], self.options.language))
        for text in texts:
            yield Skipped(self.absent) if text is None else next(phones)


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
    try:
        import espeakng_loader
        from phonemizer.backend import EspeakBackend
        from phonemizer.backend.espeak.wrapper import EspeakWrapper
        from phonemizer.separator import Separator
    except ModuleNotFoundError as error:
        raise UsageError(f"text cannot be phonemized: {error}. Install: pip install {SPEECH_EXTRA!r}") from error

    # Both are needed: with the library alone espeak-ng looks for its data where it was built, and ends the process.
    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    logger = logging.getLogger("cdslm_eval.phonemizer")
    logger.setLevel(logging.CRITICAL)
    if not EspeakBackend.is_supported_language(language):
        raise UsageError(f"espeak-ng knows no language {language!r}; 'espeak-ng --voices' lists names such as 'en-us'")
    backend = EspeakBackend(
        language, with_stress=False, language_switch="remove-flags", words_mismatch="ignore", logger=logger
    )
    lines = backend.phonemize(
        [" ".join(text.split()) for text in texts],
        separator=Separator(phone=" ", word="\t", syllable=""),
        strip=True,
    )
    return [line.split() for line in lines]
