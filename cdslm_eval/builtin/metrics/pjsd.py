"""pJSD: Jensen-Shannon divergence between phone n-grams of generated and of real speech."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from cdslm_eval import Better, JensenShannon, Statistic
from cdslm_eval.core.audio import Clip
from cdslm_eval.core.citation import Citation
from cdslm_eval.plugin.contract import Metric, Row
from cdslm_eval.stats.jsd import PhonemeJSD, phoneme_jsd

__all__ = ["PJSD", "PhonemeJSD", "phoneme_jsd"]


class PJSD(Metric):
    """Phoneme n-gram Jensen-Shannon divergence to a reference set, orders 1 to 5.

    Source: Ramapuram et al., "Scaling Properties of Continuous Diffusion Spoken Language Models", Interspeech 2026
    (arXiv 2604.24416), which states "phoneme n-gram JSD, n = 1..5"; base 2, pooled counts and no smoothing are ours.
    """

    name = "pjsd"
    limits = "whether a voice sounds natural, or a sentence makes sense: it counts phones in a row"
    version = "3"
    citation = (
        Citation(
            key="ramapuram2026scaling",
            title="Scaling Properties of Continuous Diffusion Spoken Language Models",
            authors=(
                "Ramapuram, Jason",
                "Dhekane, Eeshan Gunesh",
                "Shidani, Amitis",
                "Busbridge, Dan",
                "Mazoure, Bogdan",
                "Gu, Zijin",
                "Webb, Russ",
                "Likhomanenko, Tatiana",
                "Jaitly, Navdeep",
            ),
            year=2026,
            kind="inproceedings",
            venue="Interspeech 2026",
            arxiv="2604.24416",
        ),
        Citation(
            key="lin1991divergence",
            title="Divergence measures based on the Shannon entropy",
            authors=("Lin, Jianhua",),
            year=1991,
            kind="article",
            venue="IEEE Transactions on Information Theory",
            doi="10.1109/18.61115",
        ),
    )
    unit = "bits"
    better: ClassVar[Better] = "lower"
    needs = frozenset({"phones"})
    batch_clips = 4
    statistics: ClassVar[dict[str, Statistic]] = {"pjsd": JensenShannon("phones")}

    def measure(self, clips: Sequence[Clip]) -> Iterator[Row]:
        """Yield the recognized phones of each clip; the divergence is taken over all of them at once."""
        for clip in clips:
            yield {"phones": list(clip.phones or ())}
