"""`vert` and `auto_bleu`: how much a system repeats itself, within a clip and from clip to clip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from cdslm_eval import Better, Mean, SelfBleu, Statistic, Vert
from cdslm_eval.core.audio import Clip
from cdslm_eval.plugin.contract import Failed, Metric, Row, Skipped, Transcriber
from cdslm_eval.stats.bleu import auto_bleu
from cdslm_eval_asr.papers import GSLM
from cdslm_eval_asr.text import NormalizerOptions, check_language, facts, normalizer, unspaced

__all__ = ["AutoBleu", "VertMetric"]

ORDER = 2


class _Words(Metric):
    """The words of each transcript, and how much they repeat themselves."""

    version = "2"
    citation = (GSLM,)
    rows = "words@2"
    unit = "fraction"
    better: ClassVar[Better] = "lower"
    requires: ClassVar[Mapping[str, str]] = {"transformers": "transformers>=4.50"}
    needs = frozenset({"transcript"})
    batch_clips = 16
    positional = "normalizer"
    Options = NormalizerOptions

    def fingerprint(self) -> Mapping[str, str]:
        """Return the version of the normaliser."""
        return facts(self.options)

    def check_transcriber(self, transcriber: Transcriber) -> None:
        """Refuse the English normaliser where a transcriber writes another language."""
        check_language(self.name, self.options.normalizer, transcriber)

    def measure(self, clips: Sequence[Clip]) -> Iterator[Row | Skipped | Failed]:
        """Yield the normalised words of each clip; one without words is skipped."""
        clean = normalizer(self.options.normalizer)
        for clip in clips:
            if self.options.normalizer != "none" and (script := unspaced(clip.transcript or "")):
                yield Skipped(f"words are not spaced in {script} text")
                continue
            words = clean(clip.transcript or "").split()
            yield {"words": words, "auto_bleu": auto_bleu(words, ORDER)} if words else Skipped("nothing was said")


class VertMetric(_Words):
    """VERT-2 and self-BLEU-2 of transcripts: how much a system repeats itself; read them beside real speech's.

    Both grow with the number of clips: compare sets of one size.

    Source: Lakhotia et al. (2021), "On Generative Spoken Language Modeling from Raw Audio" (arXiv 2102.01192).
    """

    name = "vert"
    limits = "whether words that differ make sense"
    statistics: ClassVar[Mapping[str, Statistic]] = {
        "vert": Vert("words", ORDER, "auto_bleu"),
        "self_bleu": SelfBleu("words", ORDER),
    }


class AutoBleu(_Words):
    """Auto-BLEU-2 of transcripts: share of uni- and bigrams that a clip repeats, mean over clips.

    Source: Lakhotia et al. (2021), "On Generative Spoken Language Modeling from Raw Audio" (arXiv 2102.01192).
    """

    name = "auto_bleu"
    limits = "whether words that differ make sense"
    statistics: ClassVar[Mapping[str, Statistic]] = {"auto_bleu": Mean("auto_bleu")}
