"""Simulate ladders of 40 runs, and print how often claims are right and intervals hold.

Run: python -m benchmarks.forty_runs --tables 300 --record ladders.jsonl --out benchmarks/results/forty-runs.md
Several runs may share a record, each with truths of its own (`--truth`); ladders in it are not simulated again.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.forty_runs.claims import approach_of, claims_of, verdicts_of, wanted_of
from benchmarks.forty_runs.intervals import held_by_fits, held_by_verdicts
from benchmarks.forty_runs.record import Share, code_digest, core_seconds, read, shares, simulate_missing
from benchmarks.forty_runs.truths import LAWS, SHAPES

_PARTS = ("fits", "verdicts")
_VERDICT_REPLICATES, _FIT_REPLICATES = 200, 500
# of a nominal coverage of .95
_LEAST, _MOST = 0.92, 0.99


def _seeds(truth: str, tables: int) -> range:
    # laws are simulated apart, so that their rates are independent
    first = 1000 * list(LAWS).index(truth) if truth in LAWS else 0
    return range(first, first + tables)


def _count(part: str, truth: str, seed: int) -> dict[str, tuple[int, int]]:
    """Return how often each interval of a ladder holds, of how many, and whether each claim is made, of one."""
    held: dict[str, tuple[int, int]] = {}
    if part == "fits":
        return held_by_fits(LAWS[truth], seed, _FIT_REPLICATES)
    if truth in LAWS:
        verdicts = verdicts_of(LAWS[truth], seed, _VERDICT_REPLICATES)
        held = held_by_verdicts(LAWS[truth], verdicts)
        made = claims_of(LAWS[truth], seed, _VERDICT_REPLICATES, verdicts)
    else:
        made = approach_of(truth, seed, _VERDICT_REPLICATES)
    return held | {wanted.claim: (int(wanted.claim in made), 1) for wanted in wanted_of(truth)}


def claim_lines(record: Path, truths: list[str], digest: str) -> Iterator[str]:
    """Yield a table of claims."""
    yield "| truth | claim | wanted | rate | 95 % interval | tables | |"
    yield "|---|---|---|---|---|---|---|"
    for truth in truths:
        rates = shares(read(record, "verdicts", truth, digest))
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
    columns = {}
    for truth in truths:
        every = {name: share for part in _PARTS for name, share in shares(read(record, part, truth, digest)).items()}
        claims = {wanted.claim for wanted in wanted_of(truth)}
        columns[truth] = {name: share for name, share in every.items() if name not in claims}
    yield f"| interval | tables | {' | '.join(columns)} |"
    yield f"|---|---|{'---|' * len(columns)}"
    # the names in the order in which a ladder has them
    for name in dict.fromkeys(name for column in columns.values() for name in column):
        entries = [column.get(name) for column in columns.values()]
        tables = "/".join(dict.fromkeys(str(share.tables) for share in entries if share is not None))
        cells = [_cell(share) if share is not None else "" for share in entries]
        yield f"| {name} | {tables} | {' | '.join(cells)} |"


def _cell(share: Share) -> str:
    verdict = share.verdict(_LEAST, _MOST)
    return f"{share.value:.3f} ({share.low:.3f} to {share.high:.3f}){' ' if verdict else ''}{verdict}"


def report_lines(record: Path, digest: str) -> Iterator[str]:
    """Yield both tables with what stands between them."""
    yield "Simulated ladders: 8 budgets from 1e18 to 1e21 FLOPs, 5 sizes each, noise of .3 % (of a MOS, .02)."
    yield f"Every row is of one state of the code (digest of its source {digest})."
    yield "Intervals of rates are exact binomial ones; *missed*: surely not as wanted, *unsure*: perhaps not."
    yield from ("", *claim_lines(record, [*LAWS, *SHAPES], digest), "")
    yield f"Coverage of 95 % intervals, over budgets and epsilons where there are several; {_LEAST} to {_MOST} wanted."
    yield "In brackets the binomial interval of the coverage, with the entries of one table as a cluster."
    yield from ("", *coverage_lines(record, list(LAWS), digest), "")
    yield f"{core_seconds(record, digest):.0f} core-seconds, one thread."


def main() -> None:
    """Simulate, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=100)
    parser.add_argument("--only", choices=_PARTS, action="append")
    parser.add_argument("--truth", choices=(*LAWS, *SHAPES), action="append")
    parser.add_argument("--record", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    digest = code_digest(_VERDICT_REPLICATES, _FIT_REPLICATES)
    with tempfile.TemporaryDirectory() as folder:
        record = options.record or Path(folder) / "record.jsonl"
        for truth in options.truth or (*LAWS, *SHAPES):
            for part in options.only or _PARTS:
                if part == "verdicts" or truth in LAWS:
                    count = functools.partial(_count, part, truth)
                    simulate_missing(record, part, truth, _seeds(truth, options.tables), count, digest)
        lines = list(report_lines(record, digest))
    print("\n".join(lines), flush=True)
    if options.out is not None:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
