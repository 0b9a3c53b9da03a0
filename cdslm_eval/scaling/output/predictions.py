"""Predictions of models as tables of text and as a JSON document."""

from __future__ import annotations

import math
from typing import Any

from cdslm_eval.results.numbers import to_json
from cdslm_eval.scaling.frontier import KEYS, Predicted, Predictions
from cdslm_eval.scaling.output.document import law_document, options_document, settings_document
from cdslm_eval.scaling.output.text import View, between, bracket, count, percent, plain, short
from cdslm_eval.scaling.serving import Served
from cdslm_eval.scaling.study import Settings

__all__ = ["predicted_view", "predictions_document", "served_view"]


def predicted_view(models: tuple[Predicted, ...], metric: str, level: float, title: str) -> View:
    """Return predicted models: the value with the law's own interval, and that of one further run."""
    rows = []
    for model in models:
        cells = [plain(model.C, 3)]
        for key, write in (("N", count), ("D", count), ("ratio", short), ("loss", plain), ("kappa", short)):
            ends = model.intervals.get(key, (math.nan, math.nan))
            cells.append(f"{write(getattr(model, key))}{bracket(*ends, counts=write is count)}")
        rows.append((*cells, between(*model.prediction)))
    headings = ("C [FLOP]", "N", "D", "D/N", metric, "kappa", f"one further run, {percent(level)}")
    return View(f"{title} ({percent(level)} interval in brackets)", headings, tuple(rows))


def served_view(served: tuple[Served, ...], metric: str, level: float) -> View:
    """Return the models of least compute for training and serving."""
    rows = []
    for model in served:
        cells = [plain(model.C, 3), plain(model.loss), count(model.tokens)]
        for key, write in (("N", count), ("D", count), ("ratio", short), ("total", short)):
            ends = model.intervals.get(key, (math.nan, math.nan))
            cells.append(f"{write(getattr(model, key))}{bracket(*ends, counts=write is count)}")
        low, high = model.intervals.get("saved", (math.nan, math.nan))
        saved = f"{model.saved:.1%}" + ("" if math.isnan(low) else f" [{low:.1%} … {high:.1%}]")
        rows.append((*cells, saved))
    headings = ("C [FLOP]", metric, "served", "N", "D", "D/N", "FLOPs in all", "saved")
    note = "of the quality of the optimum of C; saved: against training that optimum and serving it"
    return View(f"Models to train and to serve ({percent(level)} interval in brackets)", headings, tuple(rows), note)


def predictions_document(predictions: Predictions) -> dict[str, Any]:
    """Return what `cdslm-eval fit predict --json` writes."""
    fit, how = predictions.fit, predictions.resampling
    budgets = tuple(p.C for p in predictions.optima)
    options = options_document(Settings(spec=fit.spec, resampling=how, budgets=budgets))
    document: dict[str, Any] = to_json(
        {
            "headline": predictions.headline,
            "trusted": not any(flag.doubt for flag in predictions.flags),
            "law": law_document(predictions.fit),
            "optimum": [_predicted(model) for model in predictions.optima],
            "models": [_predicted(model) for model in predictions.models],
            "served": list(predictions.served),
            "flags": list(predictions.flags),
            "settings": settings_document(fit.table, fit.metric, options),
        }
    )
    return document


def _predicted(model: Predicted) -> dict[str, Any]:
    return {
        **{key: getattr(model, key) for key in ("C", *KEYS)},
        "intervals": model.intervals,
        "prediction": model.prediction,
    }
