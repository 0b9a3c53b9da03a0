"""Distances between embeddings of generated and of real speech, as a plugin of cdslm-eval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdslm_eval.plugin.hookspecs import hookimpl

if TYPE_CHECKING:
    from cdslm_eval.plugin.contract import Metric

__all__ = ["cdslm_metrics"]


@hookimpl
def cdslm_metrics() -> list[type[Metric]]:
    """Return the metrics of this plugin."""
    from cdslm_eval_embeddings.consistency import SpeakerConsistency
    from cdslm_eval_embeddings.sets import Diversity, Fad, Kad
    from cdslm_eval_embeddings.speaker import SpeakerSimilarity

    return [Fad, Kad, Diversity, SpeakerSimilarity, SpeakerConsistency]
