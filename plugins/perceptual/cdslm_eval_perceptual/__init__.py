"""Perceptual scores as a plugin of cdslm-eval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdslm_eval.plugin.hookspecs import hookimpl
from cdslm_eval_perceptual.activity import Activity
from cdslm_eval_perceptual.distillmos import DistillMosMetric
from cdslm_eval_perceptual.dnsmos import Dnsmos
from cdslm_eval_perceptual.intrusive import Estoi, Pesq, Stoi
from cdslm_eval_perceptual.nisqa import NisqaMetric
from cdslm_eval_perceptual.paired import SiSdr
from cdslm_eval_perceptual.turns import TurnTaking

if TYPE_CHECKING:
    from cdslm_eval.plugin.contract import Metric

__all__ = ["cdslm_metrics"]


@hookimpl
def cdslm_metrics() -> list[type[Metric]]:
    """Return the metrics."""
    return [Activity, DistillMosMetric, Dnsmos, NisqaMetric, Pesq, Stoi, Estoi, SiSdr, TurnTaking]
