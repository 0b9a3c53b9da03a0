"""Scaling laws for cdslm-eval: broken, shifted, repeated data, mixtures of experts, loss to loss."""

from __future__ import annotations

from cdslm_eval import LawForm, hookimpl
from cdslm_eval_laws.broken import Broken
from cdslm_eval_laws.columns import LossToLoss, Mixture, Repetition
from cdslm_eval_laws.shifted import Shifted

__all__ = ["Broken", "LossToLoss", "Mixture", "Repetition", "Shifted"]


@hookimpl
def cdslm_laws() -> list[type[LawForm]]:
    """Return the laws."""
    return [Broken, Shifted, Repetition, Mixture, LossToLoss]
