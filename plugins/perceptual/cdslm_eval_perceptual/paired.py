"""What all paired metrics share: both clips must be fit, and as long as each other but for a stated remainder."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cdslm_eval import Mean, Statistic
from cdslm_eval.core.audio import Clip
from cdslm_eval.plugin.contract import Failed, Metric, Options, Row, Skipped
from cdslm_eval.plugin.models import unusable_reason
from cdslm_eval_perceptual.papers import SI_SDR

__all__ = ["Pair", "PairedMetric", "PairedOptions", "SiSdr", "si_sdr"]

Floats = npt.NDArray[np.float64]

_FLOAT32_ENERGY = 1e-14
"""An error or a target under this share of the energy is rounding of float32 samples, not sound."""


class PairedOptions(Options):
    """Options that every paired metric has.

    Attributes:
        trim_s: Seconds by which the longer clip may be longer, and is cut at its end; beyond that the pair fails.
    """

    trim_s: float = Field(default=0.1, ge=0.0)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two clips of one length and rate.

    Attributes:
        real, tested: float64 `[samples]`.
        rate_hz: Their rate.
    """

    real: Floats
    tested: Floats
    rate_hz: int


class PairedMetric(Metric):
    """Base of metrics that compare a clip with its reference, sample by sample.

    Nothing is shifted: a pair that is not aligned in time is distinguished from a bad one by no number here.
    """

    needs = frozenset({"audio", "reference_audio"})
    better = "higher"
    min_seconds = 0.25
    accepts_silence = False
    rate_hz: int | None = 16_000
    batch_clips = 4
    Options = PairedOptions

    @abstractmethod
    def score(self, pair: Pair) -> Row | Skipped | Failed:
        """Return the row of one pair."""

    def measure(self, clips: Sequence[Clip]) -> Iterator[Row | Skipped | Failed]:
        """Yield the score of each clip against its reference."""
        for clip in clips:
            pair = self._aligned(clip)
            yield self.score(pair) if isinstance(pair, Pair) else pair

    def _aligned(self, clip: Clip) -> Pair | Skipped | Failed:
        if clip.reference is None:
            return Skipped("no reference audio")
        if reason := unusable_reason(clip, self.min_seconds):
            return Skipped(reason)
        if reason := unusable_reason(clip.reference, self.min_seconds):
            return Skipped(f"its reference: {reason}")
        if clip.reference.rate_hz != clip.rate_hz:
            return Failed(f"at {clip.rate_hz} Hz, and its reference at {clip.reference.rate_hz} Hz")
        excess_s = clip.seconds - clip.reference.seconds
        # half a sample: a difference that is equal to the limit in seconds is not over it by rounding
        if abs(excess_s) > self.options.trim_s + 0.5 / clip.rate_hz:
            how = "longer" if excess_s > 0 else "shorter"
            return Failed(
                f"{abs(excess_s):.3g} s {how} than its reference; {self.name} trims up to {self.options.trim_s:g} s"
                " (option trim_s)"
            )
        count = min(len(clip.samples), len(clip.reference.samples))
        cut = [one.samples[:count].astype(np.float64) for one in (clip.reference, clip)]
        return Pair(cut[0], cut[1], clip.rate_hz)


class SiSdrOptions(PairedOptions):
    """Options of `si_sdr`.

    Attributes:
        zero_mean: Take the mean off both clips first, as the definition assumes.
    """

    zero_mean: bool = True


class SiSdr(PairedMetric):
    """Scale-invariant signal-to-distortion ratio against the paired clip, in dB.

    Source: J. Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019.
    """

    name = "si_sdr"
    limits = "anything without the same samples aligned in time: a delay alone ruins it"
    version = "1"
    citation = (SI_SDR,)
    unit = "dB"
    rate_hz = None
    statistics: ClassVar[dict[str, Statistic]] = {"si_sdr": Mean("si_sdr")}
    Options = SiSdrOptions

    def score(self, pair: Pair) -> Row | Skipped:
        """Return the ratio in dB; where it is infinite, say so."""
        value = si_sdr(pair.real, pair.tested, zero_mean=self.options.zero_mean)
        if value == np.inf:
            return Skipped("equal to its reference up to a gain: SI-SDR is infinite")
        if np.isnan(value) or value == -np.inf:
            return Skipped("has nothing of its reference in it: SI-SDR is minus infinity")
        return {"si_sdr": value}

    def _aligned(self, clip: Clip) -> Pair | Skipped | Failed:
        reference = clip.reference
        if reference is not None and reference.rate_hz != clip.rate_hz:
            clip = clip.at_rate(min(clip.rate_hz, reference.rate_hz))
        return super()._aligned(clip)


def si_sdr(real: Floats, tested: Floats, *, zero_mean: bool = True) -> float:
    """Return the scale-invariant signal-to-distortion ratio.

    Args:
        real: The reference, float64 `[samples]`.
        tested: What is scored, float64 `[samples]`.
        zero_mean: Take the mean off both first.

    Returns:
        The ratio in dB; inf for a scaled copy, -inf for what is orthogonal to the reference, NaN where either has no
        energy. Copy and orthogonal mean: to the precision of float32 samples.
    """
    if zero_mean:
        real, tested = real - real.mean(), tested - tested.mean()
    energy, whole = float(real @ real), float(tested @ tested)
    # what the mean leaves of a constant clip is rounding
    if energy <= len(real) * 1e-20 or whole <= len(tested) * 1e-20:
        return float("nan")
    target = real * (float(tested @ real) / energy)
    error = tested - target
    wanted, unwanted = float(target @ target), float(error @ error)
    if unwanted <= _FLOAT32_ENERGY * whole:
        return float("inf")
    if wanted <= _FLOAT32_ENERGY * whole:
        return float("-inf")
    return 10.0 * float(np.log10(wanted / unwanted))
