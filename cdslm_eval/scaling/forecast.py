"""Predictions of a law: at the optimum of budgets, and for given models, with confidence and prediction intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cdslm_eval.scaling.bootstrap import Bootstrap
from cdslm_eval.scaling.fit import LawFit, fit_law
from cdslm_eval.scaling.flags import Flag
from cdslm_eval.scaling.frontier import KEYS, frontier
from cdslm_eval.scaling.study import Settings, first_line
from cdslm_eval.scaling.table import RunTable

__all__ = ["Predicted", "Predictions", "predictions"]

Interval = tuple[float, float]
_UNKNOWN = (math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class Predicted:
    """One model, predicted.

    Attributes:
        C, N, D, ratio: The model.
        loss: The metric's predicted value.
        kappa: Curvature of the isoFLOP there; NaN where the model is not an optimum.
        intervals: Of N, D, ratio, loss and kappa, as far as they are estimated; of `loss` the law's own.
        prediction: Interval of one further run: the law's uncertainty, and the spread of runs around it.
    """

    C: float
    N: float
    D: float
    ratio: float
    loss: float
    kappa: float
    intervals: dict[str, Interval]
    prediction: Interval


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a law says about models that nobody trained.

    Attributes:
        fit: The law.
        settings: What was asked for.
        optima: One per budget.
        models: One per given (N, D).
        flags: The law's, and those of extrapolation.
    """

    fit: LawFit
    settings: Settings
    optima: tuple[Predicted, ...]
    models: tuple[Predicted, ...]
    flags: tuple[Flag, ...]

    @property
    def headline(self) -> str:
        """The first line: the law, or why its answers cannot be trusted."""
        return first_line(self.fit, self.flags)


def predictions(
    table: RunTable, metric: str, settings: Settings, models: Sequence[tuple[float, float]] = ()
) -> Predictions:
    """Fit a law and predict with it.

    Args:
        table: The runs.
        metric: Name of the metric.
        settings: Of the fit; its `budgets` are those whose optimum is predicted.
        models: (N, D) of each model beside them.

    Raises:
        UsageError: The law cannot be fitted, or knows no optimum and budgets are asked for.
    """
    fit = fit_law(table, metric, **settings.fitting())
    draws = fit.bootstrap(settings.by, settings.replicates, settings.seed) if settings.replicates else None
    optima = _optima(fit, draws, settings) if settings.budgets else ()
    given = tuple(_model(fit, draws, N, D, settings.level) for N, D in models)
    asked = [one.C for one in (*optima, *given)]
    flags = (*fit.flags, *fit.extrapolation(np.array(asked))) if asked else fit.flags
    return Predictions(fit, settings, optima, given, flags)


def _optima(fit: LawFit, draws: Bootstrap | None, settings: Settings) -> tuple[Predicted, ...]:
    C = np.array(settings.budgets)
    found = frontier(fit, draws, C, settings.level)
    predicted = fit.predict(found.N.value, found.D.value, settings.level, draws)
    rows = []
    for place, budget in enumerate(C):
        each = {key: getattr(found, key) for key in KEYS}
        intervals = {key: (float(one.low[place]), float(one.high[place])) for key, one in each.items()}
        values = {key: float(one.value[place]) for key, one in each.items()}
        further = (float(predicted.prediction[0][place]), float(predicted.prediction[1][place]))
        rows.append(Predicted(C=float(budget), **values, intervals=intervals, prediction=further))
    return tuple(rows)


def _model(fit: LawFit, draws: Bootstrap | None, N: float, D: float, level: float) -> Predicted:
    found = fit.predict(N, D, level, draws)
    (low, high), (least, most) = found.confidence, found.prediction
    intervals = {"loss": (float(low), float(high)) if draws is not None else _UNKNOWN}
    return Predicted(
        fit.law.k * N * D, N, D, D / N, float(found.value), math.nan, intervals, (float(least), float(most))
    )
