"""Measures sets with metrics into the store: finds what is missing, hands it out, survives failures."""

from __future__ import annotations

from cdslm_eval.core.progress import Progress
from cdslm_eval.run.clip_states import current_stamps
from cdslm_eval.run.runner import Measurement, Request, Runner, unscored

__all__ = ["Measurement", "Progress", "Request", "Runner", "current_stamps", "unscored"]
