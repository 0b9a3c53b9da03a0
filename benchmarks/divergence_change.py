"""How often the interval of a change of pJSD over the windows of clips holds the true one, for phones of known law.

    python benchmarks/divergence_change.py --sets 200 --json benchmarks/results/divergence-change.json

Each set is clips of four windows against 60 clips of a reference; the phones of a window come from the reference's
frequencies and from others, in shares that stay or rise. The true divergences are exact.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from cdslm_eval.core.store import Outcome
from cdslm_eval.stats.jsd.statistic import JensenShannon
from cdslm_eval.stats.positions import tracks_of
from cdslm_eval.stats.sample import gather
from cdslm_eval.stats.statistic import Context

WINDOWS, KINDS = 4, 12
REAL, OTHER = (np.random.default_rng(seed).dirichlet(np.full(KINDS, 3.0)) for seed in (1, 2))
CONTEXT = Context(name="pjsd", metric="pjsd", system="s", unit="bits", better="lower")
SHARES = {"holds": (0.6,) * WINDOWS, "rises": (0.3, 0.5, 0.8, 1.0)}


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Return the Jensen-Shannon divergence of two distributions in bits."""
    middle = (p + q) / 2
    return float(sum(np.sum(side * np.log2(side / middle)) for side in (p, q)) / 2)


def true_change(shares: tuple[float, ...]) -> float:
    """Return the change of the straight line through the true divergences."""
    values = np.array([divergence((1 - share) * REAL + share * OTHER, REAL) for share in shares])
    times = np.arange(WINDOWS) - (WINDOWS - 1) / 2
    return float(times @ values / (times @ times) * (WINDOWS - 1))


def clips_of(rng: np.random.Generator, count: int, shares: tuple[float, ...], phones: int) -> list[Outcome]:
    """Return the windows of clips."""
    laws = [(1 - share) * REAL + share * OTHER for share in shares]
    return [
        Outcome("ok", "", {"phones": [chr(97 + code) for code in rng.choice(KINDS, phones, p=law)]})
        for _ in range(count)
        for law in laws
    ]


def row(shares: tuple[float, ...], clips: int, phones: int, sets: int) -> dict[str, float]:
    """Return coverage, bias and verdicts over simulated sets."""
    truth, changes, verdicts, held = true_change(shares), [], [], 0
    owners, positions = np.repeat(np.arange(clips), WINDOWS), np.tile(np.arange(WINDOWS), clips)
    for seed in range(sets):
        rng = np.random.default_rng(seed)
        sample = gather(clips_of(rng, clips, shares, phones), owners.tolist())
        reference = gather(clips_of(rng, 60, (0.0,), phones), list(range(60)))
        (own,) = tracks_of(JensenShannon(orders=(1,)), sample, owners, positions, 10.0, reference, CONTEXT)
        held += own.low <= truth <= own.high
        changes.append(own.change)
        verdicts.append(own.verdict)
    return {
        "true": round(truth, 5),
        "mean": round(float(np.mean(changes)), 5),
        "se_of_mean": round(float(np.std(changes, ddof=1) / np.sqrt(sets)), 5),
        "held": round(held / sets, 3),
        **{name: round(verdicts.count(name) / sets, 3) for name in ("holds", "drifts", "unclear", "")},
    }


def main() -> None:
    """Simulate, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = {
        f"{name}, {clips} clips, {phones} phones a window": row(shares, clips, phones, options.sets)
        for name, shares in SHARES.items()
        for clips in (8, 30)
        for phones in (15, 60)
    }
    text = json.dumps({"sets": options.sets, "rows": rows}, indent=1)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
