"""Audiobox Aesthetics for cdslm-eval: content enjoyment and usefulness, production complexity and quality."""

from __future__ import annotations

from cdslm_eval import Metric, hookimpl
from cdslm_eval_aesthetics.metric import Aesthetics, AestheticsOptions

__all__ = ["Aesthetics", "AestheticsOptions", "cdslm_metrics"]


@hookimpl
def cdslm_metrics() -> list[type[Metric]]:
    """Return the metric."""
    return [Aesthetics]
