"""Measures the signal itself: duration, level, silence, clipping, speech rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np

from cdslm_eval import Mean, RatioOfSums, Statistic
from cdslm_eval.core.audio import Clip
from cdslm_eval.core.levels import SILENCE_DBFS, frame_levels_dbfs, level_dbfs
from cdslm_eval.plugin.contract import Metric, Row

__all__ = ["Signal"]

FRAME_S = 0.02
BELOW_LOUD_DB = 40.0
"""A frame this far under the clip's loud frames (95th percentile) is silent."""
FULL_SCALE = 1.0 - 2.0**-15


class Signal(Metric):
    """Duration, level, silence share, clipping share and speech rate of each clip.

    A frame of 20 ms is silent when it lies 40 dB under the clip's 95th-percentile frame, or under -70 dBFS.
    A sample is clipped when it and a neighbour both reach 16-bit full scale. Speech rate is phones per second of
    frames that are not silent, over all clips.
    """

    name = "signal"
    limits = "whether anything is good: natural and unintelligible clips may agree in all of it"
    version = "1"
    needs = frozenset({"audio"})
    wants = frozenset({"phones"})
    batch_clips = 4
    statistics: ClassVar[dict[str, Statistic]] = {
        "duration": Mean("seconds", unit="s"),
        "level": Mean("level_dbfs", unit="dBFS"),
        "silence_share": RatioOfSums("silent_s", "seconds", unit="fraction"),
        "clipping_share": RatioOfSums("clipped", "samples", unit="fraction", better="lower"),
        "speech_rate": RatioOfSums("phones", "speech_s", unit="phones/s"),
    }

    def measure(self, clips: Sequence[Clip]) -> Iterator[Row]:
        """Yield the sums behind the shares, and the level (None for digital silence)."""
        for clip in clips:
            levels = frame_levels_dbfs(clip.samples, clip.rate_hz, FRAME_S)
            threshold = max(SILENCE_DBFS, float(np.percentile(levels, 95)) - BELOW_LOUD_DB)
            silent_s = float(np.mean(levels < threshold)) * clip.seconds
            full = np.abs(clip.samples) >= FULL_SCALE
            beside = np.zeros(len(full), bool)
            beside[1:] |= full[:-1]
            beside[:-1] |= full[1:]
            level = level_dbfs(clip.samples)
            yield {
                "seconds": clip.seconds,
                "level_dbfs": level if np.isfinite(level) else None,
                "silent_s": silent_s,
                "speech_s": clip.seconds - silent_s,
                "clipped": int(np.count_nonzero(full & beside)),
                "samples": len(clip.samples),
                "phones": None if clip.phones is None else len(clip.phones),
            }
