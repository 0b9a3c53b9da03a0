"""The recognizer `asr-phonemes`: phones of what a transcriber heard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import ClassVar

from cdslm_eval.core.audio import Clip
from cdslm_eval.plugin.contract import Failed, Options, Recognizer, Skipped

__all__ = ["AsrPhonemes", "AsrPhonemesOptions"]


class AsrPhonemesOptions(Options):
    """Options of `asr-phonemes`.

    Attributes:
        language: espeak-ng's name of the language.
    """

    language: str = "en-us"


class AsrPhonemes(Recognizer):
    """Phonemizes transcripts: far fewer errors than a phone recognizer, but words that were not said are invented."""

    name = "asr-phonemes"
    version = "1"
    requires: ClassVar[Mapping[str, str]] = {
        "phonemizer": "phonemizer>=3.3",
        "espeakng_loader": "espeakng-loader>=0.2.4",
    }
    inventory = "ipa"
    needs = frozenset({"transcript"})
    positional = "language"
    batch_clips = 64
    Options = AsrPhonemesOptions

    def fingerprint(self) -> Mapping[str, str]:
        """Return the versions of phonemizer and of the wheel that holds espeak-ng."""
        return {name: version(name) for name in ("phonemizer", "espeakng-loader")}

    def recognize(self, clips: Sequence[Clip]) -> Iterator[Sequence[str] | Skipped | Failed]:
        """Yield the IPA phones of each transcript; none where nothing was said."""
        from cdslm_eval.builtin.recognizers.phonemize import phonemize

        known = [clip.transcript for clip in clips if clip.transcript is not None]
        spoken = iter(phonemize(known, self.options.language) if known else ())
        for clip in clips:
            yield Skipped("no transcript") if clip.transcript is None else next(spoken)
