"""Tables of a study in words: what the terminal prints and the page shows, each number with its interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from cdslm_eval.scaling.downstream import Downstream
from cdslm_eval.scaling.forecast import Predicted
from cdslm_eval.scaling.frontier import Band, Frontier, NearRange
from cdslm_eval.scaling.isoflop import IsoFlops
from cdslm_eval.scaling.study import Study
from cdslm_eval.scaling.validation import Holdout
from cdslm_eval.scaling.wording import between, count, estimator_words, plain, sign_words

__all__ = [
    "View",
    "downstream_view",
    "estimator_line",
    "exponent_lines",
    "isoflop_view",
    "near_view",
    "optimum_view",
    "parameter_view",
    "predicted_view",
    "rollout_view",
    "staged_view",
]

_NAMES = {
    "E": "E",
    "A": "A",
    "log_A": "ln A",
    "alpha": "alpha",
    "B": "B",
    "log_B": "ln B",
    "beta": "beta",
    "gamma": "gamma",
}


@dataclass(frozen=True, slots=True)
class View:
    """A table: a title, a remark, headings, and rows of texts."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def downstream_view(found: Downstream) -> View:
    """Return the three ways to a downstream metric, by their errors on held-out rows."""
    names = {"direct": "direct", "two_stage": "two-stage (of the loss)", "fused": "fused (with the loss)"}
    rows = []
    for one in found.scores:
        mark = " (best)" if one.method == found.best else " (not surely worse)" if one.method in found.tied else ""
        lost = {"two_stage": found.two_stage, "fused": found.fused}
        rank = lost[one.method].rank_deficiency if one.method in lost else 0
        cells = (plain(one.rmse_beyond, 3), str(len(one.beyond)), plain(one.rmse_within, 3), str(len(one.within)))
        rows.append((f"{names[one.method]}{mark}", *cells, str(rank), one.reason))
    headings = ("", "RMSE beyond", "rows", "RMSE within", "rows", "undetermined", "remark")
    note = (
        f"errors on the {found.axis.link.name} scale of {found.metric}; beyond: the largest budgets, from the "
        "smaller; within: cross-validation"
    )
    return View("Three ways to the metric", headings, tuple(rows), note)


def staged_view(study: Study) -> View:
    """Return the parameters of the fits through the loss, with intervals."""
    found, draws, level = study.downstream, study.downstream_draws, study.settings.level
    assert found is not None
    rows = []
    for name in found.fused.parameters:
        cells = []
        for one in (found.two_stage, found.fused):
            ends = draws[one.name].interval(name, level) if one.name in draws else (math.nan, math.nan)
            cells += [plain(one.parameters[name], 5), between(*ends, 4)]
        rows.append((_NAMES.get(name, name), *cells))
    title = f"{found.metric} = map({found.loss}), {found.loss} = {found.loss_fit.problem.form.formula}"
    note = next((draws[name].sentence for name in draws), study.missing.get("downstream_intervals", ""))
    headings = ("", "two-stage", _percent(level), "fused", _percent(level))
    return View(title, headings, tuple(rows), note)


def estimator_line(study: Study) -> str:
    """Return by which estimator the law was fitted, to how many rows, with what objective."""
    fit = study.fit
    assert fit is not None
    words = estimator_words(fit.settings.estimator, fit.settings.delta, fit.link, fit.metric)
    return f"Estimator: {words}; {fit.n_rows} rows, objective {fit.objective:.9g}."


def parameter_view(study: Study) -> View:
    """Return the law's parameters with intervals and standard errors."""
    fit, draws, level = study.fit, study.bootstrap, study.settings.level
    assert fit is not None
    rows = []
    for name, text in _NAMES.items():
        if name in fit.parameters:
            ends = (math.nan, math.nan) if draws is None else draws.interval(name, level)
            error = math.nan if draws is None else draws.standard_error(name)
            rows.append((text, plain(fit.parameters[name], 6), between(*ends, 4), plain(error, 3)))
    note = study.missing.get("bootstrap", "no intervals were asked for") if draws is None else draws.sentence
    return View(
        f"Parameters of {fit.problem.form.formula}", ("", "estimate", _percent(level), "std. error"), tuple(rows), note
    )


def exponent_lines(study: Study) -> tuple[str, ...]:
    """Return how N*, D* and r* go with C, and whether their signs are established."""
    fit, draws, level = study.fit, study.bootstrap, study.settings.level
    if fit is None or fit.form == "power":
        return ()
    curve = fit.law.curve
    values = {"N": curve.N_exponent, "D": 1 - curve.N_exponent, "ratio": curve.ratio_exponent}
    lines = []
    for key, name in (("N", "N*"), ("D", "D*"), ("ratio", "r* = D*/N*")):
        ends = (math.nan, math.nan) if draws is None else draws.interval(f"{key}_exponent", level)
        lines.append(sign_words(name, float(values[key]), *ends, level) + ".")
    return tuple(lines)


def optimum_view(found: Frontier, metric: str, level: float, note: str = "") -> View:
    """Return the compute-optimal models at budgets."""

    def cells(place: int) -> Iterable[str]:
        for band, write in _written(found):
            ends = band.low[place], band.high[place]
            yield f"{write(band.value[place])}{_ends(*ends, counts=write is count)}"

    rows = tuple((plain(C, 3), *cells(place)) for place, C in enumerate(found.N.C))
    headings = ("C [FLOP]", "N*", "D*", "r* = D*/N*", f"{metric} there", "kappa")
    return View(f"Compute-optimal models ({_percent(level)} interval in brackets)", headings, rows, note)


def _written(found: Frontier) -> tuple[tuple[Band, Callable[[float], str]], ...]:
    return (
        (found.N, count),
        (found.D, count),
        (found.ratio, _short),
        (found.loss, plain),
        (found.kappa, _short),
    )


def _short(value: float) -> str:
    return plain(value, 3)


def _ends(low: float, high: float, *, counts: bool = False) -> str:
    text = between(low, high, 3, counts=counts)
    return "" if text == "—" else f" [{text}]"


def _percent(level: float) -> str:
    return f"{100 * level:g} %"


def near_view(found: tuple[NearRange, ...], level: float) -> View:
    """Return which models stay within a share of the optimum's value."""
    rows = []
    for near in found:
        for place, C in enumerate(near.N_low.C):
            cells = []
            for key in ("N", "D"):
                low, high = getattr(near, f"{key}_low"), getattr(near, f"{key}_high")
                cells.append(between(low.value[place], high.value[place], 3, counts=True))
            with np.errstate(over="ignore"):
                wide, *ends = np.exp([near.width.value[place], near.width.low[place], near.width.high[place]]).tolist()
            rows.append((plain(C, 3), near.name, *cells, f"{plain(wide, 3)}x{_ends(*ends)}"))
    rows.sort(key=lambda row: float(row[0]))
    headings = ("C [FLOP]", "within", "N from … to", "D from … to", f"N high / N low [{_percent(level)}]")
    return View("Near-optimal models", headings, tuple(rows))


def isoflop_view(found: IsoFlops) -> View:
    """Return each budget by itself."""
    rows = []
    for one in found.budgets:
        kind = "—" if one.chosen is None else {2: "parabola", 3: "cubic"}[one.chosen.degree]
        if not one.has_optimum:
            rows.append((plain(one.C, 3), str(len(one.rows)), kind, *["—"] * 5, one.reason))
            continue
        rows.append(
            (
                plain(one.C, 3),
                str(len(one.rows)),
                kind,
                f"{count(one.N)}{_ends(*one.N_interval, counts=True)}",
                f"{count(one.D)}{_ends(*one.D_interval, counts=True)}",
                f"{plain(one.ratio, 3)}{_ends(*one.ratio_interval)}",
                f"{plain(one.loss)}{_ends(*one.loss_interval)}",
                f"{plain(one.kappa, 3)}{_ends(*one.kappa_interval)}",
                "",
            )
        )
    headings = ("C [FLOP]", "rows", "curve", "N*", "D*", "r* = D*/N*", f"{found.metric} there", "kappa", "remark")
    return View("Each budget by itself (95 % interval in brackets)", headings, tuple(rows))


def rollout_view(found: tuple[Holdout, ...]) -> View:
    """Return how well each budget is predicted from the smaller ones."""
    rows = tuple(
        (
            step.how.removeprefix("C = ").partition(" ")[0],
            f"{len(step.actual)} from {step.n_fitted}",
            plain(step.rmse, 3),
            f"{step.bias:+.2g}",
            f"{step.covered.mean():.0%}",
        )
        for step in found
    )
    headings = ("C [FLOP]", "rows", "RMSE", "bias", "in their 95 %")
    return View("Each budget predicted from the smaller ones", headings, rows, "errors on the scale of the link")


def predicted_view(found: tuple[Predicted, ...], metric: str, level: float, title: str) -> View:
    """Return predicted models: the value with the law's own interval, and that of one further run."""
    rows = []
    for one in found:
        cells = [plain(one.C, 3)]
        for key, write in (("N", count), ("D", count), ("ratio", _short), ("loss", plain), ("kappa", _short)):
            ends = one.intervals.get(key, (math.nan, math.nan))
            cells.append(f"{write(getattr(one, key))}{_ends(*ends, counts=write is count)}")
        rows.append((*cells, between(*one.prediction)))
    headings = ("C [FLOP]", "N", "D", "D/N", metric, "kappa", f"one further run, {_percent(level)}")
    return View(f"{title} ({_percent(level)} interval in brackets)", headings, tuple(rows))
