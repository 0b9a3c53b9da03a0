"""The channel of a clip or a set (spectrum, noise, bandwidth, reverberation), and putting other clips through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.audio import Samples
from cdslm_eval.core.degradation import active_level, active_seconds, band_limit, clip_rng, reverberate

__all__ = [
    "BANDS",
    "EMPTY_DB",
    "FRAME",
    "HOP",
    "RATE_HZ",
    "Channel",
    "ChannelProfile",
    "band_powers",
    "decibels",
    "pooled",
    "profile",
]

Floats = npt.NDArray[np.float64]

RATE_HZ = 16_000
BANDS = 40
FRAME, HOP = 512, 256
"""Samples of a frame, and from one frame to the next."""
_BLOCK_FRAMES = 4096
EMPTY_DB = -100.0
"""Level of a band without sound."""
_EDGE_DB = 60.0
"""A bin this far under the loudest one holds no speech: voices lie within 50 dB up to 8 kHz, band limits fall to 80."""
_NOISE_QUANTILE = 0.1
_SMOOTH = 5
_DECAY_FRAMES, _DECAY_FROM_DB = 5, 20.0
_DECAY_S = 0.6
_PER_BAND = ("spectrum_db", "noise_db")


@dataclass(frozen=True)
class ChannelProfile:
    """What the channel did to one clip, or to the clips of a set at the median.

    Attributes:
        spectrum_db: Long-term power per band over the power of active speech, float64 `[BANDS]`.
        noise_db: Noise floor per band, on the same scale, float64 `[BANDS]`.
        bandwidth_hz: Highest frequency that holds sound.
        snr_db: Active speech over the sum of the noise floor.
        decay_db_s: How fast the level falls after sounds, in dB per second: reverberation makes it slower.
        level_dbfs: RMS of the active frames.
        speech_s: Their time in seconds.
    """

    spectrum_db: Floats
    noise_db: Floats
    bandwidth_hz: float
    snr_db: float
    decay_db_s: float
    level_dbfs: float
    speech_s: float

    def as_row(self) -> dict[str, Any]:
        """Return the profile as a metric's row: numbers, and lists for the bands."""
        return {
            field.name: value.tolist() if isinstance(value := getattr(self, field.name), np.ndarray) else value
            for field in fields(self)
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> ChannelProfile:
        """Read what `as_row` returns; other columns of the row are ignored."""
        values: dict[str, Any] = {
            field.name: np.asarray(row[field.name], np.float64) if field.name in _PER_BAND else float(row[field.name])
            for field in fields(cls)
        }
        return cls(**values)


@dataclass(frozen=True)
class Channel:
    """A degradation that gives clean clips another channel; the order of its fields is that of its steps.

    Attributes:
        bandwidth_hz: Band limit; None leaves the band as it is.
        wet: Energy of a synthetic reverberation of 0.6 s over that of the direct sound.
        gain_db: Gain per band, float64 `[BANDS]`.
        noise_db: Power per band of noise to add, over the power of active speech, float64 `[BANDS]`.
    """

    bandwidth_hz: float | None
    wet: float
    gain_db: Floats
    noise_db: Floats

    @classmethod
    def neutral(cls) -> Channel:
        """Return the channel that changes nothing."""
        return cls(None, 0.0, np.zeros(BANDS), np.full(BANDS, EMPTY_DB))

    @classmethod
    def noise(cls, snr_db: float) -> Channel:
        """Return a channel that adds white noise at an SNR over active speech."""
        share = _bank().sum(axis=1) / (FRAME // 2 + 1)
        return replace(cls.neutral(), noise_db=decibels(share) - snr_db)

    @classmethod
    def band(cls, bandwidth_hz: float) -> Channel:
        """Return a channel with nothing above a frequency."""
        return replace(cls.neutral(), bandwidth_hz=bandwidth_hz)

    @property
    def is_neutral(self) -> bool:
        """Whether clips pass unchanged."""
        quiet = bool((self.noise_db <= EMPTY_DB).all())
        return self.bandwidth_hz is None and not self.wet and not self.gain_db.any() and quiet

    def rounded(self) -> Channel:
        """Return the channel in steps of 0.1 dB and 10 Hz, so that its identity is that of any machine."""
        bandwidth_hz = None if self.bandwidth_hz is None else float(10 * round(self.bandwidth_hz / 10))
        return Channel(bandwidth_hz, self.wet, np.round(self.gain_db, 1) + 0.0, np.round(self.noise_db, 1))

    def apply(self, samples: Samples) -> Samples:
        """Return a clip at 16 kHz put through the channel; the same clip always gets the same noise."""
        level = active_level(samples, RATE_HZ)
        if level == 0.0 or self.is_neutral:
            return samples
        rng, out = clip_rng(samples), samples
        if self.bandwidth_hz is not None:
            out = band_limit(out, RATE_HZ, self.bandwidth_hz)
        if self.wet:
            out = reverberate(out, RATE_HZ, _DECAY_S, self.wet, rng)
        out = _filtered(out, self.gain_db)
        level = active_level(out, RATE_HZ)
        if (self.noise_db > EMPTY_DB).any():
            noise = _shaped_noise(len(out), self.noise_db, rng)
            out = out + (level * noise).astype(np.float32)
        # a file holds no sample beyond full scale; recognizers do not mind the level
        peak = float(np.abs(out).max())
        return (out * (0.99 / peak)).astype(np.float32) if peak > 0.99 else out.astype(np.float32)


def profile(samples: Samples) -> ChannelProfile | None:
    """Return the channel profile of a clip at 16 kHz; None under 0.25 s or where it is digitally silent.

    Args:
        samples: float32 `[samples]`.
    """
    level = active_level(samples, RATE_HZ)
    if len(samples) < RATE_HZ // 4 or level < 1e-6:
        return None
    power = _power(samples / level)
    noise = np.quantile(_smooth(power @ _bank().T), _NOISE_QUANTILE, axis=0) / _noise_bias()
    return ChannelProfile(
        spectrum_db=decibels(power.mean(axis=0) @ _bank().T),
        noise_db=decibels(noise),
        bandwidth_hz=_bandwidth_hz(power.mean(axis=0)),
        # the active frames hold the noise as well
        snr_db=float(decibels(np.array(max(1.0 - noise.sum(), 0.01))) - decibels(np.array(noise.sum()))),
        decay_db_s=_decay_db_s(power.sum(axis=1)),
        level_dbfs=float(20 * np.log10(level)),
        speech_s=active_seconds(samples, RATE_HZ),
    )


def pooled(profiles: Sequence[ChannelProfile]) -> ChannelProfile:
    """Return the profile of a set: the median of each figure over its clips, so that a few odd clips do not count.

    Args:
        profiles: At least one.
    """

    def bands(name: str) -> Floats:
        medians: Floats = np.median([getattr(profile, name) for profile in profiles], axis=0)
        return medians

    def middle(name: str) -> float:
        return float(np.median([getattr(profile, name) for profile in profiles]))

    return ChannelProfile(
        bands("spectrum_db"),
        bands("noise_db"),
        middle("bandwidth_hz"),
        middle("snr_db"),
        middle("decay_db_s"),
        middle("level_dbfs"),
        middle("speech_s"),
    )


def band_powers(samples: npt.NDArray[np.floating]) -> Floats:
    """Return the power in each band of each frame, float64 `[frames, BANDS]`, with memory of that size only.

    Args:
        samples: `[samples]` at 16 kHz, at least one frame of 512.
    """
    count = 1 + (len(samples) - FRAME) // HOP
    blocks = [
        _power(samples[start * HOP : (min(start + _BLOCK_FRAMES, count) - 1) * HOP + FRAME]) @ _bank().T
        for start in range(0, count, _BLOCK_FRAMES)
    ]
    return np.concatenate(blocks)


def _power(samples: npt.NDArray[np.floating]) -> Floats:
    """Return the power of each frame and bin, float64 `[frames, 257]`, summing over bins to a frame's mean square."""
    window = np.hanning(FRAME)
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP]
    spectrum = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    spectrum[:, 1:-1] *= 2
    power: Floats = spectrum / (FRAME * np.sum(window**2))
    return power


@cache
def _bank() -> Floats:
    """Return triangular bands, evenly spaced in mel, that share the power of each bin, float64 `[BANDS, 257]`."""
    bins_mel = 2595 * np.log10(1 + np.fft.rfftfreq(FRAME, 1 / RATE_HZ) / 700)
    centres = np.linspace(bins_mel[1], bins_mel[-1], BANDS)
    weights = np.maximum(0, 1 - np.abs(bins_mel[None] - centres[:, None]) / (centres[1] - centres[0]))
    weights[0, 0] = 1.0
    bank: Floats = weights / weights.sum(axis=0)
    return bank


@cache
def _noise_bias() -> Floats:
    """Return how far under its mean the low quantile of stationary noise lies, per band, measured on white noise."""
    power = _power(np.random.default_rng(0).standard_normal(60 * RATE_HZ)) @ _bank().T
    bias: Floats = np.quantile(_smooth(power), _NOISE_QUANTILE, axis=0) / power.mean(axis=0)
    return bias


def _smooth(power: Floats) -> Floats:
    """Return running means over five frames, `[frames - 4, bands]`."""
    sums = np.cumsum(np.pad(power, ((1, 0), (0, 0))), axis=0)
    means: Floats = (sums[_SMOOTH:] - sums[:-_SMOOTH]) / _SMOOTH
    return means


def _bandwidth_hz(power: Floats) -> float:
    """Return the highest frequency that lies within 60 dB of the loudest bin."""
    loud = np.flatnonzero(power >= power.max() * 10 ** (-_EDGE_DB / 10))
    return float(loud[-1] * RATE_HZ / FRAME)


def _decay_db_s(power: Floats) -> float:
    """Return the 90 % quantile of how fast the level falls from loud frames, in dB per second.

    Args:
        power: Power of each frame, `[frames]`.
    """
    levels = 10 * np.log10(np.maximum(power, power.max() * 1e-6))
    falls = levels[:-_DECAY_FRAMES] - levels[_DECAY_FRAMES:]
    loud = levels[:-_DECAY_FRAMES] >= levels.max() - _DECAY_FROM_DB
    return float(np.quantile(falls[loud], 0.9)) / (_DECAY_FRAMES * HOP / RATE_HZ)


def _filtered(samples: Samples, gain_db: Floats) -> Samples:
    """Return a clip with a gain per band, without delay."""
    if not gain_db.any():
        return samples
    gains = _per_bin(gain_db, len(samples))
    shaped: Samples = np.fft.irfft(np.fft.rfft(samples) * gains, len(samples)).astype(np.float32)
    return shaped


def _shaped_noise(count: int, noise_db: Floats, rng: np.random.Generator) -> Floats:
    """Return noise whose power per band is the wanted one, float64 `[count]`."""
    density = noise_db - decibels(_bank().sum(axis=1) / (FRAME // 2 + 1))
    white = np.fft.rfft(rng.standard_normal(count))
    noise: Floats = np.fft.irfft(white * _per_bin(density, count), count)
    return noise


def _per_bin(values_db: Floats, count: int) -> Floats:
    """Return amplitude gains for the bins of a transform of `count` samples, interpolated between band centres."""
    bins_hz = np.fft.rfftfreq(FRAME, 1 / RATE_HZ)
    per_frame_bin = values_db @ (_bank() / _bank().sum(axis=0))
    gains: Floats = 10 ** (np.interp(np.fft.rfftfreq(count, 1 / RATE_HZ), bins_hz, per_frame_bin) / 20)
    return gains


def decibels(power: npt.NDArray[np.floating]) -> Floats:
    """Return powers in dB, those of silence as `EMPTY_DB`."""
    levels: Floats = 10 * np.log10(np.maximum(power, 10 ** (EMPTY_DB / 10)))
    return levels
