"""The discrete autoregressive baseline: k-means units, a causal language model over them, and resynthesis."""

from __future__ import annotations

from cdslm_eval import Generator, hookimpl
from cdslm_eval_unit_lm.plugin import UnitLmGenerator, UnitResynthesis

__all__ = ["UnitLmGenerator", "UnitResynthesis", "cdslm_generators"]


@hookimpl
def cdslm_generators() -> list[type[Generator]]:
    """Return the generators."""
    return [UnitLmGenerator, UnitResynthesis]
