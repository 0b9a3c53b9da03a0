"""Text to IPA phones through phonemizer and the espeak-ng that espeakng-loader bundles."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from cdslm_eval.core.errors import UsageError

__all__ = ["phonemize"]


def phonemize(texts: Sequence[str], language: str = "en-us") -> list[list[str]]:
    """Return the IPA phones of each text, without stress and word boundaries; [] for a text that says nothing.

    Args:
        texts: One text per utterance, at once (a call costs more than a text).
        language: espeak-ng's name of the language.

    Returns:
        One list of phones per text, in order.

    Raises:
        UsageError: espeak-ng does not know the language.
    """
    import espeakng_loader
    from phonemizer.backend import EspeakBackend
    from phonemizer.backend.espeak.wrapper import EspeakWrapper
    from phonemizer.separator import Separator

    # Both are needed: with the library alone espeak-ng looks for its data where it was built, and ends the process.
    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    quiet = logging.getLogger("cdslm_eval.phonemizer")
    quiet.setLevel(logging.CRITICAL)
    if not EspeakBackend.is_supported_language(language):
        raise UsageError(f"espeak-ng knows no language {language!r}; 'espeak-ng --voices' lists names such as 'en-us'")
    backend = EspeakBackend(
        language, with_stress=False, language_switch="remove-flags", words_mismatch="ignore", logger=quiet
    )
    spoken = backend.phonemize(
        [" ".join(text.split()) for text in texts],
        separator=Separator(phone=" ", word="\t", syllable=""),
        strip=True,
    )
    return [line.split() for line in spoken]
