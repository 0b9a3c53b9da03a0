"""Phones of the text of a clip: the reference pronunciation, free of recognition errors."""

from __future__ import annotations

from cdslm_eval.builtin.recognizers.phonemize import PhonemizingRecognizer

__all__ = ["TranscriptRecognizer"]


class TranscriptRecognizer(PhonemizingRecognizer):
    """Phonemizes `.txt` sidecars and the `text` column of manifests; does not read the audio."""

    name = "transcript"
    version = "2"
    needs = frozenset({"text"})
    field = "text"
    absent = "no text beside the clip"
