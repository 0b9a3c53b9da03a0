"""Mel filterbanks as librosa makes them, in numpy: DNSMOS and NISQA were trained on these."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "decibels", "mel_filterbank"]

Floats = npt.NDArray[np.float32]

_LINEAR_HZ = 200.0 / 3.0
_LOG_FROM_HZ = 1000.0
_LOG_STEP = np.log(6.4) / 27.0
_LOG_FROM_MEL = _LOG_FROM_HZ / _LINEAR_HZ


@lru_cache(maxsize=8)
def mel_filterbank(rate_hz: int, fft_size: int, mels: int, high_hz: float) -> Floats:
    """Return triangular filters of unit area, evenly spaced on the mel scale from 0 to `high_hz`.

    Args:
        rate_hz: Sampling rate.
        fft_size: Length of the Fourier transform.
        mels: Number of filters.
        high_hz: Upper edge of the last one; filters beyond half the sampling rate are empty.

    Returns:
        float32 `[mels, fft_size // 2 + 1]`, read-only.

    Source: M. Slaney, "Auditory Toolbox", 1998; equal to `librosa.filters.mel`.
    """
    bins_hz = np.fft.rfftfreq(fft_size, 1.0 / rate_hz)
    edges_hz = _hz(np.linspace(0.0, _mel(high_hz), mels + 2))
    widths = np.diff(edges_hz)
    slopes = edges_hz[:, None] - bins_hz[None, :]
    rising = -slopes[:-2] / widths[:-1, None]
    falling = slopes[2:] / widths[1:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (edges_hz[2:] - edges_hz[:-2]))[:, None]
    bank = filters.astype(np.float32)
    bank.flags.writeable = False
    return bank


def decibels(power: Floats, reference: float, floor: float, range_db: float = 80.0) -> Floats:
    """Return power in dB over `reference`, no lower than `range_db` under its own maximum.

    Args:
        power: float32, any shape, not negative.
        reference: Power at 0 dB.
        floor: Least power, and least reference.
        range_db: Dynamic range that is kept, in dB.
    """
    level = 10.0 * np.log10(np.maximum(power, floor)) - 10.0 * np.log10(max(reference, floor))
    kept: Floats = np.maximum(level, level.max() - range_db).astype(np.float32)
    return kept


def _mel(hz: float) -> float:
    if hz < _LOG_FROM_HZ:
        return hz / _LINEAR_HZ
    return float(_LOG_FROM_MEL + np.log(hz / _LOG_FROM_HZ) / _LOG_STEP)


def _hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    above = _LOG_FROM_HZ * np.exp(_LOG_STEP * (mel - _LOG_FROM_MEL))
    return np.where(mel < _LOG_FROM_MEL, mel * _LINEAR_HZ, above)
