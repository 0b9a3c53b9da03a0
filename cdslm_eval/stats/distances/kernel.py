"""Unbiased squared maximum mean discrepancy under a Gaussian kernel, tile by tile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cdslm_eval.stats.distances.contrast import Contrast, Distance, Floats, Ints, Vectors, set_influence

__all__ = ["KernelMMD", "median_distance"]

_TILE = 1024
_MEDIAN_VECTORS = 2048
_MEDIAN_SEED = 0x6B6164


@dataclass(frozen=True)
class KernelMMD(Distance):
    """100 times the unbiased estimate of the squared MMD with the kernel exp(-|x - y|^2 / (2 bandwidth^2)).

    Unbiased at any number of clips, so 0 is expected of identical sources and single values may lie under it. No
    matrix of all pairs is held: memory grows with the clips, not with their square.

    Attributes:
        bandwidth: Of the kernel, in the units of the vectors.
        scale: 100: a squared MMD of 1.

    Source: Gretton et al. (2012), "A Kernel Two-Sample Test", eq. 3; as an audio distance (median bandwidth of the
    reference, factor 100) Chung et al. (2025), "KAD: No More FAD! An Effective and Efficient Evaluation Metric for
    Audio Generation", ICML.
    """

    bandwidth: float
    scale: float = 100.0

    @classmethod
    def against(cls, reference: Vectors) -> KernelMMD:
        """Return the distance whose bandwidth is the median distance between vectors of a reference."""
        return cls(bandwidth=median_distance(reference))

    def value(self, generated: Vectors, reference: Vectors, clusters: tuple[Ints, Ints] | None = None) -> float:
        """Return 100 times the unbiased squared MMD; NaN with under 2 clusters a side."""
        return self.contrast(generated, reference, clusters).value

    def contrast(self, generated: Vectors, reference: Vectors, clusters: tuple[Ints, Ints] | None = None) -> Contrast:
        """Return the distance with the influence of every vector (its first-order projection).

        Within a side only pairs of different clusters count: two clips of one speaker are nearer to each other than
        two of the source are, and with them the estimate would not be unbiased.
        """
        n, m = len(generated), len(reference)
        own, theirs = clusters if clusters is not None else (np.arange(n), np.arange(m))
        if min(len(np.unique(own)), len(np.unique(theirs))) < 2 or not self.bandwidth > 0:
            return Contrast(float("nan"), np.full(n, np.nan), np.full(m, np.nan))
        # distances come from inner products, which lose digits far from the origin
        origin = reference.mean(axis=0, dtype=np.float64)
        x, y = generated - origin, reference - origin
        within_x, within_y = _within(x, own, self.bandwidth), _within(y, theirs, self.bandwidth)
        rows, columns = _sums(x, y, self.bandwidth)
        between_x, between_y = rows / m, columns / n
        value = within_x.mean() + within_y.mean() - 2 * between_x.mean()
        influences = (
            set_influence(2 * self.scale * (within - other))
            for within, other in ((within_x, between_x), (within_y, between_y))
        )
        return Contrast(self.scale * float(value), *influences)

    def variance(self, first_order: float, noise: float) -> float:
        """Return the variance of the distance; arguments as of `Distance.variance`.

        Influences are taken at the sample, whose own fluctuation moves them: of a quadratic statistic they count the
        second-order part of the variance, which is `noise` and at most half of theirs, twice. Noise comes from few
        draws and is uncertain itself, so that a quarter less is taken off.

        Source: Efron and Stein (1981), "The Jackknife Estimate of Variance", Annals of Statistics 9, eq. 1.8.
        """
        return first_order - 0.75 * min(noise, first_order / 2)

    def caveat(self, generated: Vectors, reference: Vectors) -> str:
        """Return why there is no kernel: a bandwidth of 0."""
        del generated, reference
        return "" if self.bandwidth > 0 else "half of the reference vectors are equal, so the median bandwidth is 0"


def median_distance(vectors: Vectors) -> float:
    """Return the median Euclidean distance between vectors; of a seeded draw of 2,048 where there are more."""
    if len(vectors) < 2:
        return float("nan")
    if len(vectors) > _MEDIAN_VECTORS:
        chosen = np.random.default_rng(_MEDIAN_SEED).choice(len(vectors), _MEDIAN_VECTORS, replace=False)
        vectors = vectors[np.sort(chosen)]
    centred = vectors - vectors.mean(axis=0, dtype=np.float64)
    squares = _squared_distances(centred, centred)
    return float(np.median(np.sqrt(squares[np.triu_indices(len(vectors), 1)])))


def _within(x: Floats, clusters: Ints, bandwidth: float) -> Floats:
    """Return each vector's kernel sum over vectors of other clusters, scaled so that the mean is that over pairs."""
    sums = _sums(x, x, bandwidth)[0]
    _, numbers, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    # what one cluster adds is subtracted block by block: a mask of all pairs would need the whole matrix
    same = np.ones(len(x))
    order = np.argsort(numbers, kind="stable")
    for size, end in zip(sizes, np.cumsum(sizes), strict=True):
        if size > 1:
            members = order[end - size : end]
            block = np.exp(_squared_distances(x[members], x[members]) / (-2 * bandwidth**2))
            # a vector is at distance 0 from itself, which inner products miss by rounding
            np.fill_diagonal(block, 1.0)
            same[members] = block.sum(axis=1)
    pairs = len(x) ** 2 - int(np.square(sizes).sum())
    scaled: Floats = (sums - same) / (pairs / len(x))
    return scaled


def _sums(x: Floats, y: Floats, bandwidth: float) -> tuple[Floats, Floats]:
    """Return the sums of the kernel matrix over its columns `[len(x)]` and over its rows `[len(y)]`."""
    rows, columns = np.zeros(len(x)), np.zeros(len(y))
    same = x is y
    for i in range(0, len(x), _TILE):
        # the kernel matrix of a set with itself is symmetric: half of its tiles are enough
        for j in range(i if same else 0, len(y), _TILE):
            tile = np.exp(_squared_distances(x[i : i + _TILE], y[j : j + _TILE]) / (-2 * bandwidth**2))
            if same and i == j:
                np.fill_diagonal(tile, 1.0)
            rows[i : i + _TILE] += tile.sum(axis=1)
            if same and i != j:
                rows[j : j + _TILE] += tile.sum(axis=0)
            columns[j : j + _TILE] += tile.sum(axis=0)
    return rows, columns


def _squared_distances(x: Floats, y: Floats) -> Floats:
    squares: Floats = np.einsum("ij,ij->i", x, x)[:, None] + np.einsum("ij,ij->i", y, y)
    squares -= 2 * (x @ y.T)
    np.maximum(squares, 0.0, out=squares)
    return squares
