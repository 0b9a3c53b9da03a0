"""Known truths for distances between sets of vectors: coverage of FAD and KAD, unequal and too few clips."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.calibration.rows import Row
from benchmarks.calibration.sources import speaker_vectors
from cdslm_eval import Context, Frechet
from cdslm_eval.stats.clusters import Clusters
from cdslm_eval.stats.distances import FrechetDistance, KernelMMD, set_distance
from cdslm_eval.stats.sample import Sample
from cdslm_eval.stats.standing import standings

__all__ = ["SET_ROWS", "told_apart", "vectors"]


def kernel_with_speakers(seeds: int) -> list[Row]:
    """Bias and coverage of KAD for identical sources: 60 against 200 clips, 5 a speaker, 64 dimensions."""
    values, covered, trusted = [], 0, 0
    for seed in range(seeds):
        rng = np.random.default_rng([3, seed])
        (x, own), (y, theirs) = speaker_vectors(12, 5, 64, rng), speaker_vectors(40, 5, 64, rng)
        result = set_distance(KernelMMD.against(y), x, y, (own, theirs), seed)
        values.append(result.value)
        covered += result.low <= 0 <= result.high
        trusted += result.trust == "ok"
    bias = f"{np.mean(values):+.3f} ± {np.std(values) / np.sqrt(seeds):.3f}"
    title = "KAD, identical sources, 60 against 200 clips, 5 a speaker, 64 dimensions"
    coverage = f"{covered / seeds:.3f} (`ok` in {trusted / seeds:.2f})"
    return [
        Row(3, f"{title}: bias", "0", "+1.50", bias),
        Row(3, f"{title}: coverage", ".95", ".11 (`ok` in 1.00)", coverage),
    ]


def kernel_coverage(seeds: int) -> list[Row]:
    """Coverage of KAD by the shift of every dimension, in standard deviations; clips of speakers of their own."""
    cases = (
        (64, 60, 200, (0.0, 0.15, 0.4), (".993", ".987", ".950")),
        (8, 30, 100, (0.0, 0.3, 1.0), (".993", ".937", ".953")),
        (8, 10, 100, (0.0, 0.5), (".993", ".953")),
    )
    rows = []
    for dimensions, clips, others, shifts, before in cases:
        for shift, old in zip(shifts, before, strict=True):
            covered = 0
            for seed in range(seeds):
                rng = np.random.default_rng([31, dimensions, clips, seed])
                x, y = rng.standard_normal((clips, dimensions)) + shift, rng.standard_normal((others, dimensions))
                distance = KernelMMD.against(y)
                width = distance.bandwidth**2
                # in closed form for two Gaussians of unit covariance, at the bandwidth of the sample
                truth = 200 * (width / (width + 2)) ** (dimensions / 2)
                truth *= 1 - np.exp(-dimensions * shift**2 / (2 * (width + 2)))
                result = set_distance(distance, x, y, (np.arange(clips), np.arange(others)), seed)
                covered += result.low <= truth <= result.high
            title = f"KAD, {clips} against {others} clips, {dimensions} dimensions, shift {shift:g}: coverage"
            rows.append(Row(3, title, ".95", old, f"{covered / seeds:.3f}"))
    return rows


def frechet_coverage(seeds: int) -> list[Row]:
    """Coverage of the corrected Fréchet distance by clips and dimensions, where it is printed."""
    cases = (
        (8, 30, 100, 1, (0.0, 0.5), (".973", ".947")),
        (8, 200, 200, 5, (0.0, 0.5), (".990", ".940")),
        (32, 50, 200, 1, (0.0, 0.3), (".117", ".417")),
        (32, 80, 200, 1, (0.0, 0.3), (".900", ".933")),
        (32, 100, 200, 1, (0.0, 0.3), (".957", ".957")),
        (32, 160, 200, 1, (0.0, 0.3), (".977", ".973")),
    )
    rows = []
    for dimensions, clips, others, each, shifts, before in cases:
        for shift, old in zip(shifts, before, strict=True):
            covered = printed = 0
            for seed in range(seeds):
                rng = np.random.default_rng([41, dimensions, clips, seed])
                share = 0.5 if each > 1 else 0.0
                sides = [speaker_vectors(count // each, each, dimensions, rng, share) for count in (clips, others)]
                (x, own), (y, theirs) = sides
                result = set_distance(FrechetDistance.against(y), x + shift, y, (own, theirs), seed)
                printed += bool(np.isfinite(result.corrected_low))
                covered += result.corrected_low <= dimensions * shift**2 <= result.corrected_high
            speakers = f", {each} a speaker" * (each > 1)
            title = f"FAD, {clips} against {others} clips{speakers}, {dimensions} dimensions, shift {shift:g}: coverage"
            after = f"{covered / printed:.3f}" if printed else "no interval"
            rows.append(Row(4, title, ".95", old, after))
    return rows


def vectors(count: int, dimensions: int, rng: np.random.Generator, shift: float = 0.0) -> Sample:
    """Return clips with vectors of unit variance."""
    drawn = (rng.standard_normal((count, dimensions)) + shift).astype(np.float32)
    return Sample(vectors={"embedding": drawn}, scored=np.arange(count), clusters=Clusters.alone(count))


def told_apart(counts: tuple[int, int, int], dimensions: int, seed: int, shift: float = 0.0) -> tuple[bool, bool, str]:
    """Return whether `compare` and ranks tell two systems of one source apart under FAD, and the method of the former.

    Args:
        counts: Clips of both systems and of the reference.
        dimensions: Of the vectors.
        seed: Of the draw.
        shift: Of the first system alone, in standard deviations.
    """
    rng = np.random.default_rng([4, *counts, dimensions, seed])
    few, many, real = (vectors(count, dimensions, rng, shift * (not side)) for side, count in enumerate(counts))
    context = Context(name="fad", metric="fad", better="lower", seed=seed)
    (difference,) = Frechet().difference(few, many, real, context, paired=False)
    estimates = []
    for system, sample in (("few", few), ("many", many)):
        own = Context(name="fad", metric="fad", better="lower", seed=seed, system=system)
        estimates += Frechet().estimate(sample, real, own).estimates
    ranked = any(standing.shown for standing in standings(estimates).values())
    return difference.p_value < 0.05, ranked, difference.method


def unequal_counts(seeds: int) -> list[Row]:
    """Type I errors of `compare` and of ranks under FAD: one source, unequal counts, few clips for the dimensions."""
    rows = []
    for counts, dimensions, before in (
        ((60, 400, 200), 128, ("1", "1")),
        ((80, 400, 200), 32, (".115", ".080")),
        ((160, 400, 200), 32, (".020", ".005")),
    ):
        tests = [told_apart(counts, dimensions, seed)[:2] for seed in range(seeds)]
        title = f"FAD of one source, {counts[0]} v {counts[1]} clips, {dimensions} dimensions: distinguished"
        for name, old, share in zip(("`compare`", "ranks"), before, np.mean(tests, axis=0), strict=True):
            rows.append(Row(4, f"{name}, {title}", ".05", old, f"{share:.3f}"))
    return rows


SET_ROWS: tuple[Callable[[int], list[Row]], ...] = (
    kernel_with_speakers,
    kernel_coverage,
    frechet_coverage,
    unequal_counts,
)
