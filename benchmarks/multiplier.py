"""Coverage of the compute multiplier's interval on simulated families whose multiplier is known.

    python -m benchmarks.multiplier --tables 200

Two families of 21 runs each (3 budgets from 1e18 to 1e20 FLOPs, 7 sizes, noise .3 %), under three truths: their
coefficients differ; E as well; exponents as well. AICc chooses the joint fit behind the multiplier in each table.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass

import numpy as np

from cdslm_eval.scaling import Law, LawSpec, Plan, fit_families, simulate
from cdslm_eval.scaling.frontier import Resampling
from cdslm_eval.scaling.multiplier import Multiplier
from cdslm_eval.scaling.multiplier import multiplier as multiplier_of
from cdslm_eval.scaling.table import RunTable

PLAN = Plan((1e18, 1e19, 1e20), 7)
SPEC = LawSpec(delta=0.004)
BASE = Law.of("chinchilla", E=1.8, A=480.0, B=2100.0, alpha=0.35, beta=0.37)
TRUTHS = {
    "coefficients differ": Law.of(
        "chinchilla", E=1.8, A=480.0 * 0.7**0.35, B=2100.0 * 0.7**0.37, alpha=0.35, beta=0.37
    ),
    "E differs as well": Law.of("chinchilla", E=1.87, A=480.0 * 0.9, B=2100.0 * 0.9, alpha=0.35, beta=0.37),
    "exponents differ as well": Law.of("chinchilla", E=1.83, A=300.0, B=1500.0, alpha=0.33, beta=0.36),
}


@dataclass(slots=True)
class Tally:
    """What a number of tables gave.

    Attributes:
        covered: At the middle budget, and at values of the metric that the first reaches at 1e18, 1e19 and 1e20.
        alone: The same of the best joint fit's own intervals, without those of the others as plausible.
        chosen: How often groups shared what.
    """

    tables: int
    covered: np.ndarray
    alone: np.ndarray
    chosen: Counter[str]


def tally(truth: Law, tables: int, replicates: int, seed: int = 0) -> Tally:
    """Simulate, fit, and count in how many tables the intervals hold the truth."""
    values = [float(BASE.optimum(C).loss) for C in (1e18, 1e19, 1e20)]
    known = [float(truth.reach(value)) / float(BASE.reach(value)) for value in values]
    done = Tally(tables, np.zeros(4), np.zeros(4), Counter())
    for number in range(tables):
        rows = [
            {**row, "model": name}
            for name, law, offset in (("a", BASE, 0), ("b", truth, 1))
            for row in simulate(law, PLAN, 0.003, seed=seed + 2 * number + offset).to_records()
        ]
        table = RunTable.from_records(rows)
        families = fit_families(table, "loss", "model", SPEC, Resampling(replicates=replicates), at=values)
        (multiplier,) = families.multipliers
        assert families.compared is not None
        done.chosen[families.compared.shared] += 1
        middle = float(truth.reach(float(BASE.optimum(multiplier.C).loss))) / multiplier.C
        base, other = (member.table for member in families.members)
        best = multiplier_of([families.compared], "b", "a", other, base, families.level, values)
        done.covered += _held(multiplier, [middle, *known])
        done.alone += _held(best, [middle, *known])
    return done


def _held(multiplier: Multiplier, known: list[float]) -> list[bool]:
    intervals = [multiplier.interval, *(at.interval for at in multiplier.at)]
    return [low <= ratio <= high for (low, high), ratio in zip(intervals, known, strict=True)]


def main() -> None:
    """Print a table of coverage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=200)
    parser.add_argument("--replicates", type=int, default=400)
    options = parser.parse_args()
    print("| truth | intervals | middle budget | at L*(1e18) | at L*(1e19) | at L*(1e20) | compared by |")
    print(f"|{'---|' * 7}")
    for name, truth in TRUTHS.items():
        done = tally(truth, options.tables, options.replicates)
        chosen = ", ".join(f"{shared} {count}" for shared, count in done.chosen.most_common())
        for which, covered in (("of every plausible fit", done.covered), ("of the best alone", done.alone)):
            shares = " | ".join(f"{share:.3f}" for share in covered / done.tables)
            print(f"| {name} | {which} | {shares} | {chosen} |", flush=True)


if __name__ == "__main__":
    main()
