"""Measures the channel of each clip: the trace of microphone, reverberation, codec and noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np

from cdslm_eval import Quantile, Statistic
from cdslm_eval.core import channel
from cdslm_eval.core.audio import Clip
from cdslm_eval.plugin.contract import Metric, Row, Skipped

__all__ = ["ChannelMetric"]


class ChannelMetric(Metric):
    """Bandwidth, SNR, decay and level of each clip, with its spectrum and noise floor in 40 mel bands.

    Clips are looked at as 16 kHz audio, in frames of 32 ms. The noise floor is the 10 % quantile of each band over
    time, corrected by what stationary noise would give: speech without pauses looks noisier than it is. A decay of
    under 150 dB/s speaks for reverberation, or for noise that fills the pauses.
    """

    name = "channel"
    limits = "whether what is recorded is speech, let alone language"
    version = "2"
    rate_hz = channel.RATE_HZ
    min_seconds = 0.25
    accepts_silence = False
    batch_clips = 4
    statistics: ClassVar[dict[str, Statistic]] = {
        "bandwidth": Quantile("bandwidth_hz", unit="Hz"),
        "snr": Quantile("snr_db", unit="dB"),
        "decay": Quantile("decay_db_s", unit="dB/s"),
        "speech_level": Quantile("level_dbfs", unit="dBFS"),
    }

    def measure(self, clips: Sequence[Clip]) -> Iterator[Row | Skipped]:
        """Yield the channel profile of each clip."""
        for clip in clips:
            profile = channel.profile(clip.samples) if np.isfinite(clip.samples).all() else None
            if profile is None:
                yield Skipped("under 0.25 s, silent, or samples that are not finite")
                continue
            yield {**profile.as_row(), "seconds": clip.seconds}
