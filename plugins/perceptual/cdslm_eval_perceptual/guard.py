"""What no model of this package may see: nothing, silence, and samples that are not finite.

The host keeps such clips away in a run; this keeps them away from whoever calls `measure` directly.
"""

from __future__ import annotations

import numpy as np

from cdslm_eval.core.audio import Clip, is_silent

__all__ = ["unfit"]


def unfit(clip: Clip, min_seconds: float) -> str:
    """Return why a clip cannot be scored, or "".

    Args:
        clip: The clip.
        min_seconds: Least duration in seconds.
    """
    if len(clip.samples) == 0:
        return "no samples"
    if not np.isfinite(clip.samples).all():
        return "samples that are not finite"
    if clip.seconds < min_seconds:
        return f"under {min_seconds:g} s"
    return "silent" if is_silent(clip.samples) else ""
