"""Score what speech-only language models say, with any metric, and fit how it scales.

Public names are imported when they are first used, so that the command line starts without what it does not need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cdslm_eval.core.audio import Clip
    from cdslm_eval.core.errors import EvalError
    from cdslm_eval.plugin.contract import (
        Executor,
        Failed,
        Generator,
        GeneratorInfo,
        Metric,
        Options,
        Recognizer,
        Skipped,
        Transcriber,
    )
    from cdslm_eval.plugin.hookspecs import hookimpl
    from cdslm_eval.plugin.law import LawForm
    from cdslm_eval.results.estimate import Better, Calibration, Estimate
    from cdslm_eval.stats.bleu import SelfBleu, Vert
    from cdslm_eval.stats.distances.statistic import Frechet, KernelDistance, VectorDistance
    from cdslm_eval.stats.diversity import PairwiseDistance
    from cdslm_eval.stats.jsd.statistic import JensenShannon
    from cdslm_eval.stats.quantile import Quantile
    from cdslm_eval.stats.sample import Sample
    from cdslm_eval.stats.set_statistic import SetStatistic
    from cdslm_eval.stats.statistic import Context, Diagnostics, Estimation, Statistic
    from cdslm_eval.stats.weighted import Mean, Perplexity, RatioOfSums, WeightedStatistic

__version__ = "0.1.0"

__all__ = [
    "Better",
    "Calibration",
    "Clip",
    "Context",
    "Diagnostics",
    "Estimate",
    "Estimation",
    "EvalError",
    "Executor",
    "Failed",
    "Frechet",
    "Generator",
    "GeneratorInfo",
    "JensenShannon",
    "KernelDistance",
    "LawForm",
    "Mean",
    "Metric",
    "Options",
    "PairwiseDistance",
    "Perplexity",
    "Quantile",
    "RatioOfSums",
    "Recognizer",
    "Sample",
    "SelfBleu",
    "SetStatistic",
    "Skipped",
    "Statistic",
    "Transcriber",
    "VectorDistance",
    "Vert",
    "WeightedStatistic",
    "__version__",
    "hookimpl",
]

_HOME = {
    "core.audio": ("Clip",),
    "plugin.contract": (
        "Executor",
        "Failed",
        "Generator",
        "GeneratorInfo",
        "Metric",
        "Options",
        "Recognizer",
        "Skipped",
        "Transcriber",
    ),
    "core.errors": ("EvalError",),
    "plugin.hookspecs": ("hookimpl",),
    "results.estimate": (
        "Better",
        "Calibration",
        "Estimate",
    ),
    "plugin.law": ("LawForm",),
    "stats.bleu": (
        "SelfBleu",
        "Vert",
    ),
    "stats.distances.statistic": (
        "Frechet",
        "KernelDistance",
        "VectorDistance",
    ),
    "stats.diversity": ("PairwiseDistance",),
    "stats.jsd.statistic": ("JensenShannon",),
    "stats.quantile": ("Quantile",),
    "stats.sample": ("Sample",),
    "stats.set_statistic": ("SetStatistic",),
    "stats.statistic": (
        "Context",
        "Diagnostics",
        "Estimation",
        "Statistic",
    ),
    "stats.weighted": (
        "Mean",
        "Perplexity",
        "RatioOfSums",
        "WeightedStatistic",
    ),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
