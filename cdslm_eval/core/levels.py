"""Levels of samples in dBFS: of a clip, of its frames, and whether it is silent."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.audio import Samples

__all__ = ["SILENCE_DBFS", "frame_levels_dbfs", "is_silent", "level_dbfs"]

SILENCE_DBFS = -70.0
"""Level under which a whole clip counts as silent (digital silence, dither and idle noise of 16-bit converters)."""


def level_dbfs(samples: Samples) -> float:
    """Return the RMS level in dBFS (a full-scale square wave is 0 dBFS); -inf for digital silence or no samples."""
    if len(samples) == 0:
        return -np.inf
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    return 10.0 * float(np.log10(power)) if power > 0 else -np.inf


def frame_levels_dbfs(samples: Samples, rate_hz: int, frame_s: float = 0.02) -> npt.NDArray[np.float64]:
    """Return the RMS level in dBFS of adjacent frames.

    Args:
        samples: float32 `[samples]`.
        rate_hz: Their rate.
        frame_s: Frame length in seconds; a last frame that is shorter than half of it is left out.

    Returns:
        float64 `[frames]`, -200 for digital silence.
    """
    size = max(1, round(frame_s * rate_hz))
    if len(samples) == 0:
        return np.zeros(0)
    starts = np.arange(0, len(samples), size)
    lengths = np.minimum(size, len(samples) - starts)
    power = np.add.reduceat(np.square(samples, dtype=np.float64), starts) / lengths
    keep = (lengths * 2 >= size) | (starts == 0)
    levels: npt.NDArray[np.float64] = 10.0 * np.log10(np.maximum(power[keep], 1e-20))
    return levels


def is_silent(samples: Samples, threshold_dbfs: float = SILENCE_DBFS) -> bool:
    """Return whether the whole clip lies under `threshold_dbfs` (RMS)."""
    return level_dbfs(samples) < threshold_dbfs
