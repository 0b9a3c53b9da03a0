"""Measures how much of a clip's phone sequence repeats what the clip has said before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from cdslm_eval import RatioOfSums, Statistic
from cdslm_eval.core.audio import Clip
from cdslm_eval.core.citation import Citation
from cdslm_eval.plugin.contract import Metric, Options, Row

__all__ = ["Repetition", "RepetitionOptions"]


class RepetitionOptions(Options):
    """Options of `repetition`.

    Attributes:
        n: Phones of an n-gram, 2..20.
    """

    n: int = Field(5, ge=2, le=20)


class Repetition(Metric):
    """Share of phone n-grams that occurred before in the same clip: near 0 in speech, near 1 in a loop.

    Longer clips repeat more by chance alone: compare clips of one length, or measure windows (`--windows 10s`), where a
    rising share shows a model that falls into a loop.

    Source: Welleck et al. (2020), "Neural Text Generation with Unlikelihood Training", section 6 (seq-rep-n).
    """

    name = "repetition"
    version = "1"
    limits = "whether what is said makes sense: nonsense that never recurs has the lowest value"
    positional = "n"
    needs = frozenset({"phones"})
    batch_clips = 4
    Options = RepetitionOptions
    citation = (
        Citation(
            key="welleck2020neural",
            title="Neural Text Generation with Unlikelihood Training",
            authors=("Welleck, Sean", "others"),
            year=2020,
            kind="inproceedings",
            venue="ICLR 2020",
            arxiv="1908.04319",
        ),
    )
    statistics: ClassVar[Mapping[str, Statistic]] = {"repetition": RatioOfSums("repeated", "ngrams", unit="fraction")}

    def measure(self, clips: Sequence[Clip]) -> Iterator[Row]:
        """Yield the n-grams of each clip, and how many of them occurred before in it."""
        n = self.options.n
        for clip in clips:
            phones = clip.phones or ()
            ngrams = [phones[start : start + n] for start in range(len(phones) - n + 1)]
            yield {"repeated": len(ngrams) - len(set(ngrams)), "ngrams": len(ngrams)}
