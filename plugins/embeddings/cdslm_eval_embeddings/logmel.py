"""Statistics of a log-mel spectrogram as an embedding: no weights, no network, no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.audio import Samples
from cdslm_eval_embeddings.encoder import RATE_HZ, Encoder, Vectors

__all__ = ["BANDS", "LogMelEncoder", "log_mel"]

BANDS = 32
LOW_HZ, HIGH_HZ = 60.0, 7600.0
RANGE_DB = 60.0
"""What lies this far under the loudest cell of a clip is noise floor, and counts as being just there."""
_WINDOW, _HOP, _FFT = 400, 160, 512
_BLOCK_FRAMES = 4096


class LogMelEncoder(Encoder):
    """Mean and standard deviation over time of 32 mel bands, in bels over the clip's mean power.

    64 numbers that describe the long-term spectrum and how far it moves: bandwidth, colour, noise between words,
    monotony. Level does not count. Few enough that two hundred clips have a covariance of full rank.
    """

    def encode(self, clips: Sequence[Samples]) -> Vectors:
        """Return float32 `[clips, 64]`."""
        vectors = np.empty((len(clips), 2 * BANDS), np.float32)
        for row, samples in enumerate(clips):
            levels = log_mel(samples)
            vectors[row, :BANDS] = levels.mean(axis=0, dtype=np.float64)
            vectors[row, BANDS:] = levels.std(axis=0, dtype=np.float64)
        return vectors


def log_mel(samples: Samples) -> npt.NDArray[np.float32]:
    """Return mel levels in bels over the mean power of the clip, float32 `[frames, BANDS]`.

    Args:
        samples: float32 `[samples]` at `RATE_HZ`; a clip shorter than a window is padded to one.
    """
    power = np.concatenate(list(_blocks(samples)))
    power = np.maximum(power, power.max() * 10 ** (-RANGE_DB / 10))
    level: npt.NDArray[np.float32] = np.log10(power / power.mean(dtype=np.float64)).astype(np.float32)
    return level


def _blocks(samples: Samples) -> Iterator[npt.NDArray[np.float32]]:
    """Yield mel powers block by block, so that an hour of speech needs no more memory than its bands."""
    if len(samples) < _WINDOW:
        samples = np.pad(samples, (0, _WINDOW - len(samples)))
    # float32 squares of very quiet samples would vanish
    samples = samples / np.float32(np.abs(samples).max())
    frames = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[::_HOP]
    window = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)
    for start in range(0, len(frames), _BLOCK_FRAMES):
        spectrum = np.fft.rfft(frames[start : start + _BLOCK_FRAMES] * window, _FFT)
        yield (spectrum.real**2 + spectrum.imag**2).astype(np.float32) @ _filters()


@cache
def _filters() -> npt.NDArray[np.float32]:
    """Return triangular filters, evenly spaced on the mel scale and of equal area, float32 `[bins, BANDS]`.

    Source: O'Shaughnessy (1987), "Speech Communication", for mel = 2595 log10(1 + f / 700).
    """
    ends = 2595 * np.log10(1 + np.array([LOW_HZ, HIGH_HZ]) / 700)
    edges = 700 * (10 ** (np.linspace(ends[0], ends[1], BANDS + 2) / 2595) - 1)
    bins = np.arange(_FFT // 2 + 1) * RATE_HZ / _FFT
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0, np.minimum(rising, falling))
    filters: npt.NDArray[np.float32] = (triangles / triangles.sum(axis=0)).astype(np.float32)
    return filters
