"""Measures how much the spectrum jumps where a continuation begins, next to its jumps from frame to frame elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cdslm_eval import Better, Mean, RatioOfSums, Statistic
from cdslm_eval.core.audio import Clip, Samples
from cdslm_eval.core.channel import FRAME, HOP, RATE_HZ, band_powers
from cdslm_eval.plugin.contract import Failed, Metric, Row, Skipped

__all__ = ["JoinJump"]

SIDE_S = 0.25
"""Least length of prompt and of continuation: fewer frames show no typical jump."""
_RANGE_DB = 60.0
"""What lies this far under the clip's loud frames is inaudible, and no jump from one depth of silence to another."""
_APART = FRAME // HOP


class JoinJump(Metric):
    """Jump of the spectrum at the border of prompt and continuation, over the mean jump within either.

    A jump is the rms difference, over 40 mel bands in dB, of two frames of 32 ms that touch and do not overlap. At the
    border one holds the prompt's last samples, the other the continuation's first. `join_jump` is over the jumps of
    the prompt, which is real speech; `join_jump_inside` over those of the continuation, which a vocoder may have
    smoothed; both are 1 on average where the border is like any other place. `join_rank` is the share of all other
    jumps in the clip that are smaller: .5 on average where the border is like any other place, 1 where it always shows.
    """

    name = "join_jump"
    version = "1"
    limits = "whether the continuation fits the prompt: any sound that begins smoothly passes"
    needs = frozenset({"audio", "prompt_seconds"})
    better: ClassVar[Better] = "lower"
    rate_hz = RATE_HZ
    min_seconds = 2 * SIDE_S
    accepts_silence = False
    batch_clips = 4
    statistics: ClassVar[Mapping[str, Statistic]] = {
        "join_jump": RatioOfSums("border_db", "prompt_db"),
        "join_jump_inside": RatioOfSums("border_db", "continuation_db"),
        "join_rank": Mean("rank", unit="share"),
    }

    def measure(self, clips: Sequence[Clip]) -> Iterator[Row | Skipped | Failed]:
        """Yield the jump at the border and the mean jumps on both sides, in dB, and its rank."""
        for clip in clips:
            border_s = clip.prompt_seconds or 0.0
            if not np.isfinite(clip.samples).all():
                yield Failed("samples that are not finite")
            elif border_s >= clip.seconds:
                yield Failed(f"its prompt of {border_s:g} s is no shorter than the clip of {clip.seconds:g} s")
            elif min(border_s, clip.seconds - border_s) < SIDE_S:
                yield Skipped(f"under {SIDE_S:g} s of prompt or of continuation")
            else:
                yield self._row(clip.samples, round(border_s * RATE_HZ))

    def _row(self, samples: Samples, border: int) -> Row:
        first = border % HOP  # so that a frame starts at the border, and another ends there
        at = border // HOP
        jumps = _jumps(band_powers(samples[first:].astype(np.float64)))
        # jump j is from frame j to frame j + 2
        own, prompt, continuation = jumps[at - _APART], jumps[: at - 2 * _APART + 1], jumps[at:]
        inside = np.concatenate([prompt, continuation])
        rank = np.mean(inside < own) + np.mean(inside == own) / 2
        return {
            "border_db": float(own),
            "prompt_db": float(prompt.mean()),
            "continuation_db": float(continuation.mean()),
            "rank": float(rank),
        }


def _jumps(power: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the rms difference in dB of each frame `[frames, bands]` to the next that does not overlap it."""
    loud = float(np.percentile(power.sum(axis=1), 95)) / power.shape[1]
    levels = 10 * np.log10(np.maximum(power, max(loud * 10 ** (-_RANGE_DB / 10), 1e-20)))
    jumps: npt.NDArray[np.float64] = np.sqrt(np.square(levels[_APART:] - levels[:-_APART]).mean(axis=1))
    return jumps
