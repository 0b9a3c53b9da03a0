"""A study as a JSON document: full precision, intervals, and null with a reason for what is unknown."""

from __future__ import annotations

import dataclasses
import math
import platform
from collections.abc import Mapping
from typing import Any

import numpy as np

from cdslm_eval.results.numbers import to_json
from cdslm_eval.results.quotation import quotation
from cdslm_eval.scaling.curvature import Curvature, Growth
from cdslm_eval.scaling.downstream import Downstream
from cdslm_eval.scaling.fit import LawFit
from cdslm_eval.scaling.frontier import KEYS, Band, Frontier, NearRange
from cdslm_eval.scaling.isocurve import PowerLaw
from cdslm_eval.scaling.isoflop import IsoFlop, IsoFlops
from cdslm_eval.scaling.map_fit import MetricMap
from cdslm_eval.scaling.methods import METHODS
from cdslm_eval.scaling.output.saved import saved_runs
from cdslm_eval.scaling.output.text import estimator_words, latex
from cdslm_eval.scaling.study import Settings, Study
from cdslm_eval.scaling.table import RunTable
from cdslm_eval.scaling.validation import Holdout
from cdslm_eval.scaling.verdict import Verdict

__all__ = ["law_document", "options_document", "settings_document", "study_document"]

_SYMBOLS = {"N": "N^*", "D": "D^*", "ratio": "r^*", "kappa": r"\kappa"}
EXPONENTS = {"N_exponent": "N*", "D_exponent": "D*", "ratio_exponent": "r* = D*/N*"}


def study_document(study: Study) -> dict[str, Any]:
    """Return what `cdslm-eval fit --json` writes.

    Args:
        study: Of `cdslm_eval.scaling.study.study`.

    Returns:
        `law`, `intervals`, `standard_errors`, `optimum`, `near_optimal`, `exponents`, `isoflops`, `holdout`,
        `influence`, `rollout`, `downstream`, `flags`, `verdict`, `missing` (part -> its reason), `quote`, `settings`
        and `runs`: enough to predict from without the table.
    """
    held = study.holdout
    document = {
        "headline": study.headline,
        "trusted": study.fit is not None and not any(flag.doubt for flag in study.flags),
        "law": None if study.fit is None else law_document(study.fit),
        **_intervals(study),
        "optimum": [] if study.optima is None else _optimum(study.optima),
        "near_optimal": [entry for near in study.near_optima for entry in _near(near)],
        "isoflops": None if study.isoflops is None else _isoflops(study.isoflops),
        "curvature": None if study.curvature is None else _curvature(study.curvature),
        "holdout": None if held is None else _holdout(held),
        "influence": study.influence,
        "rollout": [_holdout(step) for step in study.rollout],
        "downstream": None if study.downstream is None else _downstream(study.downstream, study),
        "flags": list(study.flags),
        "verdict": None if study.verdict is None else _verdict(study.verdict),
        "missing": study.missing,
        "quote": quote_document(study),
        "settings": settings_document(study.table, study.metric, options_document(study.settings)),
        "runs": saved_runs(study.table),
    }
    out: dict[str, Any] = to_json(document)
    return out


def quote_document(study: Study) -> dict[str, Any]:
    """Return what can be pasted into a paper: the headline as a sentence, the law's citations, BibTeX."""
    from cdslm_eval import __version__

    citations = () if study.fit is None else study.fit.problem.form.citation
    return quotation([f"{study.headline.rstrip('.')}; cdslm-eval {__version__}."], citations, __version__)


def law_document(fit: LawFit) -> dict[str, Any]:
    """Return a fitted law: its form, estimator, parameters, objective and the rows behind it."""
    return {
        "form": fit.form,
        "formula": fit.problem.form.formula,
        "latex": fit.problem.form.latex or None,
        "latex_fitted": latex(str(fit.law)) if fit.problem.form.template else None,
        "estimator": fit.spec.estimator,
        "estimator_words": estimator_words(fit.spec.estimator, fit.delta, fit.link, fit.metric),
        "delta": fit.cost.delta if fit.spec.estimator == "huber" else None,
        "link": fit.link,
        **fit.parameters,
        "objective": fit.objective,
        "gradient": fit.gradient,
        "n_rows": fit.n_rows,
        "n_test": len(fit.test),
        "excluded": [dataclasses.asdict(row) for row in fit.excluded],
    }


def _intervals(study: Study) -> dict[str, Any]:
    """Return intervals, standard errors and exponents of C."""
    fit, draws, level = study.fit, study.bootstrap, study.settings.resampling.level
    names = () if fit is None else tuple(fit.parameters)
    exponents: dict[str, Any] = {}
    if fit is not None and fit.law.has_optimum:
        curve = fit.law.curve
        values = {
            "N_exponent": curve.N_exponent,
            "D_exponent": curve.D_exponent,
            "ratio_exponent": curve.ratio_exponent,
        }
        for name, value in values.items():
            low, high = (math.nan, math.nan) if draws is None else draws.interval(name, level)
            exponents[name] = {"value": float(value), "low": low, "high": high, "sign_established": low * high > 0}
    return {
        "intervals": {} if draws is None else {name: draws.interval(name, level) for name in names},
        "standard_errors": {} if draws is None else {name: draws.standard_error(name) for name in names},
        "exponents": exponents,
        "bootstrap": None if draws is None else draws.sentence,
    }


def _downstream(downstream: Downstream, study: Study) -> dict[str, Any]:
    """Return the three ways to a downstream metric, with their intervals and their held-out errors."""
    draws, level = study.downstream_draws, study.settings.resampling.level
    staged = {
        one.name: {
            "law": dict(one.law.parameters),
            **one.map.parameters,
            "map": _map(one.map),
            "intervals": {p: draws[one.name].interval(p, level) for p in one.parameters if one.name in draws},
            "spread": one.map.spread,
            "objective": one.objective,
            "rank_deficiency": one.rank_deficiency,
            "flags": list(one.flags),
        }
        for one in (downstream.two_stage, downstream.fused)
    }
    return {
        "headline": downstream.headline,
        "loss": downstream.loss,
        "link": downstream.axis.link.name,
        "best": downstream.best,
        "tied": downstream.tied,
        "direct": None if downstream.direct is None else law_document(downstream.direct),
        **staged,
        "held_out": {
            score.method: {
                "rmse_beyond": score.rmse_beyond,
                "n_beyond": len(score.beyond),
                "rmse_within": score.rmse_within,
                "n_within": len(score.within),
                "reason": score.reason,
            }
            for score in downstream.scores
        },
        "predictions": _predictions(downstream),
        "flags": list(downstream.flags),
    }


def _predictions(downstream: Downstream) -> list[dict[str, Any]]:
    """Return what each method predicts for the held-out rows."""
    rows = downstream.held_out
    by_method = {method: downstream.predict(method, rows.N, rows.D) for method in METHODS}
    columns = {"line": rows.line, "N": rows.N, "D": rows.D, "actual": rows.metric(downstream.metric), **by_method}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _map(fitted: MetricMap) -> dict[str, Any]:
    """Return the kind of a map, and how every kind that was tried fits."""
    return {"kind": fitted.name, "formula": fitted.kind.formula, "tried": list(fitted.scores)}


def _verdict(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict with its evidence; the law behind it as its parameters."""
    fields = {f.name: getattr(verdict, f.name) for f in dataclasses.fields(verdict) if f.name != "fit"}
    return {
        **fields,
        "sentence": verdict.sentence,
        "parameters": None if verdict.fit is None else verdict.fit.parameters,
    }


def _optimum(frontier: Frontier) -> list[dict[str, Any]]:
    return [
        {
            "C": C,
            **{key: getattr(frontier, key).value[index] for key in KEYS},
            "intervals": {key: _ends(getattr(frontier, key), index) for key in KEYS},
        }
        for index, C in enumerate(frontier.N.C)
    ]


def _ends(along: Band, index: int) -> tuple[float, float]:
    return along.low[index], along.high[index]


def _near(near: NearRange) -> list[dict[str, Any]]:
    names = ("N_low", "N_high", "D_low", "D_high", "width")
    return [
        {
            "C": C,
            "epsilon": near.epsilon,
            "relative": near.relative,
            **{name: getattr(near, name).value[index] for name in names},
            "intervals": {name: _ends(getattr(near, name), index) for name in names},
        }
        for index, C in enumerate(near.N_low.C)
    ]


def _isoflops(isoflops: IsoFlops) -> dict[str, Any]:
    return {
        "headline": isoflops.headline,
        "budgets": [_budget(isoflops, budget) for budget in isoflops.budgets],
        **{f"{name}_law": _power(getattr(isoflops, f"{name}_law"), sign) for name, sign in _SYMBOLS.items()},
        "flags": list(isoflops.flags),
    }


def _budget(isoflops: IsoFlops, budget: IsoFlop) -> dict[str, Any]:
    return {
        "C": budget.C,
        "rows": len(budget.rows),
        "lines": isoflops.table.line[budget.rows],
        "curve": None if budget.chosen is None else budget.chosen.name,
        **{name: _curve(getattr(budget, name)) for name in ("parabola", "cubic")},
        **{key: getattr(budget, key) for key in KEYS},
        "intervals": {key: getattr(budget, f"{key}_interval") for key in KEYS},
        "reason": budget.reason,
    }


def _curve(curve: Any) -> dict[str, Any] | None:
    """Return the coefficients of 1, x, x^2, ... with x = ln N - centre."""
    return None if curve is None else {"centre": curve.centre, "coefficients": curve.coefficients}


def _curvature(curvature: Curvature) -> dict[str, Any]:
    return {
        "label": curvature.label,
        "C": curvature.C,
        "law": None if curvature.law is None else _growth(curvature.law),
        "budgets": None if curvature.budgets is None else _growth(curvature.budgets),
        "widths": [
            {
                "epsilon": width.epsilon,
                "relative": width.relative,
                "source": width.source,
                **{name: _growth(getattr(width, name)) for name in ("ratio", "N", "D")},
                "ends_beyond_sizes": None if width.source == "law" else [width.beyond, width.ends],
            }
            for width in curvature.widths
        ],
        "outside": curvature.outside,
        "compared": curvature.compared,
        "excess": curvature.excess,
        "sentences": curvature.sentences,
        "flags": list(curvature.flags),
    }


def _growth(growth: Growth) -> dict[str, Any]:
    return {
        "exponent": growth.exponent,
        "interval": growth.interval,
        "orders": growth.orders,
        "orders_interval": growth.orders_interval,
    }


def _power(law: PowerLaw | None, symbol: str) -> dict[str, Any] | None:
    if law is None:
        return None
    return {
        "latex": rf"{symbol} = {latex(f'{math.exp(law.log_coefficient):.4g} C^{law.exponent:.4f}')}",
        "exponent": law.exponent,
        "interval": law.interval,
        "log_coefficient": law.log_coefficient,
        "level": law.level,
        "n": law.n,
    }


def _holdout(held: Holdout) -> dict[str, Any]:
    return {
        "how": held.how,
        "sentence": held.sentence,
        "n": len(held.actual),
        "n_fitted": held.n_fitted,
        "rmse": held.rmse,
        "bias": held.bias,
        "covered": float(np.mean(held.covered)),
        "extrapolation_ratio": held.extrapolation_ratio,
    }


def options_document(settings: Settings) -> dict[str, Any]:
    """Return the options of a study in one flat mapping."""
    nested = dataclasses.asdict(settings)
    spec, resampling = nested.pop("spec"), nested.pop("resampling")
    return {**spec, "link": settings.spec.linked(), **resampling, **nested}


def settings_document(table: RunTable, metric: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that repeats a study: its options, the data's digest and conventions, versions."""
    from importlib.metadata import version

    import scipy

    check = table.compute_check()
    return {
        "metric": metric,
        "source": table.source,
        "digest": table.digest,
        "rows": len(table),
        "k": table.k,
        "cost": dataclasses.asdict(table.cost),
        "derived": table.derived,
        "compute": check.sentence,
        "conventions": dict(table.conventions),
        "excluded": [dataclasses.asdict(row) for row in table.excluded],
        **options,
        "versions": {
            "cdslm_eval": version("cdslm-eval"),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
    }
