"""The recognizer `asr-phonemes`: phones of the words that a transcriber recognized."""

from __future__ import annotations

from cdslm_eval.builtin.recognizers.phonemize import PhonemizingRecognizer

__all__ = ["AsrPhonemes"]


class AsrPhonemes(PhonemizingRecognizer):
    """Phonemizes transcripts: far fewer errors than a phone recognizer, but a language model's words are invented."""

    name = "asr-phonemes"
    version = "2"
    needs = frozenset({"transcript"})
    field = "transcript"
    absent = "no transcript"
