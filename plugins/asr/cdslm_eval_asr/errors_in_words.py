"""`wer` and `cer`: how far the transcript is from the text that was to be spoken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, ClassVar

from cdslm_eval import Better, RatioOfSums, Statistic
from cdslm_eval.core.audio import Clip
from cdslm_eval.plugin.contract import Failed, Metric, Row, Skipped, Transcriber
from cdslm_eval_asr.text import NormalizerOptions, check_language, facts, normalizer_for, unspaced

__all__ = ["Cer", "Wer"]


class _ErrorRate(Metric):
    """Edit operations over the length of the reference, both summed over all clips."""

    version = "3"
    unit = "fraction"
    better: ClassVar[Better] = "lower"
    requires: ClassVar[Mapping[str, str]] = {"jiwer": "jiwer>=3.1", "transformers": "transformers>=4.50"}
    needs = frozenset({"transcript"})
    wants = frozenset({"text", "reference_text", "language"})
    batch_clips = 16
    positional = "normalizer"
    Options = NormalizerOptions
    of: ClassVar[str]

    def fingerprint(self) -> Mapping[str, str]:
        """Return the versions of jiwer and of the normaliser."""
        return {"jiwer": version("jiwer"), **facts(self.options)}

    def check_transcriber(self, transcriber: Transcriber) -> None:
        """Refuse the English normaliser where a transcriber writes another language."""
        check_language(self.name, self.options.normalizer, transcriber)

    def measure(self, clips: Sequence[Clip]) -> Iterator[Row | Skipped | Failed]:
        """Yield errors and length of each clip; its reference is the text beside it, else that of its paired clip."""
        for clip in clips:
            clean = normalizer_for(self.options.normalizer, clip.language)
            known = clip.text if clip.text is not None else clip.reference.text if clip.reference else None
            if known is None or clip.transcript is None:
                yield Skipped("no text beside the clip" if known is None else "no transcript")
                continue
            if self.of == "words" and self.options.normalizer != "none" and (script := unspaced(known)):
                yield Skipped(f"words are not spaced in {script} text; use: cer")
                continue
            reference, heard = clean(known), clean(clip.transcript)
            yield self._counts(reference, heard) if reference else Skipped("the text beside the clip says nothing")

    def _counts(self, reference: str, heard: str) -> Row:
        import jiwer

        process: Any = {"words": jiwer.process_words, "characters": jiwer.process_characters}[self.of]
        alignment = process(reference, heard)
        errors = alignment.substitutions + alignment.deletions + alignment.insertions
        return {
            "errors": errors,
            self.of: alignment.hits + alignment.substitutions + alignment.deletions,
            "substitutions": alignment.substitutions,
            "deletions": alignment.deletions,
            "insertions": alignment.insertions,
            "reference": reference,
            "heard": heard,
        }


class Wer(_ErrorRate):
    """Word error rate of the transcript against the text: edits over reference words, summed over clips."""

    name = "wer"
    limits = "anything of clips without a text; errors of the transcriber are in it"
    of = "words"
    statistics: ClassVar[Mapping[str, Statistic]] = {"wer": RatioOfSums("errors", "words")}


class Cer(_ErrorRate):
    """Character error rate of the transcript against the text: edits over reference characters, summed over clips."""

    name = "cer"
    limits = "anything of clips without a text; errors of the transcriber are in it"
    of = "characters"
    statistics: ClassVar[Mapping[str, Statistic]] = {"cer": RatioOfSums("errors", "characters")}
