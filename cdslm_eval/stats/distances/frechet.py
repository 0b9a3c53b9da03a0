"""Fréchet distance between Gaussians fitted to two sets of vectors, by singular values of the data themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from cdslm_eval.stats.distances.contrast import Contrast, Distance, Floats, Ints, Vectors, set_influence

__all__ = ["FrechetDistance", "covariance_rank", "frechet_of_moments", "trace_of_root"]


@dataclass(frozen=True)
class FrechetDistance(Distance):
    """Squared 2-Wasserstein distance between the Gaussians of mean and covariance of two sets.

    |m_1 - m_2|^2 + tr C_1 + tr C_2 - 2 tr (C_1 C_2)^(1/2), covariances with the n - 1 denominator. The trace of the
    root is the sum of the singular values of A_1 A_2', where A'A = C: A is the centred data where there are fewer
    vectors than dimensions, and the symmetric root of C (by eigenvectors) otherwise. No imaginary part is dropped,
    and no ridge is added where a covariance is singular; a zero eigenvalue costs at most 1e-8 of the largest.

    Attributes:
        scale: Total variance of the reference, the natural size of a large distance.

    Source: Dowson and Landau (1982), "The Fréchet distance between multivariate normal distributions"; for audio
    Kilgour et al. (2019), "Fréchet Audio Distance", Interspeech.
    """

    extrapolates: ClassVar[bool] = True
    scale: float = field(default=float("nan"))

    @classmethod
    def against(cls, reference: Vectors) -> FrechetDistance:
        """Return the distance to a reference, whose total variance is the scale."""
        return cls(scale=float(np.var(reference, axis=0, dtype=np.float64).sum()))

    def value(self, generated: Vectors, reference: Vectors, clusters: tuple[Ints, Ints] | None = None) -> float:
        """Return the distance; NaN with under 2 vectors a side."""
        del clusters  # moments take every vector alike
        if min(len(generated), len(reference)) < 2:
            return float("nan")
        sides = [_root(vectors) for vectors in (generated, reference)]
        shift = _mean(generated) - _mean(reference)
        singular = np.linalg.svd(sides[0] @ sides[1].T, compute_uv=False)
        return _assemble(shift, _squares(sides[0]), _squares(sides[1]), float(singular.sum()))

    def contrast(self, generated: Vectors, reference: Vectors, clusters: tuple[Ints, Ints] | None = None) -> Contrast:
        """Return the distance with the influence of every vector on it.

        The derivative of 2 tr (C_1 C_2)^(1/2) by the weight of a centred vector x is x'Tx, T the optimal transport map
        between the Gaussians. With A_1 A_2' = U S V' it is n times row x of U^2 S: no inverse is taken.
        """
        del clusters
        if min(len(generated), len(reference)) < 2:
            blank = np.full(len(generated), np.nan), np.full(len(reference), np.nan)
            return Contrast(float("nan"), *blank)
        means = _mean(generated), _mean(reference)
        shift = means[0] - means[1]
        factors = [_factors(vectors) for vectors in (generated, reference)]
        roots = [root for _, root in factors]
        left, singular, right = np.linalg.svd(roots[0] @ roots[1].T, full_matrices=False)
        influences = []
        for vectors, mean, factor, turn, sign in zip(
            (generated, reference), means, factors, (left, right.T), (1, -1), strict=True
        ):
            # rows of A are centred vectors over the root of n - 1, and a vector weighs 1 / n
            centred = vectors - mean
            spread = np.einsum("ij,ij->i", centred, centred) / (len(vectors) - 1)
            carried = (factor[0] @ turn) ** 2 @ singular
            influences.append(set_influence(2 * sign * (centred @ shift) + len(vectors) * (spread - carried)))
        squares = [_squares(root) for root in roots]
        return Contrast(_assemble(shift, squares[0], squares[1], float(singular.sum())), *influences)

    def caveat(self, generated: Vectors, reference: Vectors) -> str:
        """Return which covariance is singular, and of what rank."""
        for name, vectors in (("system", generated), ("reference", reference)):
            rank = covariance_rank(vectors)
            if rank < vectors.shape[1]:
                cause = f"{len(vectors)} clips" if rank == len(vectors) - 1 else "collinear dimensions"
                return f"the {name}'s covariance has rank {rank} in {vectors.shape[1]} dimensions ({cause})"
        return ""


def covariance_rank(vectors: Vectors) -> int:
    """Return the rank of the covariance of vectors `[vectors, dimensions]`, at float32 precision of their content."""
    if len(vectors) < 2:
        return 0
    singular = np.linalg.svd(_root(vectors), compute_uv=False)
    # equal vectors leave rounding errors of their content, which are no rank
    size = max(float(singular[0]), float(np.abs(vectors).max()) * np.finfo(np.float32).eps)
    return int(np.count_nonzero(singular > size * max(vectors.shape) * np.finfo(np.float32).eps))


def trace_of_root(first: Floats, second: Floats) -> float:
    """Return tr (C_1 C_2)^(1/2) of two symmetric positive semi-definite matrices `[dimensions, dimensions]`.

    The sum of the singular values of the product of their symmetric roots.
    """
    roots = [_symmetric_root(vectors)[1] for vectors in (first, second)]
    return float(np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum())


def frechet_of_moments(first_mean: Floats, first: Floats, second_mean: Floats, second: Floats) -> float:
    """Return the distance between two Gaussians given by mean `[dimensions]` and covariance.

    Example:
        >>> frechet_of_moments(np.zeros(2), np.eye(2), np.array([3.0, 4.0]), 4 * np.eye(2))
        27.0
    """
    shift = first_mean - second_mean
    return _assemble(shift, float(np.trace(first)), float(np.trace(second)), trace_of_root(first, second))


def _assemble(shift: Floats, first: float, second: float, root: float) -> float:
    # a sum of squares minus its like: rounding may leave a few ulps below 0
    return max(0.0, float(shift @ shift) + first + second - 2 * root)


def _mean(vectors: Vectors) -> Floats:
    mean: Floats = vectors.mean(axis=0, dtype=np.float64)
    return mean


def _root(vectors: Vectors) -> Floats:
    """Return A with A'A the covariance, `[min(vectors, dimensions), dimensions]`."""
    centred: Floats = (vectors - _mean(vectors)) / np.sqrt(len(vectors) - 1)
    return centred if len(centred) <= centred.shape[1] else _symmetric_root(centred.T @ centred)[1]


def _factors(vectors: Vectors) -> tuple[Floats, Floats]:
    """Return Q with orthonormal columns and A of `_root`, so that Q A are the centred vectors over root n - 1."""
    centred: Floats = (vectors - _mean(vectors)) / np.sqrt(len(vectors) - 1)
    if len(centred) <= centred.shape[1]:
        return np.eye(len(centred)), centred
    # a QR factorisation would do too, but its many small steps crawl where processes share the processors
    values, root = _symmetric_root(centred.T @ centred)
    positive = values > values.max() * len(values) * np.finfo(np.float64).eps
    inverse = np.divide(1, values, out=np.zeros_like(values), where=positive)
    return centred @ (root.T * inverse), root


def _symmetric_root(covariance: Floats) -> tuple[Floats, Floats]:
    """Return the eigenvalues of a covariance, and A with A'A = C whose rows are scaled eigenvectors."""
    values, vectors = np.linalg.eigh(covariance)
    # zero eigenvalues come out a little below 0
    values = np.maximum(values, 0)
    return values, np.sqrt(values)[:, None] * vectors.T


def _squares(root: Floats) -> float:
    return float(np.einsum("ij,ij->", root, root))
