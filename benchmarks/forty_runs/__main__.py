"""Simulate ladders of 40 runs, and print how often claims are right and intervals hold.

Run: python -m benchmarks.forty_runs --tables 100 --out benchmarks/results/forty-runs.md
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.forty_runs.claims import Claim, approached, of_laws
from benchmarks.forty_runs.intervals import Coverage, coverage
from benchmarks.forty_runs.truths import LAWS


def claim_lines(claims: list[Claim]) -> Iterator[str]:
    """Yield a table of claims."""
    yield "| truth | claim | wanted | rate | |"
    yield "|---|---|---|---|---|"
    for claim in claims:
        sign = "≥" if claim.at_least else "≤"
        missed = "" if claim.holds else "missed"
        yield f"| {claim.truth} | {claim.claim} | {sign} {claim.wanted:.2f} | {claim.rate:.2f} | {missed} |"


def coverage_lines(rows: dict[str, list[Coverage]]) -> Iterator[str]:
    """Yield a table of coverages, one column a law."""
    yield f"| interval | {' | '.join(rows)} |"
    yield f"|---|{'---|' * len(rows)}"
    by_name: dict[str, list[str]] = {}
    for number, column in enumerate(rows.values()):
        for entry in column:
            cells = by_name.setdefault(entry.name, [""] * len(rows))
            cells[number] = f"{entry.share:.3f}{'' if entry.holds else ' missed'}"
    for name, cells in by_name.items():
        yield f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=100)
    parser.add_argument("--only", choices=("claims", "intervals"), default=None)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    begin = time.process_time()
    lines = [f"{options.tables} tables a truth: 8 budgets from 1e18 to 1e21 FLOPs, 5 sizes each, noise of .3 %.", ""]
    if options.only != "intervals":
        lines += [*claim_lines([*of_laws(options.tables), *approached(options.tables)]), ""]
    if options.only != "claims":
        lines += [
            "Coverage of 95 % intervals, over budgets and epsilons where an interval has several:",
            "",
            *coverage_lines({name: coverage(law, options.tables) for name, law in LAWS.items()}),
            "",
        ]
    lines.append(f"{time.process_time() - begin:.0f} core-seconds.")
    print("\n".join(lines), flush=True)
    if options.out is not None:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
