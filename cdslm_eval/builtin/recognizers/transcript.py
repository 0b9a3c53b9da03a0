"""Phones of the text beside a clip: what was meant to be said, free of recognition errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import ClassVar

from cdslm_eval.builtin.recognizers.phonemize import phonemize
from cdslm_eval.core.audio import Clip
from cdslm_eval.plugin.contract import Failed, Options, Recognizer, Skipped

__all__ = ["TranscriptOptions", "TranscriptRecognizer"]


class TranscriptOptions(Options):
    """Options of `transcript`.

    Attributes:
        language: espeak-ng's name of the language of the texts.
    """

    language: str = "en-us"


class TranscriptRecognizer(Recognizer):
    """Phonemizes `.txt` sidecars and the `text` column of manifests; the audio is not heard."""

    name = "transcript"
    version = "1"
    requires: ClassVar[Mapping[str, str]] = {
        "phonemizer": "phonemizer>=3.3",
        "espeakng_loader": "espeakng-loader>=0.2.4",
    }
    inventory = "ipa"
    needs = frozenset({"text"})
    positional = "language"
    batch_clips = 64
    Options = TranscriptOptions

    def fingerprint(self) -> Mapping[str, str]:
        """Return the versions of phonemizer and of the wheel that holds espeak-ng."""
        return {name: version(name) for name in ("phonemizer", "espeakng-loader")}

    def recognize(self, clips: Sequence[Clip]) -> Iterator[Sequence[str] | Skipped | Failed]:
        """Yield the IPA phones of each clip's text."""
        spoken = iter(phonemize([clip.text for clip in clips if clip.text is not None], self.options.language))
        for clip in clips:
            yield Skipped("no text beside the clip") if clip.text is None else next(spoken)
