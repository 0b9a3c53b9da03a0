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
    from cdslm_eval.stats.statistic import (
        Frechet,
        JensenShannon,
        KernelDistance,
        Mean,
        PairwiseDistance,
        Perplexity,
        Quantile,
        RatioOfSums,
        SelfBleu,
        Vert,
    )

__version__ = "0.1.0"

__all__ = [
    "Clip",
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
    "SelfBleu",
    "Skipped",
    "Transcriber",
    "Vert",
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
    "plugin.law": ("LawForm",),
    "stats.statistic": (
        "Frechet",
        "JensenShannon",
        "KernelDistance",
        "Mean",
        "PairwiseDistance",
        "Perplexity",
        "Quantile",
        "RatioOfSums",
        "SelfBleu",
        "Vert",
    ),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
