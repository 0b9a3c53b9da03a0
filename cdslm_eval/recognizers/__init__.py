"""The built-in recognizers: audio, text or sidecar in, phones out."""

from __future__ import annotations

from cdslm_eval.contract import Recognizer
from cdslm_eval.hookspecs import hookimpl
from cdslm_eval.recognizers.pocketsphinx import PocketsphinxRecognizer
from cdslm_eval.recognizers.sidecar import SidecarRecognizer
from cdslm_eval.recognizers.transcript import TranscriptRecognizer
from cdslm_eval.recognizers.wav2vec2 import Wav2vec2Recognizer

__all__ = ["cdslm_recognizers"]


@hookimpl
def cdslm_recognizers() -> list[type[Recognizer]]:
    """Return the built-in recognizers."""
    return [PocketsphinxRecognizer, SidecarRecognizer, TranscriptRecognizer, Wav2vec2Recognizer]
