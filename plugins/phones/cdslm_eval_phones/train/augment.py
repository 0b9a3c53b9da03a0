"""Random channels for training clips: speed, reverberation, noise, telephone codec, band limit."""

from __future__ import annotations

import numpy as np

from cdslm_eval.core.audio import Samples, resample
from cdslm_eval.core.degradation import active_level, band_limit, change_speed, reverberate

__all__ = ["augment", "coloured_noise", "mu_law"]

_BANDS_HZ = (3400, 4000, 5500)
_TELEPHONE_HZ = 8000


def augment(samples: Samples, rate_hz: int, rng: np.random.Generator) -> Samples:
    """Return a clip at another speed and through a random channel, in the order in which sound meets one.

    Args:
        samples: float32 `[samples]`.
        rate_hz: Their rate.
        rng: Draws the channel.
    """
    samples = change_speed(samples, rng.uniform(0.88, 1.12))
    if rng.random() < 0.25:
        samples = reverberate(samples, rate_hz, rng.uniform(0.1, 0.6), 10 ** rng.uniform(-1.5, 0.0), rng)
    if rng.random() < 0.5:
        level = active_level(samples, rate_hz) * 10 ** (-rng.uniform(5.0, 35.0) / 20)
        noise = coloured_noise(len(samples), rng.uniform(0.0, 2.0), rng)
        samples = (samples + level * noise).astype(np.float32)
    kind = rng.random()
    if kind < 0.1:
        samples = mu_law(samples, rate_hz)
    elif kind < 0.25:
        samples = band_limit(samples, rate_hz, float(rng.choice(_BANDS_HZ)))
    return samples


def coloured_noise(count: int, slope: float, rng: np.random.Generator) -> Samples:
    """Return Gaussian noise of unit power whose spectral density falls with frequency f as f ** -slope."""
    if count < 2:
        return np.zeros(count, np.float32)
    spectrum = np.fft.rfft(rng.standard_normal(count))
    spectrum[0] = 0.0
    spectrum[1:] *= np.arange(1, len(spectrum)) ** (-slope / 2)
    noise = np.fft.irfft(spectrum, count)
    scaled: Samples = (noise / max(float(np.sqrt(np.mean(noise**2))), 1e-12)).astype(np.float32)
    return scaled


def mu_law(samples: Samples, rate_hz: int) -> Samples:
    """Return a clip through the telephone codec: 8 kHz, 8-bit mu-law.

    Source: ITU-T G.711 (continuous companding with mu = 255, 256 levels).
    """
    narrow = resample(samples, rate_hz, _TELEPHONE_HZ)
    peak = max(float(np.abs(narrow).max(initial=0.0)), 1e-9)
    companded = np.sign(narrow) * np.log1p(255 * np.abs(narrow) / peak) / np.log(256)
    levels = np.round(companded * 127) / 127
    expanded = np.sign(levels) * (256 ** np.abs(levels) - 1) / 255 * peak
    wide = resample(expanded.astype(np.float32), _TELEPHONE_HZ, rate_hz)
    return np.pad(wide[: len(samples)], (0, max(0, len(samples) - len(wide))))
