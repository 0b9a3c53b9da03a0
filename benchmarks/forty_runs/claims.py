"""How often verdicts, signs and flags are right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.forty_runs.truths import (
    BASELINES,
    LAWS,
    MOS_LIMIT,
    MOS_NOISE,
    NOISE,
    RISING,
    SHAPES,
    ladder,
    mos_ladder,
)
from cdslm_eval.scaling import Law, LawSpec, Verdict, bootstrap, fit_isoflops, fit_law, judge
from cdslm_eval.scaling.curvature import curvature

__all__ = ["Wanted", "approach_of", "claims_of", "verdicts_of", "wanted_of"]

_IDENTITY = LawSpec(link="identity")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A claim that should be made in at least `least` and at most `most` of the ladders of a truth."""

    claim: str
    least: float = 0.0
    most: float = 1.0


def wanted_of(truth: str) -> list[Wanted]:
    """Return what is wanted of the claims about a law, or about a shape of saturation."""
    if truth in SHAPES:
        return [Wanted("saturates", least=0.90), Wanted("the limit is reachable", most=0.05)]
    falls = LAWS[truth].curve.ratio_exponent < 0
    signs = [
        Wanted(f"r* falls{by}", least=0.95) if falls else Wanted(f"r* falls{by}", most=0.05)
        for by in ("", ", by the budgets")
    ]
    return [
        Wanted("loss scales", least=0.95),
        *signs,
        Wanted("r* rises", most=0.05),
        Wanted("r* rises, by the budgets", most=0.05),
        Wanted("curvature_disagrees", most=0.05),
        Wanted("metric scales", least=0.95),
        Wanted("unreachable baseline is unreachable", least=0.95),
        Wanted("reachable baseline is reachable", least=0.95),
        Wanted("flat metric is flat", least=0.95),
    ]


def verdicts_of(law: Law, seed: int, replicates: int) -> dict[str, Verdict]:
    """Return the verdicts about the metrics of one ladder for which there is a baseline."""
    table = ladder(law, seed)
    return {
        metric: judge(table, metric, _IDENTITY, baseline=baseline, noise=NOISE, replicates=replicates, seed=seed)
        for metric, (_, baseline) in BASELINES.items()
    }


def claims_of(law: Law, seed: int, replicates: int, verdicts: Mapping[str, Verdict] | None = None) -> list[str]:
    """Return the claims that are made about one ladder.

    Args:
        law: That it follows.
        seed: Of the ladder.
        replicates: Of each bootstrap.
        verdicts: By `verdicts_of`; None judges here.
    """
    table = ladder(law, seed)
    loss = judge(table, "loss", LawSpec(link="log"), replicates=replicates, seed=seed)
    made = [f"loss {loss.label}", f"r* {loss.ratio}"]
    budgets = fit_isoflops(table, "loss")
    if budgets.ratio_law is not None:
        low, high = budgets.ratio_law.interval
        made += ["r* falls, by the budgets"] * (high < 0) + ["r* rises, by the budgets"] * (low > 0)
    fit = fit_law(table, "loss")
    made += [flag.name for flag in curvature(budgets, fit, bootstrap(fit, replicates=replicates), []).flags]
    verdicts = verdicts_of(law, seed, replicates) if verdicts is None else verdicts
    for metric, verdict in verdicts.items():
        assert verdict.reach is not None
        made += [f"{metric} baseline is {verdict.reach.label}"]
    made += [f"metric {verdicts['reachable'].label}"]
    flat = judge(table, "flat", _IDENTITY, noise=NOISE, replicates=replicates, seed=seed)
    return [*made, f"flat metric is {flat.label}"]


def approach_of(shape: str, seed: int, replicates: int) -> list[str]:
    """Return the claims about one score that comes near a limit, which is the baseline: neither reached nor passed."""
    table = mos_ladder(shape, seed)
    verdict = judge(table, "mos", RISING, baseline=MOS_LIMIT, noise=MOS_NOISE, replicates=replicates, seed=seed)
    reached = verdict.reach is not None and verdict.reach.label == "reachable"
    return [verdict.label, *["the limit is reachable"] * reached]
