"""How often verdicts, signs and flags are right."""

from __future__ import annotations

from collections import Counter
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
from cdslm_eval.scaling import Law, LawSpec, bootstrap, fit_isoflops, fit_law, judge
from cdslm_eval.scaling.curvature import curvature

__all__ = ["Claim", "approached", "claims_of", "of_laws"]

_IDENTITY = LawSpec(link="identity")


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim that should be made in at least, or at most, a share of the tables.

    Attributes:
        truth, claim: In words.
        wanted: The share.
        at_least: Whether it is a least share, or a largest one.
        rate: The share in which it was made.
    """

    truth: str
    claim: str
    wanted: float
    at_least: bool
    rate: float

    @property
    def holds(self) -> bool:
        """Whether the rate is as wanted."""
        return self.rate >= self.wanted if self.at_least else self.rate <= self.wanted


def of_laws(tables: int, replicates: int = 200) -> list[Claim]:
    """Return the claims about ladders that follow a law."""
    claims = []
    for number, (name, law) in enumerate(LAWS.items()):
        count: Counter[str] = Counter()
        # laws are simulated apart, so that their rates are independent
        for seed in range(1000 * number, 1000 * number + tables):
            count.update(claims_of(law, seed, replicates))
        claims += [
            Claim(name, claim, wanted, at_least, count[claim] / tables) for claim, wanted, at_least in _wanted(name)
        ]
    return claims


def _wanted(name: str) -> list[tuple[str, float, bool]]:
    exponent = LAWS[name].curve.ratio_exponent
    signs = [("r* falls", 0.95, True)] if exponent < 0 else [("r* falls", 0.05, False)]
    budgets = [("r* falls, by the budgets", *signs[0][1:])]
    return [
        ("loss scales", 0.95, True),
        *signs,
        ("r* rises", 0.05, False),
        *budgets,
        ("r* rises, by the budgets", 0.05, False),
        ("curvature_disagrees", 0.05, False),
        ("metric scales", 0.95, True),
        ("unreachable baseline is unreachable", 0.95, True),
        ("reachable baseline is reachable", 0.95, True),
        ("flat metric is flat", 0.95, True),
    ]


def claims_of(law: Law, seed: int, replicates: int) -> list[str]:
    """Return the claims that are made about one ladder."""
    table = ladder(law, seed)
    made = []
    loss = judge(table, "loss", LawSpec(link="log"), replicates=replicates, seed=seed)
    made += [f"loss {loss.label}", f"r* {loss.ratio}"]
    budgets = fit_isoflops(table, "loss")
    if budgets.ratio_law is not None:
        low, high = budgets.ratio_law.interval
        made += ["r* falls, by the budgets"] * (high < 0) + ["r* rises, by the budgets"] * (low > 0)
    fit = fit_law(table, "loss")
    made += [flag.name for flag in curvature(budgets, fit, bootstrap(fit, replicates=replicates), []).flags]
    for metric, (_, baseline) in BASELINES.items():
        verdict = judge(table, metric, _IDENTITY, baseline=baseline, noise=NOISE, replicates=replicates, seed=seed)
        assert verdict.reach is not None
        made += [f"{metric} baseline is {verdict.reach.label}"]
        made += [f"metric {verdict.label}"] * (metric == "reachable")
    flat = judge(table, "flat", _IDENTITY, noise=NOISE, replicates=replicates, seed=seed)
    return [*made, f"flat metric is {flat.label}"]


def approached(tables: int, replicates: int = 200) -> list[Claim]:
    """Return the claims about scores that come near a limit, which is the baseline: neither reached nor passed."""
    claims = []
    for shape in SHAPES:
        verdicts = [
            judge(
                mos_ladder(shape, seed), "mos", RISING, baseline=MOS_LIMIT, noise=MOS_NOISE, replicates=replicates,
                seed=seed,
            )
            for seed in range(tables)
        ]  # fmt: skip
        saturates = sum(verdict.label == "saturates" for verdict in verdicts) / tables
        reachable = sum(verdict.reach is not None and verdict.reach.label == "reachable" for verdict in verdicts)
        claims += [
            Claim(shape, "saturates", 0.90, True, saturates),
            Claim(shape, "the limit is reachable", 0.05, False, reachable / tables),
        ]
    return claims
