"""The one level at which every clip enters a network, so that a gain moves no phone."""

from __future__ import annotations

import numpy as np

from cdslm_eval.core.audio import Samples

__all__ = ["levelled"]

_RMS = 0.1


def levelled(samples: Samples) -> Samples:
    """Return samples scaled to one RMS level; silence stays silence."""
    level = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0
    if level == 0.0:
        return samples
    scaled: Samples = (samples * (_RMS / level)).astype(np.float32)
    return scaled
