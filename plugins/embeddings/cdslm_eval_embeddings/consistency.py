"""`speaker_consistency`: whether a clip keeps one voice from its beginning to its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, Field

from cdslm_eval import Better, Mean, Statistic
from cdslm_eval.core.audio import Clip, Samples
from cdslm_eval.core.levels import is_silent
from cdslm_eval.plugin.contract import Row, Skipped
from cdslm_eval.plugin.models import unusable_reason
from cdslm_eval_embeddings.encoder import RATE_HZ
from cdslm_eval_embeddings.speaker import SpeakerOptions, SpeakerSimilarity

__all__ = ["ConsistencyOptions", "SpeakerConsistency", "pieces"]

_LEAST_PIECES = 3
_RANGE_DB = 25.0
"""Level under the loudest piece below which a piece is the sound of the room: a fiftieth of it may still be speech."""


class ConsistencyOptions(SpeakerOptions):
    """Options of `speaker_consistency`.

    Attributes:
        piece_s: Length of the pieces whose voices are compared, in seconds; shorter ones tell voices apart less well.
    """

    piece_s: float = Field(2.0, ge=0.5, le=60.0)


class SpeakerConsistency(SpeakerSimilarity):
    """Cosine similarity, -1..1, of the voice of each piece of a clip to that of its first piece, and its change.

    `speaker_consistency` is the mean over pieces, `speaker_end` the similarity of the last piece, and `speaker_change`
    the change per minute by a straight line over the pieces: 0 for one voice, below where it wanders off. Pieces
    without a voice are left out: silent ones, and those over 25 dB under the loudest, which are the room in a pause.
    Similarities of different encoders, or lengths of pieces, are never compared.

    Source: as for `speaker_similarity`.
    """

    name = "speaker_consistency"
    limits = "whether the voice is the right one: any steady voice, and steady noise, is consistent"
    version = "1"
    needs = frozenset({"audio"})
    batch_clips = 4
    Options: ClassVar[type[BaseModel]] = ConsistencyOptions
    statistics: ClassVar[dict[str, Statistic]] = {
        "speaker_consistency": Mean("similarity"),
        "speaker_end": Mean("end"),
        "speaker_change": Mean("change", unit="1/min"),
    }
    better: ClassVar[Better] = "higher"

    def measure(self, clips: Sequence[Clip]) -> Iterator[Row | Skipped]:
        """Yield the similarity of the pieces of each clip to its first one."""
        for clip in clips:
            if reason := unusable_reason(clip, self.min_seconds):
                yield Skipped(reason)
                continue
            starts, parts = pieces(clip.samples, round(self.options.piece_s * RATE_HZ))
            if len(parts) < _LEAST_PIECES:
                least_s = _LEAST_PIECES * self.options.piece_s
                yield Skipped(f"under {_LEAST_PIECES} pieces of {self.options.piece_s:g} s with sound ({least_s:g} s)")
                continue
            vectors = self.embed(parts).astype(np.float64)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            similarities = vectors[1:] @ vectors[0]
            minutes = np.array(starts[1:]) / RATE_HZ / 60
            yield {
                "similarity": float(similarities.mean()),
                "end": float(similarities[-1]),
                "change": float(np.polyfit(minutes, similarities, 1)[0]),
            }


def pieces(samples: Samples, length: int) -> tuple[list[int], list[Samples]]:
    """Return the pieces of a clip that may hold a voice, and where each starts; a rest that is shorter is left out.

    Args:
        samples: float32 `[samples]`.
        length: Samples of a piece.
    """
    starts = [
        start for start in range(0, len(samples) - length + 1, length) if not is_silent(samples[start : start + length])
    ]
    powers = [float(np.square(samples[start : start + length], dtype=np.float64).mean()) for start in starts]
    least = max(powers, default=0.0) * 10 ** (-_RANGE_DB / 10)
    starts = [start for start, power in zip(starts, powers, strict=True) if power >= least]
    return starts, [samples[start : start + length] for start in starts]
