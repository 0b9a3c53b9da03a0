"""Known degradations of a clip: noise at an SNR, a band limit, reverberation, reversal, speed."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.audio import Samples, resample

__all__ = ["active_level", "active_seconds", "add_noise", "band_limit", "change_speed", "clip_rng", "reverberate"]

_FRAME_S = 0.02
_ACTIVE_DB = 15.9
"""A frame is active within this of the clip's 95th-percentile frame (the margin of ITU-T P.56): pauses do not count."""


def clip_rng(samples: Samples, seed: int = 0) -> np.random.Generator:
    """Return a generator that is fixed by the content of a clip, whatever its set and order."""
    digest = hashlib.sha256(np.ascontiguousarray(samples, np.float32).tobytes()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])


def active_level(samples: Samples, rate_hz: int) -> float:
    """Return the RMS of the active frames of a clip; 0 for digital silence.

    Args:
        samples: float32 `[samples]`.
        rate_hz: Their rate.
    """
    power = _active_power(samples, rate_hz)
    return float(np.sqrt(power.mean())) if len(power) else 0.0


def active_seconds(samples: Samples, rate_hz: int) -> float:
    """Return the time of the active frames of a clip in seconds, as `active_level` chooses them."""
    return len(_active_power(samples, rate_hz)) * min(_FRAME_S, len(samples) / rate_hz)


def _active_power(samples: Samples, rate_hz: int) -> npt.NDArray[np.float64]:
    """Return the power of each active frame; a clip shorter than a frame is one frame, silence has none."""
    size = max(1, round(_FRAME_S * rate_hz))
    whole = len(samples) // size * size
    frames = samples[:whole].reshape(-1, size) if whole else samples[None]
    power: npt.NDArray[np.float64] = np.square(frames, dtype=np.float64).mean(axis=1) if frames.size else np.zeros(0)
    loud = float(np.percentile(power, 95)) if len(power) else 0.0
    return power[power >= loud * 10 ** (-_ACTIVE_DB / 10)] if loud > 0 else power[:0]


def add_noise(samples: Samples, rate_hz: int, snr_db: float, rng: np.random.Generator) -> Samples:
    """Return a clip with white Gaussian noise.

    Args:
        samples: float32 `[samples]`.
        rate_hz: Their rate.
        snr_db: Power of the active frames over that of the noise.
        rng: Draws the noise.
    """
    level = active_level(samples, rate_hz) * 10 ** (-snr_db / 20)
    noisy: Samples = (samples + level * rng.standard_normal(len(samples))).astype(np.float32)
    return noisy


def band_limit(samples: Samples, rate_hz: int, bandwidth_hz: float) -> Samples:
    """Return a clip without what lies above `bandwidth_hz`, through resampling to twice that and back.

    Args:
        samples: float32 `[samples]`.
        rate_hz: Their rate; a bandwidth of half of it or more changes nothing.
        bandwidth_hz: Upper edge of what remains.
    """
    narrow_hz = round(2 * bandwidth_hz)
    if narrow_hz >= rate_hz or not len(samples):
        return samples
    back = resample(resample(samples, rate_hz, narrow_hz), narrow_hz, rate_hz)
    # a resampler may round its length by a sample
    return np.pad(back[: len(samples)], (0, max(0, len(samples) - len(back))))


def reverberate(samples: Samples, rate_hz: int, decay_s: float, wet: float, rng: np.random.Generator) -> Samples:
    """Return a clip with synthetic reverberation: the direct sound, and noise that decays exponentially.

    Args:
        samples: float32 `[samples]`.
        rate_hz: Their rate.
        decay_s: Time in which the tail falls by 60 dB (T60).
        wet: Energy of the tail over that of the direct sound.
        rng: Draws the tail.

    Source: J. D. Polack, "La transmission de l'énergie sonore dans les salles", 1988 (exponentially decaying noise).
    """
    from scipy.signal import fftconvolve

    if not len(samples) or decay_s <= 0 or wet <= 0:
        return samples
    times = np.arange(max(2, round(decay_s * rate_hz))) / rate_hz
    tail = rng.standard_normal(len(times)) * 10 ** (-3 * times / decay_s)
    tail *= np.sqrt(wet / np.sum(tail**2))
    tail[0] = 1.0
    full: npt.NDArray[np.float64] = fftconvolve(samples.astype(np.float64), tail)[: len(samples)]
    return full.astype(np.float32)


def change_speed(samples: Samples, factor: float) -> Samples:
    """Return a clip played `factor` times as fast, with its pitch, by resampling to the nearest whole rate in 1000.

    Args:
        samples: float32 `[samples]`.
        factor: 1 changes nothing.
    """
    return resample(samples, round(1000 * factor), 1000)
