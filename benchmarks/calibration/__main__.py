"""Simulate the package's own intervals and tests on known truths: nominal, before, after.

Run: python -m benchmarks.calibration --seeds 200 --out benchmarks/results/calibration.md
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.calibration.decisions import DECISION_ROWS
from benchmarks.calibration.divergences import JSD_ROWS
from benchmarks.calibration.means import MEAN_ROWS
from benchmarks.calibration.rows import Row
from benchmarks.calibration.sets import SET_ROWS
from benchmarks.calibration.sources import SpeakerSource
from cdslm_eval import Context, Mean
from cdslm_eval.core.store import Outcome
from cdslm_eval.stats.jsd import corrected_difference, phoneme_jsd
from cdslm_eval.stats.sample import ClipLabel, Sample, gather


def compare_with_speakers(seeds: int) -> list[Row]:
    """Type I error of comparing two systems of one source, 200 clips a side in speakers of 5, 10 and 20 clips."""
    rows = []
    for each, before in ((5, ".09"), (10, ".18"), (20, ".30")):
        hits = 0
        for seed in range(seeds):
            rng = np.random.default_rng([1, each, seed])
            source = SpeakerSource(np.random.default_rng(0))
            sides = [source.clips(200 // each, each, 40, rng) for _ in range(3)]
            phones, clusters = zip(*sides, strict=True)
            result = corrected_difference(*phones, (1,), clusters=tuple(clusters), seed=seed)
            hits += result[1].p_value < 0.05
        rows.append(
            Row(1, f"`compare` of pJSD_1, 200 clips, {each} a speaker: type I", ".05", before, f"{hits / seeds:.3f}")
        )
    return rows


def floor_with_speakers(seeds: int) -> list[Row]:
    """Bias of `corrected` for identical sources: 20 clips of 4 speakers a side."""
    values = []
    for seed in range(seeds):
        rng = np.random.default_rng([2, seed])
        source = SpeakerSource(np.random.default_rng(0))
        (a, own), (b, theirs) = (source.clips(4, 5, 40, rng) for _ in range(2))
        result = phoneme_jsd(a, b, (1, 2, 3), seed, generated_clusters=own, reference_clusters=theirs)
        values.append([result[n].corrected for n in (1, 2, 3)])
    means, errors = np.nanmean(values, axis=0), np.nanstd(values, axis=0) / np.sqrt(seeds)
    before = ("+.011", "+.025", "+.044")
    title = "identical sources, 20 clips of 4 speakers: bias"
    return [
        Row(2, f"`corrected` of pJSD_{n}, {title}", "0", old, f"{mean:+.4f} ± {error:.4f}")
        for n, old, mean, error in zip((1, 2, 3), before, means, errors, strict=True)
    ]


def _numbers(values: np.ndarray, order: np.ndarray, *, speakers: bool = False) -> Sample:
    """Return one number a clip, the clips in an order, with speakers of two clips or none."""
    rows = [Outcome("ok", "", {"x": float(values[clip])}) for clip in order]
    clusters = [clip // 2 if speakers else ("clip", clip) for clip in order]
    return gather(rows, clusters, [ClipLabel(f"c{clip}") for clip in order])


def pairing(seeds: int) -> list[Row]:
    """Share of paired comparisons that a reordered manifest, a one-sided speaker column or a lost clip leaves alone."""
    from cdslm_eval.run.comparison import _aligned, _shared_keys

    same = {"another order": 0, "speakers on one side": 0, "one clip of eight lost": 0}
    for seed in range(seeds):
        rng = np.random.default_rng([5, seed])
        shared = rng.standard_normal(8) * 3
        x, y = shared + 0.1 * rng.standard_normal(8) + 0.4, shared + 0.1 * rng.standard_normal(8)
        whole = np.arange(8)
        cases = {
            "another order": (_numbers(x, whole), _numbers(y, rng.permutation(8))),
            "speakers on one side": (_numbers(x, whole, speakers=True), _numbers(y, whole)),
            "one clip of eight lost": (_numbers(x, whole), _numbers(y, np.delete(whole, rng.integers(8)))),
        }
        for name, sides in cases.items():
            keys_of_both = _shared_keys(sides)
            assert keys_of_both is not None
            a, b = _aligned(sides, keys_of_both)
            (result,) = Mean("x").difference(a, b, None, Context(name="x", seed=seed), paired=True)
            same[name] += result.low > 0
    before = {"another order": "p 1", "speakers on one side": "p 1", "one clip of eight lost": "unpaired, sign turned"}
    number = {"another order": 5, "speakers on one side": 5, "one clip of eight lost": 6}
    return [
        Row(number[name], f"paired difference seen, {name}", "1", before[name], f"{hits / seeds:.3f}")
        for name, hits in same.items()
    ]


ROWS: tuple[Callable[[int], list[Row]], ...] = (
    compare_with_speakers,
    floor_with_speakers,
    pairing,
    *SET_ROWS,
    *MEAN_ROWS,
    *JSD_ROWS,
    *DECISION_ROWS,
)


def main() -> None:
    """Measure every row and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--only", default="", help="Names of functions, comma-separated.")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    chosen = [row for row in ROWS if not options.only or row.__name__ in options.only.split(",")]
    lines = [f"{options.seeds} seeds a row.", "", "| row | claim | nominal | before | after |", "|---|---|---|---|---|"]
    for measure in chosen:
        for row in measure(options.seeds):
            lines.append(f"| {row.number} | {row.what} | {row.nominal} | {row.before} | {row.after} |")
            print(lines[-1], flush=True)
    if options.out is not None:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
