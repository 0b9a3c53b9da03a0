"""Distance of two sets of vectors: value, floor, extrapolated value, intervals, trust."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cdslm_eval.stats.distances.contrast import Contrast, Distance, Floats, Ints, Vectors, clustered_variance
from cdslm_eval.stats.resampling import t_half_width

__all__ = ["MAX_CLIPS", "SetDistance", "difference", "set_distance"]

MAX_CLIPS = 5_000
"""Clips a side up to which floor and extrapolation are computed; a larger set is drawn from."""
DRAWS = 10
HALVINGS = 4
TRUSTED_FLOOR = 0.05
"""Share of a distance's scale that the floor, or the noise about it, may come to."""
EXTRAPOLATED = 3
"""Clips (or speakers) a dimension from which the line through all and half of the clips is straight enough."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SetDistance:
    """A distance between a generated and a reference set; NaN with a `reason` where it is not known.

    Attributes:
        distance: Which distance.
        value, low, high: The distance of the sets as they are, and its 95 % interval; none where it is biased.
        floor: The distance between disjoint random halves of the reference, `floor_clips` clips each.
        corrected, corrected_low, corrected_high: The distance at infinitely many clips, and its 95 % interval; none
            where the extrapolation is biased.
        trust: "ok"; "sample_limited" where the floor or its noise exceeds 0.05 of the scale, or where the extrapolation
            is biased; "rank_deficient" where a covariance is singular, of all clips or of the halves that the
            extrapolation looks at.
        se: Standard error of `corrected`; NaN where it has no interval.
        degrees: Degrees of freedom of `se`.
        biased: Whether the extrapolation leaves a bias that goes with the clips: there are not three times as many
            clips (or speakers) as dimensions.
        floor_clips: Clips of each half.
        noise: Standard deviation, at these sizes, of the distance between identical sources.
        contrast: The influences behind the interval.
        reference_share: Share of the reference in the variance, 0..1.
        clips_for_ok: About how many clips (or speakers) a side would make it "ok"; NaN where it is.
        reason: Why something is NaN, or not to be trusted.
    """

    distance: Distance
    value: float
    low: float
    high: float
    floor: float
    corrected: float
    corrected_low: float
    corrected_high: float
    trust: str
    floor_clips: int
    noise: float
    contrast: Contrast
    reference_share: float
    clips_for_ok: float
    se: float
    degrees: int
    biased: bool
    reason: str


def set_distance(
    distance: Distance, generated: Vectors, reference: Vectors, clusters: tuple[Ints, Ints], seed: int = 0
) -> SetDistance:
    """Return the distance between a generated and a reference set of vectors.

    The interval is that of the infinitesimal jackknife over clusters, at least as wide as what the distance between
    identical sources fluctuates. A bootstrap would not do: a sample with repetitions is
    further from everything, so its replicates carry the finite-sample bias twice.

    Args:
        distance: Which distance.
        generated, reference: `[clips, dimensions]`.
        clusters: Cluster (speaker) number of each clip, for both sides.
        seed: Randomness of draws.
    """
    from threadpoolctl import threadpool_limits  # listing metrics must not wait for it

    # dozens of small decompositions, which threads that wait for each other slow down tenfold on a shared machine
    with threadpool_limits(1, user_api="blas"):
        return _set_distance(distance, generated, reference, clusters, seed)


def _set_distance(
    distance: Distance, generated: Vectors, reference: Vectors, clusters: tuple[Ints, Ints], seed: int
) -> SetDistance:
    contrast = distance.contrast(generated, reference, clusters)
    counts = len(generated), len(reference)
    rng = np.random.default_rng([seed, 0x73657473])
    floors, size = _floors(distance, reference, clusters[1], counts[0], rng)
    floor = float(np.mean(floors)) if len(floors) else float("nan")
    # bias and spread under identical sources go with 1 / n + 1 / m
    ratio = (1 / counts[0] + 1 / counts[1]) / (2 / size) if size and counts[0] else float("nan")
    noise = float(np.std(floors, ddof=1)) * ratio if len(floors) > 1 else float("nan")
    corrected = contrast.value
    if distance.extrapolates and np.isfinite(contrast.value):
        corrected = _extrapolated(distance, (generated, reference), clusters, rng)
    own, theirs = (
        clustered_variance(influence, numbers)
        for influence, numbers in zip((contrast.generated, contrast.reference), clusters, strict=True)
    )
    se = float(np.sqrt(distance.variance(own + theirs, float(np.nan_to_num(noise)) ** 2)))
    degrees = _fewest(clusters) - 1
    biased = distance.extrapolates and _fewest(clusters) <= EXTRAPOLATED * generated.shape[1]
    half = t_half_width(se, degrees)
    corrected_half = float("nan") if biased else half
    caveat = distance.caveat(generated, reference) if np.isfinite(contrast.value) else ""
    # around a biased value there is no interval that covers the truth
    own_half = float("nan") if distance.extrapolates else half
    trust = _trust(distance, generated.shape[1], clusters, floor, noise, caveat)
    return SetDistance(
        distance=distance,
        value=contrast.value,
        low=contrast.value - own_half,
        high=contrast.value + own_half,
        floor=floor,
        corrected=corrected,
        corrected_low=corrected - corrected_half,
        corrected_high=corrected + corrected_half,
        trust=trust,
        floor_clips=size,
        noise=noise,
        contrast=contrast,
        reference_share=theirs / (own + theirs) if own + theirs > 0 else float("nan"),
        clips_for_ok=float("nan")
        if trust == "ok"
        else _clips_for_ok(distance, generated.shape[1], clusters, max(abs(floor), 1.96 * noise)),
        se=float("nan") if biased else se,
        degrees=degrees,
        biased=biased,
        reason=_reason(distance, (generated, reference), clusters, contrast.value, half, floor, caveat),
    )


def _trust(
    distance: Distance, dimensions: int, clusters: tuple[Ints, Ints], floor: float, noise: float, caveat: str
) -> str:
    few = _fewest(clusters)
    # the extrapolation looks at halves, whose clusters must outnumber the dimensions too
    if caveat or (distance.extrapolates and few <= 2 * dimensions):
        return "rank_deficient"
    spread = max(abs(floor), 1.96 * noise)
    short = distance.extrapolates and few <= EXTRAPOLATED * dimensions
    return "ok" if spread <= TRUSTED_FLOOR * distance.scale and not short else "sample_limited"


def _clips_for_ok(distance: Distance, dimensions: int, clusters: tuple[Ints, Ints], spread: float) -> float:
    """Return how many clusters a side would make a distance trusted: floor and noise fall as one over them."""
    needed = _fewest(clusters) * spread / (TRUSTED_FLOOR * distance.scale)
    return max(needed, float(EXTRAPOLATED * dimensions + 1) if distance.extrapolates else 0.0)


def _reason(
    distance: Distance,
    sides: tuple[Vectors, Vectors],
    clusters: tuple[Ints, Ints],
    value: float,
    half: float,
    floor: float,
    caveat: str,
) -> str:
    for vectors, side in zip(sides, ("system", "reference"), strict=True):
        if len(vectors) < 2:
            return f"the {side} has {len(vectors)} clips, a distance needs 2"
    if np.isnan(value):
        return distance.caveat(*sides) or "the distance is not defined"
    reasons = [caveat] if caveat else []
    few = _fewest(clusters)
    if not caveat and distance.extrapolates and few <= EXTRAPOLATED * sides[0].shape[1]:
        unit = "clips" if few == min(map(len, sides)) else "speakers"
        singular = few <= 2 * sides[0].shape[1]
        why = "have a singular covariance" if singular else f"are too few: an interval needs {EXTRAPOLATED} a dimension"
        reasons.append(
            f"{few} {unit} for {sides[0].shape[1]} dimensions: half of them, which the extrapolation looks at, {why}"
        )
    if np.isnan(half):
        reasons.append("an interval needs at least 2 clips (or speakers) a side")
    if np.isnan(floor):
        reasons.append("the floor needs at least 4 reference clips (and 2 speakers)")
    return "; ".join(reasons)


def _fewest(clusters: tuple[Ints, Ints]) -> int:
    """Return the clusters of the side with the fewest: knowledge of a source grows with them, not with clips."""
    return min(len(np.unique(numbers)) for numbers in clusters)


def _floors(
    distance: Distance, reference: Vectors, clusters: Ints, count: int, rng: np.random.Generator
) -> tuple[Floats, int]:
    """Return the distances between disjoint random halves of the reference, and the clips of each half."""
    found, sizes = [], []
    for _ in range(DRAWS):
        first, second = _halves(clusters, rng)
        size = min(len(first), len(second), count, MAX_CLIPS)
        if size < 2:
            continue
        chosen = first[:size], second[:size]
        halves = clusters[chosen[0]], clusters[chosen[1]]
        found.append(distance.value(reference[chosen[0]], reference[chosen[1]], halves))
        sizes.append(size)
    return np.array(found), round(float(np.mean(sizes))) if sizes else 0


def _extrapolated(
    distance: Distance, sides: tuple[Vectors, Vectors], clusters: tuple[Ints, Ints], rng: np.random.Generator
) -> float:
    """Return the distance at infinitely many clips: the line through all and half of the clips, at 1 / clips = 0.

    Complementary halves of both sides take part, so that what is drawn cancels to first order.

    Source: Chong and Forsyth (2020), "Effectively Unbiased FID and Inception Score", CVPR; for audio Gui et al.
    (2024), "Adapting Fréchet Audio Distance for Generative Music Evaluation", ICASSP.
    """
    places = [_drawn(len(side), rng) for side in sides]
    sides = sides[0][places[0]], sides[1][places[1]]
    clusters = clusters[0][places[0]], clusters[1][places[1]]
    slopes, values = [], []
    for _ in range(HALVINGS):
        pairs = zip(_halves(clusters[0], rng), _halves(clusters[1], rng), strict=True)
        for own, theirs in pairs:
            if min(len(own), len(theirs)) >= 2:
                values.append(distance.value(sides[0][own], sides[1][theirs]))
                grown = 1 / len(own) + 1 / len(theirs)
                slopes.append(grown / (1 / len(sides[0]) + 1 / len(sides[1])) - 1)
    if not values:
        return float("nan")
    whole = distance.value(*sides)
    return whole - (float(np.mean(values)) - whole) / float(np.mean(slopes))


def _drawn(count: int, rng: np.random.Generator) -> Ints:
    """Return at most `MAX_CLIPS` places of `count`."""
    return np.arange(count) if count <= MAX_CLIPS else np.sort(rng.choice(count, MAX_CLIPS, replace=False))


def _halves(clusters: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Return the places of two random halves, equal in clips to within a cluster, no cluster in both."""
    names, inverse, counts = np.unique(clusters, return_inverse=True, return_counts=True)
    order = rng.permutation(len(names))
    sums = np.cumsum(counts[order])
    # at half of the clips, not of the clusters: speakers differ in how many they have
    cut = int(np.argmin(np.abs(sums - len(clusters) / 2))) + 1
    chosen = np.zeros(len(names), bool)
    chosen[order[:cut]] = True
    first = chosen[inverse]
    return rng.permutation(np.flatnonzero(first)), rng.permutation(np.flatnonzero(~first))


def difference(
    a: SetDistance, b: SetDistance, clusters: tuple[Ints, Ints, Ints], *, paired: bool
) -> tuple[float, float, int]:
    """Return the difference of two systems' corrected distances to one reference, its standard error, and clusters.

    Args:
        a, b: Both distances, to the same reference clips.
        clusters: Cluster number of each clip of a, of b and of the reference.
        paired: Whether clip i of both answers the same prompt, so that what they share drops out.

    Returns:
        a - b, its standard error, and the fewest clusters of any side (one less is its degrees of freedom).
    """
    parts = [clustered_variance(a.contrast.reference - b.contrast.reference, clusters[2])]
    # identical sets fluctuate together; any others may do so apart
    noise = float(np.nan_to_num(a.noise**2 + b.noise**2))
    if paired:
        parts.append(clustered_variance(a.contrast.generated - b.contrast.generated, clusters[0]))
        if np.array_equal(a.contrast.generated, b.contrast.generated):
            noise = 0.0
    else:
        parts += [
            clustered_variance(vectors.contrast.generated, own) for vectors, own in zip((a, b), clusters, strict=False)
        ]
    few = min(len(np.unique(cluster)) for cluster in clusters)
    return a.corrected - b.corrected, float(np.sqrt(a.distance.variance(sum(parts), noise))), few
