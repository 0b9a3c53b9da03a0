"""How often 95 % intervals hold the truth: of every interval that `cdslm-eval fit` prints."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from benchmarks.forty_runs.truths import BASELINES, NOISE, PLAN, ladder
from cdslm_eval.scaling import Law, LawFit, Verdict, bootstrap, fit_isoflops, fit_law, predict
from cdslm_eval.scaling.bootstrap import Bootstrap
from cdslm_eval.scaling.curvature import curvature
from cdslm_eval.scaling.isoflop import IsoFlops
from cdslm_eval.scaling.validation import roll_out, widening

__all__ = ["held_by_fits", "held_by_verdicts"]

_BUDGETS = np.array([1e18, 1e19, 1e20, 1e21])
_EPSILONS = ((0.001, True), (0.01, True), (0.05, True), (0.01, False))
_KEYS = ("N", "D", "ratio", "loss", "kappa")
# (name of the interval, truth, low, high)
Held = tuple[str, float, float, float]


def held_by_fits(law: Law, seed: int, replicates: int) -> dict[str, tuple[int, int]]:
    """Return how often each interval of law and budgets of one ladder holds the truth, and of how many."""
    table = ladder(law, seed)
    fit = fit_law(table, "loss")
    draws = bootstrap(fit, replicates=replicates, seed=seed)
    budgets = fit_isoflops(table, "loss", seed=seed)
    return _counted([*_of_law(law, fit, draws), *_of_budgets(law, budgets), *_of_curvature(law, budgets, fit, draws)])


def held_by_verdicts(law: Law, verdicts: Mapping[str, Verdict]) -> dict[str, tuple[int, int]]:
    """Return how often each interval of the verdicts about one ladder holds the truth, and of how many."""
    return _counted(_of_verdicts(law, verdicts))


def _counted(rows: Iterable[Held]) -> dict[str, tuple[int, int]]:
    inside: dict[str, list[bool]] = defaultdict(list)
    for name, truth, low, high in rows:
        if math.isfinite(truth) and not math.isnan(low):
            inside[name].append(low <= truth <= high)
    return {name: (sum(values), len(values)) for name, values in inside.items()}


def _of_law(law: Law, fit: LawFit, draws: Bootstrap) -> Iterator[Held]:
    """Yield intervals of parameters, exponents, optima, near-optimal ranges and predictions."""
    for name, truth in law.parameters.items():
        if name in fit.parameters and not name.startswith("log_"):
            yield f"law: {name}", truth, *draws.interval(name)
    for name in ("N_exponent", "ratio_exponent"):
        yield f"law: {name}", float(getattr(law.curve, name)), *draws.interval(name)
    best, ends = law.optimum(_BUDGETS), draws.optimum(_BUDGETS)
    for key in _KEYS:
        low, high = getattr(ends, key)
        for index, truth in enumerate(getattr(best, key)):
            yield f"law: {key} at the optimum", float(truth), float(low[index]), float(high[index])
    for epsilon, relative in _EPSILONS:
        near = law.near_optimal(_BUDGETS, epsilon, relative=relative)
        bands = draws.near_optimal(_BUDGETS, epsilon, relative=relative)
        for name, (low, high) in bands.items():
            for index, truth in enumerate(getattr(near, name)):
                yield f"law: {name} within epsilon", float(truth), float(low[index]), float(high[index])
    rng = np.random.default_rng(fit.table.metric("loss").view(np.uint64)[0])
    for where, C in (("within the data", _BUDGETS), ("10 times beyond", np.array([1e22]))):
        model = law.optimum(C)
        wider = widening(roll_out(fit)) if C.max() > PLAN.budgets[-1] else 1.0
        done = predict(fit, model.N, model.D, draws=draws, wider=wider)
        truth = law.predict(model.N, model.D)
        further = truth * np.exp(NOISE * rng.standard_normal(len(C)))
        for index in range(len(C)):
            yield f"predicted loss {where}", float(truth[index]), *(float(end[index]) for end in done.confidence)
            yield f"one further run {where}", float(further[index]), *(float(end[index]) for end in done.prediction)


def _of_budgets(law: Law, budgets: IsoFlops) -> Iterator[Held]:
    """Yield intervals of each budget's own curve, and of the power laws through them."""
    for budget in budgets.optima:
        best = law.optimum(budget.C)
        for key in _KEYS:
            yield f"a budget alone: {key}", float(getattr(best, key)), *getattr(budget, f"{key}_interval")
    ends = law.optimum(np.array([PLAN.budgets[0], PLAN.budgets[-1]]))
    steps = math.log(PLAN.budgets[-1] / PLAN.budgets[0])
    for key in ("N", "D", "ratio", "kappa"):
        power = getattr(budgets, f"{key}_law")
        if power is not None:
            truth = float(np.diff(np.log(getattr(ends, key)))[0]) / steps
            yield f"power law of the budgets: {key}", truth, *power.interval


def _of_curvature(law: Law, budgets: IsoFlops, fit: LawFit, draws: Bootstrap) -> Iterator[Held]:
    """Yield intervals of the growth of kappa and of the near-optimal widths."""
    ends = np.array([PLAN.budgets[0], PLAN.budgets[-1]])
    steps = math.log(ends[1] / ends[0])
    bent = curvature(budgets, fit, draws, _EPSILONS)
    for growth in (bent.law,):
        if growth is not None:
            yield "growth of kappa, law", float(np.diff(np.log(law.kappa(ends)))[0]) / steps, *growth.interval
    for width in bent.widths:
        near = law.near_optimal(ends, width.epsilon, relative=width.relative)
        truths = {
            "ratio": near.width,
            "N": np.log(near.N_high - near.N_low),
            "D": np.log(near.D_high - near.D_low),
        }
        for name, truth in truths.items():
            growth = getattr(width, name)
            yield f"growth of width {name}, {width.source}", float(np.diff(truth)[0]) / steps, *growth.interval


def _of_verdicts(law: Law, verdicts: Mapping[str, Verdict]) -> Iterator[Held]:
    """Yield intervals of gains, limits and the budget that reaches a baseline."""
    slope, floor_of_loss = 0.3, law.parameters["E"]
    ends = law.optimum(np.array([1e18, 1e21, 1e22])).loss
    for metric, verdict in verdicts.items():
        floor, baseline = BASELINES[metric]
        yield "verdict: gain", slope * float(ends[0] - ends[1]), *verdict.gain_interval
        yield "verdict: gain of ten times more", slope * float(ends[1] - ends[2]), *verdict.next_interval
        yield "verdict: limit", floor, *verdict.limit_interval
        if baseline > floor and verdict.reach is not None:
            reached = law.reach(floor_of_loss + (baseline - floor) / slope)
            yield "verdict: budget that reaches the baseline", reached, *verdict.reach.interval
