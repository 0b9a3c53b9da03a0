"""Simulate ladders of 40 runs, and print how often claims are right and intervals hold.

Run: python -m benchmarks.forty_runs --tables 300 --record ladders.jsonl --out benchmarks/results/forty-runs.md
Several runs may share a record, each with truths of its own (`--truth`); ladders in it are not simulated again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.forty_runs.claims import approach_of, claims_of, wanted_of
from benchmarks.forty_runs.intervals import held_of
from benchmarks.forty_runs.record import Share, code_digest, read, shares, simulate_missing
from benchmarks.forty_runs.truths import LAWS, SHAPES

_CLAIM_REPLICATES, _INTERVAL_REPLICATES = 200, 500
# of a nominal coverage of .95
_LEAST, _MOST = 0.92, 0.99


def _seeds(truth: str, tables: int) -> range:
    # laws are simulated apart, so that their rates are independent
    first = 1000 * list(LAWS).index(truth) if truth in LAWS else 0
    return range(first, first + tables)


def _claims(truth: str, seed: int) -> dict[str, tuple[int, int]]:
    """Return for each claim whether it is made about a ladder, of one."""
    if truth in LAWS:
        made = Counter(claims_of(LAWS[truth], seed, _CLAIM_REPLICATES))
    else:
        made = Counter(approach_of(truth, seed, _CLAIM_REPLICATES))
    return {wanted.claim: (min(made[wanted.claim], 1), 1) for wanted in wanted_of(truth)}


def _intervals(truth: str, seed: int) -> dict[str, tuple[int, int]]:
    return held_of(LAWS[truth], seed, _INTERVAL_REPLICATES)


def claim_lines(record: Path, truths: list[str], digest: str) -> Iterator[str]:
    """Yield a table of claims."""
    yield "| truth | claim | wanted | rate | 95 % interval | tables | |"
    yield "|---|---|---|---|---|---|---|"
    for truth in truths:
        rates = shares(read(record, "claims", truth, digest))
        for wanted in wanted_of(truth) if rates else ():
            rate = rates[wanted.claim]
            bound = f"≥ {wanted.least:.2f}" if wanted.least else f"≤ {wanted.most:.2f}"
            verdict = rate.verdict(wanted.least, wanted.most)
            yield (
                f"| {truth} | {wanted.claim} | {bound} | {rate.value:.3f} | {rate.low:.3f} to {rate.high:.3f} "
                f"| {rate.tables} | {verdict} |"
            )


def coverage_lines(record: Path, truths: list[str], digest: str) -> Iterator[str]:
    """Yield a table of coverages, one column a law."""
    columns = {truth: shares(read(record, "intervals", truth, digest)) for truth in truths}
    columns = {truth: column for truth, column in columns.items() if column}
    sizes = [f"{truth} ({max(share.tables for share in column.values())})" for truth, column in columns.items()]
    yield f"| interval (tables) | {' | '.join(sizes)} |"
    yield f"|---|{'---|' * len(columns)}"
    # the names in the order in which a ladder has them
    for name in dict.fromkeys(name for column in columns.values() for name in column):
        cells = [_cell(column[name]) if name in column else "" for column in columns.values()]
        yield f"| {name} | {' | '.join(cells)} |"


def _cell(share: Share) -> str:
    verdict = share.verdict(_LEAST, _MOST)
    return f"{share.value:.3f} ({share.low:.3f} to {share.high:.3f}){' ' if verdict else ''}{verdict}"


def report_lines(record: Path, digest: str, only: str | None) -> Iterator[str]:
    """Yield both tables with what stands between them."""
    yield "Simulated ladders: 8 budgets from 1e18 to 1e21 FLOPs, 5 sizes each, noise of .3 % (of a MOS, .02)."
    yield f"Every row is of one state of the code (digest of its source {digest})."
    yield "Intervals of rates are exact binomial ones; *missed*: surely not as wanted, *unsure*: perhaps not."
    if only != "intervals":
        yield from ("", *claim_lines(record, [*LAWS, *SHAPES], digest))
    if only != "claims":
        yield ""
        yield f"Coverage of 95 %, over budgets and epsilons where there are several; {_LEAST} to {_MOST} wanted."
        yield "In brackets the binomial interval of the coverage, with the entries of one table as a cluster."
        yield from ("", *coverage_lines(record, list(LAWS), digest))


def main() -> None:
    """Simulate, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=100)
    parser.add_argument("--only", choices=("claims", "intervals"), default=None)
    parser.add_argument("--truth", choices=(*LAWS, *SHAPES), action="append")
    parser.add_argument("--record", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    digest, begin = code_digest(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        record = options.record or Path(folder) / "record.jsonl"
        for truth in options.truth or (*LAWS, *SHAPES):
            seeds = _seeds(truth, options.tables)
            if options.only != "intervals":
                simulate_missing(record, "claims", truth, seeds, lambda seed, t=truth: _claims(t, seed), digest)
            if options.only != "claims" and truth in LAWS:
                simulate_missing(record, "intervals", truth, seeds, lambda seed, t=truth: _intervals(t, seed), digest)
        lines = [*report_lines(record, digest, options.only), "", f"{time.process_time() - begin:.0f} core-seconds."]
    print("\n".join(lines), flush=True)
    if options.out is not None:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
