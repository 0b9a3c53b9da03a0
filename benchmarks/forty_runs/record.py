"""A record of simulated ladders: a line per ladder, so that a run that stops continues where it was."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import beta

__all__ = ["Share", "code_digest", "core_seconds", "read", "share_of", "shares", "simulate_missing"]

_DECIDING = ("cdslm_eval.scaling", *(f"benchmarks.forty_runs.{part}" for part in ("truths", "claims", "intervals")))
# (name, how often it held or was claimed, of how many)
Counts = dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Share:
    """A share of several ladders, with its 95 % interval.

    Attributes:
        value: The share.
        low, high: Its interval.
        tables: How many ladders it rests on.
    """

    value: float
    low: float
    high: float
    tables: int

    def verdict(self, least: float, most: float) -> str:
        """Return "" where the share is as wanted, "missed" where it surely is not, and "unsure" between."""
        if least <= self.value <= most:
            return ""
        return "missed" if self.high < least or self.low > most else "unsure"


def share_of(counts: Iterable[tuple[int, int]]) -> Share:
    """Return a share over ladders, (how often, of how many) each, with an interval that knows of their dependence.

    Intervals of one ladder hold or miss together, so its entries are a cluster: the exact binomial interval is that of
    as many independent entries as would have the same variance.

    Source: Korn & Graubard, "Confidence intervals for proportions with small expected number of positive counts
    estimated from survey data" (1998).
    """
    hits, totals = np.array(list(counts), float).T
    n, total = len(hits), float(totals.sum())
    value = float(hits.sum() / total)
    variance = float(np.sum((hits - value * totals) ** 2)) / total**2
    # where all hold, nothing tells how dependent they are: one entry a ladder is on the safe side
    effective = min(value * (1 - value) / variance, total) if variance > 0 else float(n)
    k = value * effective
    low = float(beta.ppf(0.025, k, effective - k + 1)) if k > 0 else 0.0
    high = float(beta.ppf(0.975, k + 1, effective - k)) if value < 1 else 1.0
    return Share(value, low, high, n)


def code_digest(*settings: int) -> str:
    """Return a digest of the source of the loaded modules that draw a ladder, fit it and count what it shows.

    Args:
        *settings: Numbers on which the counts depend as well, such as replicates.
    """
    digest = hashlib.sha256(repr(settings).encode())
    for name, module in sorted(sys.modules.items()):
        if name.startswith(_DECIDING) and getattr(module, "__file__", None):
            digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()[:12]


def simulate_missing(
    path: Path, part: str, truth: str, seeds: Sequence[int], count: Callable[[int], Counts], digest: str
) -> None:
    """Simulate the ladders that the record does not hold for this code yet, and append each as it is done.

    Args:
        path: Of the record, created where there is none.
        part, truth: What is counted, and for which truth.
        seeds: Of the ladders.
        count: Counts what one ladder, by its seed, shows.
        digest: Of the code.
    """
    done = {seed for seed, _ in read(path, part, truth, digest)}
    for seed in seeds:
        if seed not in done:
            line: dict[str, Any] = {"code": digest, "part": part, "truth": truth, "seed": seed}
            begin = time.process_time()
            line |= {"counts": count(seed), "core_s": round(time.process_time() - begin, 3)}
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def read(path: Path, part: str, truth: str, digest: str) -> list[tuple[int, Counts]]:
    """Return (seed, counts) of each ladder in a record that this code has simulated."""
    return [
        (entry["seed"], {name: tuple(pair) for name, pair in entry["counts"].items()})
        for entry in _entries(path, digest)
        if (entry["part"], entry["truth"]) == (part, truth)
    ]


def core_seconds(path: Path, digest: str) -> float:
    """Return how long the ladders in a record took that this code has simulated."""
    return sum(entry["core_s"] for entry in _entries(path, digest))


def _entries(path: Path, digest: str) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [entry for entry in map(json.loads, lines) if entry["code"] == digest]


def shares(rows: Iterable[tuple[int, Counts]]) -> dict[str, Share]:
    """Return the share of each name over the ladders that have it."""
    by_name: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for _, counts in rows:
        for name, pair in counts.items():
            by_name[name].append(pair)
    return {name: share_of(pairs) for name, pairs in by_name.items()}
