"""Distances between sets of vectors, with their errors at a finite sample."""

from __future__ import annotations

from cdslm_eval.stats.distances.contrast import Contrast, Distance, clustered_variance
from cdslm_eval.stats.distances.frechet import FrechetDistance, covariance_rank, frechet_of_moments, trace_of_root
from cdslm_eval.stats.distances.kernel import KernelMMD, median_distance
from cdslm_eval.stats.distances.neighbours import NearCopies, near_copies, pairwise_cosine_distance
from cdslm_eval.stats.distances.sets import MAX_CLIPS, SetDistance, difference, set_distance

__all__ = [
    "MAX_CLIPS",
    "Contrast",
    "Distance",
    "FrechetDistance",
    "KernelMMD",
    "NearCopies",
    "SetDistance",
    "clustered_variance",
    "covariance_rank",
    "difference",
    "frechet_of_moments",
    "median_distance",
    "near_copies",
    "pairwise_cosine_distance",
    "set_distance",
    "trace_of_root",
]
