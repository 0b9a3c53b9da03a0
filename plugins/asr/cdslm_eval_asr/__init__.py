"""Speech recognition for cdslm-eval: Whisper transcribers, metrics of transcripts and languages, phone recognizers."""

from __future__ import annotations

from cdslm_eval import Metric, Recognizer, Transcriber, hookimpl
from cdslm_eval_asr.diversity import AutoBleu, VertMetric
from cdslm_eval_asr.errors_in_words import Cer, Wer
from cdslm_eval_asr.faster_whisper import FasterWhisper
from cdslm_eval_asr.language_consistency import LanguageConsistency
from cdslm_eval_asr.languages import LanguageIdentifier
from cdslm_eval_asr.perplexity import GenPpl
from cdslm_eval_asr.phonemes import AsrPhonemes
from cdslm_eval_asr.wav2vec2 import Wav2vec2Recognizer
from cdslm_eval_asr.whisper import Whisper

__all__ = [
    "AsrPhonemes",
    "AutoBleu",
    "Cer",
    "FasterWhisper",
    "GenPpl",
    "LanguageConsistency",
    "LanguageIdentifier",
    "VertMetric",
    "Wav2vec2Recognizer",
    "Wer",
    "Whisper",
    "cdslm_metrics",
    "cdslm_recognizers",
    "cdslm_transcribers",
]


@hookimpl
def cdslm_metrics() -> list[type[Metric]]:
    """Return the metrics of transcripts, and of languages over time."""
    return [AutoBleu, Cer, GenPpl, LanguageConsistency, VertMetric, Wer]


@hookimpl
def cdslm_recognizers() -> list[type[Recognizer]]:
    """Return the recognizers: phones of transcripts, and phones by a CTC checkpoint."""
    return [AsrPhonemes, Wav2vec2Recognizer]


@hookimpl
def cdslm_transcribers() -> list[type[Transcriber]]:
    """Return the transcribers."""
    return [Whisper, FasterWhisper]
