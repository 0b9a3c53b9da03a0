"""What generated speech says: a Whisper transcriber, and what is measured on its transcripts."""

from __future__ import annotations

from cdslm_eval import Metric, Recognizer, Transcriber, hookimpl
from cdslm_eval_asr.diversity import AutoBleu, VertMetric
from cdslm_eval_asr.errors_in_words import Cer, Wer
from cdslm_eval_asr.perplexity import GenPpl
from cdslm_eval_asr.phonemes import AsrPhonemes
from cdslm_eval_asr.whisper import Whisper

__all__ = [
    "AsrPhonemes",
    "AutoBleu",
    "Cer",
    "GenPpl",
    "VertMetric",
    "Wer",
    "Whisper",
    "cdslm_metrics",
    "cdslm_recognizers",
    "cdslm_transcribers",
]


@hookimpl
def cdslm_metrics() -> list[type[Metric]]:
    """Return what is measured on transcripts."""
    return [AutoBleu, Cer, GenPpl, VertMetric, Wer]


@hookimpl
def cdslm_recognizers() -> list[type[Recognizer]]:
    """Return the recognizer that phonemizes transcripts."""
    return [AsrPhonemes]


@hookimpl
def cdslm_transcribers() -> list[type[Transcriber]]:
    """Return the transcriber."""
    return [Whisper]
