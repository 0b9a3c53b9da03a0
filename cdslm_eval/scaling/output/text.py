"""Numbers, sentences and tables of a study as text: what the terminal prints and the page shows."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from cdslm_eval.scaling.downstream import Downstream
from cdslm_eval.scaling.frontier import Band, Frontier, NearRange
from cdslm_eval.scaling.isoflop import IsoFlops
from cdslm_eval.scaling.study import Study
from cdslm_eval.scaling.validation import Holdout

__all__ = [
    "View",
    "between",
    "bracket",
    "count",
    "downstream_view",
    "estimator_line",
    "estimator_words",
    "exponent_lines",
    "held_out_view",
    "isoflop_view",
    "latex",
    "map_view",
    "near_view",
    "optimum_view",
    "parameter_view",
    "percent",
    "plain",
    "rollout_view",
    "short",
    "sign_words",
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


_PREFIXES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def plain(value: float, digits: int = 4) -> str:
    """Return a number with so many significant digits, or a dash where it is unknown.

    Example:
        >>> plain(0.34731051), plain(2143.417), plain(3.2e21), plain(float("nan")), plain(0.0)
        ('0.3473', '2143', '3.2e21', '—', '0')
    """
    if not math.isfinite(value):
        return "—"
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        text = f"{value:#.{digits}g}" if value else "0"
        return f"{value:.0f}" if abs(value) >= 10 ** (digits - 1) else text.rstrip(".")
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def count(value: float, digits: int = 3) -> str:
    """Return a number of parameters or tokens with its decimal prefix.

    Example:
        >>> count(7.03e9), count(1.4e12), count(123.0), count(2.5e17)
        ('7.03B', '1.40T', '123', '2.5e17')
    """
    if not math.isfinite(value):
        return "—"
    for unit, letter in _PREFIXES:
        if unit <= value < 1e15:
            return f"{plain(value / unit, digits)}{letter}"
    return plain(value, digits)


def between(low: float, high: float, digits: int = 4, *, counts: bool = False) -> str:
    """Return an interval, or a dash where it is unknown.

    Example:
        >>> between(1.769, 1.871, 3), between(7e9, 9.1e9, 2, counts=True), between(float("nan"), 1.0)
        ('1.77 … 1.87', '7.0B … 9.1B', '—')
    """
    if math.isnan(low) or math.isnan(high):
        return "—"
    write = count if counts else plain
    ends = [("−∞" if end < 0 else "∞") if math.isinf(end) else write(end, digits) for end in (low, high)]
    return " … ".join(ends)


def estimator_words(estimator: str, delta: str, link: str, metric: str) -> str:
    """Return the estimator in words: Huber's and least absolute deviations are often confused.

    Example:
        >>> estimator_words("huber", "0.001", "log", "loss")
        'Huber loss (sum, delta 0.001) on log loss'
        >>> estimator_words("lad", "0", "identity", "mos")
        'least absolute deviations (LAD) on mos'
    """
    on = {"log": f"log {metric}", "logit": f"logit {metric}"}.get(link, metric)
    words = {
        "huber": f"Huber loss (sum, delta {delta})",
        "lad": "least absolute deviations (LAD)",
        "least_squares": "least squares",
    }
    return f"{words[estimator]} on {on}"


def sign_words(name: str, value: float, low: float, high: float, level: float, *, fixed: bool = False) -> str:
    """Return a sentence about an exponent of C: it rises, falls, or its sign is not established.

    Args:
        name: What goes with C.
        value: The exponent.
        low, high: Its interval.
        level: Of the interval.
        fixed: Whether the form of the law has no other exponent, so that the data have nothing to decide.

    Example:
        >>> sign_words("r* = D*/N*", -0.027, -0.112, 0.039, 0.95)
        'r* = D*/N* goes as C^-0.027 (95 % interval -0.112 … 0.039): its sign is not established by these data'
    """
    sentence = f"{name} goes as C^{value:.3f}"
    if fixed:
        return f"{sentence}, whatever the data: the form of the law has no other"
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{sentence} (no interval: its sign is not established)"
    sentence += f" ({100 * level:g} % interval {low:.3f} … {high:.3f})"
    if low <= 0 <= high:
        return f"{sentence}: its sign is not established by these data"
    return f"{sentence}: it {'rises' if low > 0 else 'falls'} with compute"


def latex(formula: str) -> str:
    r"""Return a formula of numbers and powers as LaTeX.

    Example:
        >>> print(latex("1.8 + 477.8 N^-0.3473 + 2.1e+05 D^-0.3672"))
        1.8 + 477.8 N^{-0.3473} + 2.1 \times 10^{5} D^{-0.3672}
    """
    raised = re.sub(r"\^(-?[0-9.]+)", r"^{\1}", formula)
    return re.sub(r"(?<=[0-9])e([+-])0*([0-9]+)", lambda m: rf" \times 10^{{{m[1].strip('+')}{m[2]}}}", raised)


@dataclass(frozen=True, slots=True)
class View:
    """A table: a title, a remark, headings, and rows of texts."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def downstream_view(downstream: Downstream) -> View:
    """Return the three methods for a downstream metric, by their errors on held-out rows."""
    names = {"direct": "direct", "two_stage": "two-stage (of the loss)", "fused": "fused (with the loss)"}
    rows = []
    for score in downstream.scores:
        mark = (
            " (best)"
            if score.method == downstream.best
            else " (not significantly worse)"
            if score.method in downstream.tied
            else ""
        )
        lost = {"two_stage": downstream.two_stage, "fused": downstream.fused}
        rank = lost[score.method].rank_deficiency if score.method in lost else 0
        cells = (
            plain(score.rmse_beyond, 3),
            str(len(score.beyond)),
            plain(score.rmse_within, 3),
            str(len(score.within)),
        )
        rows.append((f"{names[score.method]}{mark}", *cells, str(rank), score.reason))
    headings = ("", "RMSE beyond", "rows", "RMSE within", "rows", "undetermined", "remark")
    note = (
        f"errors on the {downstream.axis.link.name} scale of {downstream.metric}; beyond: the largest budgets, from "
        "the smaller; within: cross-validation"
    )
    return View("Three methods for the metric", headings, tuple(rows), note)


def map_view(downstream: Downstream) -> View:
    """Return every kind of map that was tried."""
    chosen = downstream.two_stage.map.name
    rows = tuple(
        (f"{score.name}{' (chosen)' if score.name == chosen else ''}", str(score.parameters), plain(score.aicc, 4),
         plain(score.held_out, 3))
        for score in downstream.two_stage.map.scores
    )  # fmt: skip
    scale = f"errors on the {downstream.axis.link.name} scale"
    note = (
        f"held out: the best .1, .2 and .3 of the range of {downstream.loss}, where they leave rows enough for every "
        f"kind; {scale}"
    )
    return View(
        f"Maps from {downstream.loss} to {downstream.metric}", ("", "parameters", "AICc", "RMSE held out"), rows, note
    )


def _against(value: float, actual: float) -> str:
    """Return a prediction with its relative error."""
    return f"{plain(value)} ({100 * (value / actual - 1):+.2f} %)" if math.isfinite(value) else "—"


def held_out_view(downstream: Downstream) -> View:
    """Return what each method predicts for the held-out rows, the first twelve."""
    rows = downstream.held_out.select(np.arange(min(12, len(downstream.held_out))))
    actual = rows.metric(downstream.metric)
    predicted = {method: downstream.predict(method, rows.N, rows.D) for method in ("direct", "two_stage", "fused")}
    lines = tuple(
        (str(rows.line[i]), count(rows.N[i]), count(rows.D[i]), plain(actual[i]),
         *(_against(values[i], actual[i]) for values in predicted.values()))
        for i in range(len(rows))
    )  # fmt: skip
    left = len(downstream.held_out) - len(rows)
    headings = ("line", "N", "D", "actual", "direct", "two-stage", "fused")
    return View("Held-out rows", headings, lines, f"and {left} more, in the JSON" if left else "")


def staged_view(study: Study) -> View:
    """Return the parameters of the fits through the loss, with intervals."""
    downstream, draws, level = study.downstream, study.downstream_draws, study.settings.resampling.level
    assert downstream is not None
    rows = []
    for name in downstream.fused.parameters:
        cells = []
        for staged in (downstream.two_stage, downstream.fused):
            ends = draws[staged.name].interval(name, level) if staged.name in draws else (math.nan, math.nan)
            cells += [plain(staged.parameters[name], 5), between(*ends, 4)]
        rows.append((_NAMES.get(name, name), *cells))
    kind = downstream.two_stage.map.kind
    law = f"{downstream.loss} = {downstream.loss_fit.problem.form.formula}"
    title = f"{downstream.metric} = {kind.name} map of {downstream.loss} ({kind.formula}), {law}"
    note = next((draws[name].sentence for name in draws), study.missing.get("downstream_intervals", ""))
    headings = ("", "two-stage", percent(level), "fused", percent(level))
    return View(title, headings, tuple(rows), note)


def estimator_line(study: Study) -> str:
    """Return the estimator, the number of rows and the objective of the law."""
    fit = study.fit
    assert fit is not None
    words = estimator_words(fit.spec.estimator, fit.delta, fit.link, fit.metric)
    return f"Estimator: {words}; {fit.n_rows} rows, objective {fit.objective:.9g}."


def parameter_view(study: Study) -> View:
    """Return the law's parameters with intervals and standard errors."""
    fit, draws, level = study.fit, study.bootstrap, study.settings.resampling.level
    assert fit is not None
    rows = []
    for name, text in _NAMES.items():
        if name in fit.parameters:
            ends = (math.nan, math.nan) if draws is None else draws.interval(name, level)
            error = math.nan if draws is None else draws.standard_error(name)
            rows.append((text, plain(fit.parameters[name], 6), between(*ends, 4), plain(error, 3)))
    note = study.missing.get("bootstrap", "no intervals were requested") if draws is None else draws.sentence
    return View(
        f"Parameters of {fit.problem.form.formula}", ("", "estimate", percent(level), "std. error"), tuple(rows), note
    )


def exponent_lines(study: Study) -> tuple[str, ...]:
    """Return the exponents of N*, D* and r*, and whether their signs are established."""
    fit, draws, level = study.fit, study.bootstrap, study.settings.resampling.level
    if fit is None or not fit.law.has_optimum:
        return ()
    curve = fit.law.curve
    values = {"N": curve.N_exponent, "D": curve.D_exponent, "ratio": curve.ratio_exponent}
    lines = []
    for key, name in (("N", "N*"), ("D", "D*"), ("ratio", "r* = D*/N*")):
        ends = (math.nan, math.nan) if draws is None else draws.interval(f"{key}_exponent", level)
        lines.append(sign_words(name, float(values[key]), *ends, level, fixed=fit.law.fixes_growth) + ".")
    return tuple(lines)


def optimum_view(frontier: Frontier, metric: str, level: float, note: str = "") -> View:
    """Return the compute-optimal models at budgets."""

    def cells(index: int) -> Iterable[str]:
        for band, write in _written(frontier):
            ends = band.low[index], band.high[index]
            yield f"{write(band.value[index])}{bracket(*ends, counts=write is count)}"

    rows = tuple((plain(C, 3), *cells(index)) for index, C in enumerate(frontier.N.C))
    headings = ("C [FLOP]", "N*", "D*", "r* = D*/N*", f"{metric} there", "kappa")
    return View(f"Compute-optimal models ({percent(level)} interval in brackets)", headings, rows, note)


def _written(frontier: Frontier) -> tuple[tuple[Band, Callable[[float], str]], ...]:
    return (
        (frontier.N, count),
        (frontier.D, count),
        (frontier.ratio, short),
        (frontier.loss, plain),
        (frontier.kappa, short),
    )


def short(value: float) -> str:
    """Return a number with three significant digits."""
    return plain(value, 3)


def bracket(low: float, high: float, *, counts: bool = False) -> str:
    """Return an interval in brackets after a number, or "" where it is unknown."""
    text = between(low, high, 3, counts=counts)
    return "" if text == "—" else f" [{text}]"


def percent(level: float) -> str:
    """Return a level as "95 %"."""
    return f"{100 * level:g} %"


def near_view(ranges: tuple[NearRange, ...], level: float) -> View:
    """Return which models stay within a share of the optimum's value."""
    rows = []
    for near in ranges:
        for index, C in enumerate(near.N_low.C):
            cells = []
            for key in ("N", "D"):
                low, high = getattr(near, f"{key}_low"), getattr(near, f"{key}_high")
                cells.append(between(low.value[index], high.value[index], 3, counts=True))
            with np.errstate(over="ignore"):
                wide, *ends = np.exp([near.width.value[index], near.width.low[index], near.width.high[index]]).tolist()
            rows.append((plain(C, 3), near.name, *cells, f"{plain(wide, 3)}x{bracket(*ends)}"))
    rows.sort(key=lambda row: float(row[0]))
    headings = ("C [FLOP]", "within", "N from … to", "D from … to", f"N high / N low [{percent(level)}]")
    return View("Near-optimal models", headings, tuple(rows))


def isoflop_view(isoflops: IsoFlops) -> View:
    """Return each budget by itself."""
    rows = []
    for budget in isoflops.budgets:
        kind = "—" if budget.chosen is None else budget.chosen.name
        if not budget.has_optimum:
            rows.append((plain(budget.C, 3), str(len(budget.rows)), kind, *["—"] * 5, budget.reason))
            continue
        rows.append(
            (
                plain(budget.C, 3),
                str(len(budget.rows)),
                kind,
                f"{count(budget.N)}{bracket(*budget.N_interval, counts=True)}",
                f"{count(budget.D)}{bracket(*budget.D_interval, counts=True)}",
                f"{plain(budget.ratio, 3)}{bracket(*budget.ratio_interval)}",
                f"{plain(budget.loss)}{bracket(*budget.loss_interval)}",
                f"{plain(budget.kappa, 3)}{bracket(*budget.kappa_interval)}",
                "",
            )
        )
    headings = ("C [FLOP]", "rows", "curve", "N*", "D*", "r* = D*/N*", f"{isoflops.metric} there", "kappa", "remark")
    return View("Each budget by itself (95 % interval in brackets)", headings, tuple(rows))


def rollout_view(steps: tuple[Holdout, ...]) -> View:
    """Return how well each budget is predicted from the smaller ones."""
    rows = tuple(
        (
            step.how.removeprefix("C = ").partition(" ")[0],
            f"{len(step.actual)} from {step.n_fitted}",
            plain(step.rmse, 3),
            f"{step.bias:+.2g}",
            f"{step.covered.mean():.0%}",
        )
        for step in steps
    )
    headings = ("C [FLOP]", "rows", "RMSE", "bias", "in their 95 %")
    return View("Each budget predicted from the smaller ones", headings, rows, "errors on the scale of the link")
