"""Truths behind simulated ladders: 8 budgets from 1e18 to 1e21 FLOPs, 5 sizes each, noise of .3 % (of a MOS, .02)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cdslm_eval.scaling import Law, LawSpec, Plan, simulate
from cdslm_eval.scaling.table import RunTable

__all__ = ["BASELINES", "LAWS", "MOS_LIMIT", "MOS_NOISE", "NOISE", "PLAN", "RISING", "SHAPES", "ladder", "mos_ladder"]

PLAN = Plan(tuple(float(C) for C in np.geomspace(1e18, 1e21, 8)), sizes=5, width=16)
NOISE, MOS_NOISE, MOS_LIMIT = 0.003, 0.02, 3.6
RISING = LawSpec(link="identity", better="higher")
# how tokens per parameter go with C
LAWS = {
    "r* as C^-.081": Law.of("chinchilla", E=1.8, A=480.0, B=3000.0, alpha=0.34, beta=0.40),
    "r* as C^-.158": Law.of("chinchilla", E=1.8, A=330.0, B=7000.0, alpha=0.32, beta=0.44),
    "r* constant": Law.of("chinchilla", E=1.8, A=830.0, B=1600.0, alpha=0.37, beta=0.37),
}
_EXACT = simulate(LAWS["r* as C^-.081"], PLAN, 0.0)
_X = _EXACT.C / 1e18
# scores that come near their limit: as powers of compute, and of size and data apart
SHAPES = {
    "3.6 - .8 C^-.5": MOS_LIMIT - 0.8 * _X**-0.5,
    "3.6 - .8 C^-1": MOS_LIMIT - 0.8 / _X,
    "3.6 - .8 exp(-2 log10 C)": MOS_LIMIT - 0.8 * np.exp(-2 * np.log10(_X)),
    "3.6 - .4 N^-1.2 - .4 D^-1.2": MOS_LIMIT
    - 0.4 * (_EXACT.N / _EXACT.N.min()) ** -1.2
    - 0.4 * (_EXACT.D / _EXACT.D.min()) ** -1.2,
}
# metric -> (floor, value to reach): the floor of one lies above what is wanted of it, that of the other below
BASELINES = {"unreachable": (0.06, 0.02), "reachable": (0.02, 0.08)}


def ladder(law: Law, seed: int) -> RunTable:
    """Draw a ladder: the loss, two metrics linear in it (see `BASELINES`), and a flat metric."""
    table = simulate(law, PLAN, NOISE, seed)
    rng = np.random.default_rng([seed, 1])
    true_loss = law.predict(table.N, table.D)
    metrics = {
        name: floor + 0.3 * (true_loss - law.parameters["E"]) + NOISE * rng.standard_normal(len(table))
        for name, (floor, _) in BASELINES.items()
    }
    metrics["flat"] = 0.3 + NOISE * rng.standard_normal(len(table))
    return replace(table, metrics={**table.metrics, **metrics})


def mos_ladder(shape: str, seed: int) -> RunTable:
    """Draw a ladder of a score that comes near 3.6."""
    values = SHAPES[shape] + MOS_NOISE * np.random.default_rng(seed).standard_normal(len(_EXACT))
    return replace(_EXACT, metrics={"mos": values})
