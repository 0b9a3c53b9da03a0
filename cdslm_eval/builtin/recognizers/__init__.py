"""The built-in recognizers: audio, text or sidecar in, phones out."""

from __future__ import annotations

from cdslm_eval.builtin.recognizers.pocketsphinx import PocketsphinxRecognizer
from cdslm_eval.builtin.recognizers.sidecar import SidecarRecognizer
from cdslm_eval.builtin.recognizers.transcript import TranscriptRecognizer
from cdslm_eval.plugin.contract import Recognizer
from cdslm_eval.plugin.hookspecs import hookimpl

__all__ = ["cdslm_recognizers"]


@hookimpl
def cdslm_recognizers() -> list[type[Recognizer]]:
    """Return the built-in recognizers."""
    return [PocketsphinxRecognizer, SidecarRecognizer, TranscriptRecognizer]
