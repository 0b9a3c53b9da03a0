"""From sets and metrics to rows in the store: asks what is missing, hands it out, survives what goes wrong."""

from __future__ import annotations

from cdslm_eval.runner.dispatch import Progress
from cdslm_eval.runner.ledger import unchanged
from cdslm_eval.runner.run import Measurement, Request, Runner

__all__ = ["Measurement", "Progress", "Request", "Runner", "unchanged"]
