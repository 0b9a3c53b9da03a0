"""From sets and metrics to rows in the store: asks what is missing, hands it out, survives what goes wrong."""

from __future__ import annotations

from cdslm_eval.core.progress import Progress
from cdslm_eval.run.clip_states import unchanged
from cdslm_eval.run.runner import Measurement, Request, Runner

__all__ = ["Measurement", "Progress", "Request", "Runner", "unchanged"]
