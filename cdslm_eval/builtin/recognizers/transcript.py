"""Phones of the text of a clip: the reference pronunciation, free of recognition errors."""

from __future__ import annotations

from cdslm_eval.builtin.recognizers.phonemize import PhonemizingRecognizer

__all__ = ["TranscriptRecognizer"]


class TranscriptRecognizer(PhonemizingRecognizer):
    """Phonemizes `.txt` sidecars and the `text` column of manifests; does not read the audio.

    Where a manifest has a `language` column, each text is read by the voice of its language.
    """

    name = "transcript"
    version = "3"
    needs = frozenset({"text"})
    wants = frozenset({"language"})
    field = "text"
    absent = "no text beside the clip"
