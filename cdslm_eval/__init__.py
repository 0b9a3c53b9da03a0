"""Score the speech of spoken language models with any metric, and fit how it scales.

Public names are imported when they are first used, so that the command line starts without what it does not need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cdslm_eval.api import compare, fit, generate, run_suite, score
    from cdslm_eval.core.audio import Clip
    from cdslm_eval.core.citation import Citation
    from cdslm_eval.core.clips import ClipSet
    from cdslm_eval.core.errors import EvalError, UsageError
    from cdslm_eval.plugin.contract import (
        Failed,
        Generator,
        GeneratorInfo,
        Metric,
        Options,
        RangeGenerator,
        Recognition,
        Recognizer,
        Skipped,
        Transcriber,
    )
    from cdslm_eval.plugin.execution import Executor
    from cdslm_eval.plugin.hookspecs import hookimpl
    from cdslm_eval.plugin.law import LawForm
    from cdslm_eval.results.comparison_result import ComparisonResult
    from cdslm_eval.results.estimate import Better, Calibration, Estimate
    from cdslm_eval.results.score_result import ScoreResult
    from cdslm_eval.scaling.table import RunTable
    from cdslm_eval.stats.bleu import SelfBleu, Vert
    from cdslm_eval.stats.distances.statistic import Frechet, KernelDistance, VectorDistance
    from cdslm_eval.stats.diversity import PairwiseDistance
    from cdslm_eval.stats.jsd import phoneme_jsd
    from cdslm_eval.stats.jsd.statistic import JensenShannon
    from cdslm_eval.stats.quantile import Quantile
    from cdslm_eval.stats.sample import Sample
    from cdslm_eval.stats.set_statistic import SetStatistic
    from cdslm_eval.stats.statistic import Context, Diagnostics, Estimation, Statistic
    from cdslm_eval.stats.weighted import Mean, Perplexity, RatioOfSums, WeightedStatistic
    from cdslm_eval.suite.schema import load_suite

__version__ = "0.1.0"

__all__ = [
    "Better",
    "Calibration",
    "Citation",
    "Clip",
    "ClipSet",
    "ComparisonResult",
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
    "RangeGenerator",
    "RatioOfSums",
    "Recognition",
    "Recognizer",
    "RunTable",
    "Sample",
    "ScoreResult",
    "SelfBleu",
    "SetStatistic",
    "Skipped",
    "Statistic",
    "Transcriber",
    "UsageError",
    "VectorDistance",
    "Vert",
    "WeightedStatistic",
    "__version__",
    "compare",
    "fit",
    "generate",
    "hookimpl",
    "load_suite",
    "phoneme_jsd",
    "run_suite",
    "score",
]

_HOME = {
    "api": ("compare", "fit", "generate", "run_suite", "score"),
    "core.audio": ("Clip",),
    "core.citation": ("Citation",),
    "core.clips": ("ClipSet",),
    "plugin.contract": (
        "Failed",
        "Generator",
        "GeneratorInfo",
        "Metric",
        "Options",
        "RangeGenerator",
        "Recognition",
        "Recognizer",
        "Skipped",
        "Transcriber",
    ),
    "core.errors": ("EvalError", "UsageError"),
    "plugin.hookspecs": ("hookimpl",),
    "results.score_result": ("ScoreResult",),
    "results.comparison_result": ("ComparisonResult",),
    "scaling.table": ("RunTable",),
    "stats.jsd": ("phoneme_jsd",),
    "suite.schema": ("load_suite",),
    "plugin.execution": ("Executor",),
    "plugin.law": ("LawForm",),
    "results.estimate": (
        "Better",
        "Calibration",
        "Estimate",
    ),
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
