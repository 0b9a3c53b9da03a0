"""Phones from text: sidecars or manifests through phonemizer and the bundled espeak-ng."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version

from cdslm_eval.audio import Clip
from cdslm_eval.contract import Options, Recognizer
from cdslm_eval.errors import UsageError

__all__ = ["TranscriptRecognizer", "phonemize"]

_STRESS = str.maketrans("", "", "ˈˌ")


class TranscriptOptions(Options):
    """Options of the transcript recognizer."""

    language: str = "en-us"


class TranscriptRecognizer(Recognizer):
    """Phones of a clip's text as espeak-ng pronounces it: what was meant, where the audio is not asked.

    IPA without stress marks.
    """

    name = "transcript"
    version = "1"
    licence = "GPL-3.0-or-later"
    inventory = "ipa"
    needs = frozenset({"text"})
    batch_clips = 64
    positional = "language"
    Options = TranscriptOptions

    def fingerprint(self) -> Mapping[str, str]:
        """Return the versions of phonemizer and of the bundled espeak-ng."""
        return {"phonemizer": version("phonemizer"), "espeakng_loader": version("espeakng-loader")}

    def recognize(self, clips: Sequence[Clip]) -> Iterator[list[str]]:
        """Yield the phones of each clip's text."""
        yield from phonemize([clip.text or "" for clip in clips], self.options.language)


def phonemize(texts: Sequence[str], language: str = "en-us") -> list[list[str]]:
    """Return the IPA phones of each text, without stress.

    Args:
        texts: What is said.
        language: An espeak-ng language, such as "en-us".

    Raises:
        UsageError: espeak-ng does not know the language.
    """
    import espeakng_loader
    from phonemizer.backend import EspeakBackend
    from phonemizer.backend.espeak.wrapper import EspeakWrapper
    from phonemizer.separator import Separator

    # the process dies when the library is set and its data is not
    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    quiet = logging.getLogger("cdslm_eval.phonemizer")
    quiet.setLevel(logging.CRITICAL)
    try:
        backend = EspeakBackend(language, with_stress=False, language_switch="remove-flags", logger=quiet)
    except RuntimeError as error:
        raise UsageError(f"espeak-ng does not know the language {language!r}") from error
    lines = [" ".join(text.split()) for text in texts]
    spoken = backend.phonemize([line or "." for line in lines], separator=Separator(phone=" ", word=" | ", syllable=""))
    found = []
    for line, phones in zip(lines, spoken, strict=True):
        symbols = (symbol.translate(_STRESS) for symbol in phones.replace("|", " ").split())
        found.append([symbol for symbol in symbols if symbol] if line else [])
    return found
