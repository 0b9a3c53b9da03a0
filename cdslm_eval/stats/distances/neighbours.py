"""Cosine distances within a set, and from each vector to its nearest neighbour in another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cdslm_eval.stats.distances.contrast import Floats, Ints, Vectors

__all__ = ["NearCopies", "near_copies", "pairwise_cosine_distance"]

_TILE = 1024
NEAR = 0.25
"""Share of the typical distance between nearest real neighbours under which a vector is a near-copy."""


def pairwise_cosine_distance(vectors: Vectors, weights: Floats) -> Floats:
    """Return the weighted mean cosine distance over pairs of different vectors, without forming the pairs.

    Args:
        vectors: `[vectors, dimensions]`; one of norm 0 has no direction and lies at distance 1 from all others.
        weights: `[replicates, vectors]`, not negative; a vector that counts twice is no pair with itself.

    Returns:
        float64 `[replicates]`, 0..2; NaN where fewer than two vectors have weight.
    """
    unit = _directions(vectors)
    squared = weights**2
    pairs = weights.sum(axis=1) ** 2 - squared.sum(axis=1)
    summed = weights @ unit
    alike = np.einsum("ij,ij->i", summed, summed) - squared @ np.einsum("ij,ij->i", unit, unit)
    out = np.full(len(weights), np.nan)
    # a single vector with weight has no pair but for rounding
    np.divide(alike, pairs, out=out, where=pairs > 1e-9 * np.maximum(1.0, squared.sum(axis=1)))
    return np.clip(1.0 - out, 0.0, 2.0)


@dataclass(frozen=True, slots=True, eq=False)
class NearCopies:
    """Which vectors of a set are all but equal to one of another set.

    Attributes:
        limit: Distance under which a vector counts as a near-copy; NaN where the other set cannot tell.
        places: Places of the near-copies, nearest first.
        neighbours: Place in the other set of the neighbour of each.
        distances: Their distances, in standard deviations of the other set per dimension (root mean square).
    """

    limit: float
    places: Ints
    neighbours: Ints
    distances: Floats


def near_copies(generated: Vectors, reference: Vectors) -> NearCopies:
    """Return the vectors that lie nearer to a reference vector than real vectors lie to each other.

    Dimensions are standardised by the reference. A near-copy is nearer than a quarter of the median distance between
    a reference vector and its nearest other one (copies within the reference left out): distances among independent
    clips concentrate, while encoding, resampling or a change of level moves a clip hardly at all.
    """
    nobody = np.zeros(0, np.int64)
    if len(reference) < 3 or not len(generated):
        return NearCopies(float("nan"), nobody, nobody, np.zeros(0))
    mean, spread = reference.mean(axis=0, dtype=np.float64), reference.std(axis=0, dtype=np.float64)
    used = spread > 0
    # over the root of the dimensions, so that distances mean the same at any number of them
    scale = spread[used] * np.sqrt(max(1, int(used.sum())))
    own, theirs = ((side[:, used] - mean[used]) / scale for side in (generated, reference))
    _, apart = _nearest(theirs, theirs, skip_self=True)
    apart = apart[apart > 1e-6]
    limit = NEAR * float(np.median(apart)) if len(apart) else float("nan")
    neighbours, distances = _nearest(own, theirs)
    places = np.flatnonzero(distances <= limit)
    places = places[np.argsort(distances[places], kind="stable")]
    return NearCopies(limit, places, neighbours[places], distances[places])


def _directions(vectors: Vectors) -> Floats:
    exact = np.asarray(vectors, np.float64)
    norms = np.linalg.norm(exact, axis=1, keepdims=True)
    unit: Floats = np.divide(exact, norms, out=np.zeros_like(exact), where=norms > 0)
    return unit


def _nearest(x: Floats, y: Floats, *, skip_self: bool = False) -> tuple[Ints, Floats]:
    """Return the place and distance of the nearest vector of y for each of x, tile by tile."""
    places, best = np.zeros(len(x), np.int64), np.full(len(x), np.inf)
    for i in range(0, len(x), _TILE):
        tile = x[i : i + _TILE]
        rows = np.arange(len(tile))
        for j in range(0, len(y), _TILE):
            others = y[j : j + _TILE]
            squares = np.einsum("ij,ij->i", tile, tile)[:, None] + np.einsum("ij,ij->i", others, others)
            squares -= 2 * (tile @ others.T)
            if skip_self and i == j:
                np.fill_diagonal(squares, np.inf)
            least = squares.argmin(axis=1)
            distance = squares[rows, least]
            better = distance < best[i : i + _TILE]
            places[i : i + _TILE][better] = j + least[better]
            best[i : i + _TILE][better] = distance[better]
    # the few pairs that were chosen are measured again without the cancellation of inner products
    exact = np.linalg.norm(x - y[places], axis=1)
    return places, np.where(np.isfinite(best), exact, np.inf)
