"""Distances between sets of vectors against matrix roots, closed forms, double loops and known truths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import linalg, stats

from cdslm_eval.stats.distances import (
    FrechetDistance,
    KernelMMD,
    covariance_rank,
    difference,
    frechet_of_moments,
    median_distance,
    near_copies,
    pairwise_cosine_distance,
    set_distance,
)
from cdslm_eval.stats.distances import kernel as kernel_module


def gaussian(count, dimensions, seed, shift=0.0, spread=1.0):
    return spread * np.random.default_rng(seed).standard_normal((count, dimensions)) + shift


def alone(*sides):
    return tuple(np.arange(len(side)) for side in sides)


def by_sqrtm(x, y):
    """The textbook: sample moments and a matrix square root."""
    first, second = np.cov(x.T), np.cov(y.T)
    shift = x.mean(axis=0) - y.mean(axis=0)
    return shift @ shift + np.trace(first + second - 2 * np.real(linalg.sqrtm(first @ second)))


def by_double_loop(x, y, bandwidth):
    def kernel(a, b):
        return np.exp(-np.sum((a - b) ** 2) / (2 * bandwidth**2))

    within = [
        np.mean([kernel(side[i], side[j]) for i in range(len(side)) for j in range(len(side)) if i != j])
        for side in (x, y)
    ]
    return 100 * (sum(within) - 2 * np.mean([kernel(a, b) for a in x for b in y]))


def test_frechet_equals_the_matrix_root_where_that_is_sound():
    mix = gaussian(8, 8, 9)
    x, y = gaussian(60, 8, 1) @ mix, gaussian(90, 8, 2, shift=0.4)
    distance = FrechetDistance.against(y)
    assert distance.value(x, y) == pytest.approx(by_sqrtm(x, y), rel=1e-9)
    assert distance.contrast(x, y).value == pytest.approx(distance.value(x, y), rel=1e-12)


def test_frechet_of_gaussians_has_its_closed_forms():
    first, second = np.diag([1.0, 4.0, 0.0]), np.diag([9.0, 1.0, 0.0])
    # commuting covariances: the sum of squared differences of standard deviations
    assert frechet_of_moments(np.zeros(3), first, np.array([0.0, 0.0, 2.0]), second) == pytest.approx(4 + 4 + 1)
    turn = stats.special_ortho_group.rvs(3, random_state=0)
    turned = frechet_of_moments(np.zeros(3), turn @ first @ turn.T, np.zeros(3), turn @ second @ turn.T)
    assert turned == pytest.approx(5)


def test_frechet_loses_nothing_to_a_singular_covariance():
    # in a plane of a space of 40 dimensions it is the distance within the plane
    x, y = gaussian(12, 2, 1), gaussian(15, 2, 2, shift=1.0)
    lift = stats.ortho_group.rvs(40, random_state=0)[:2]
    distance = FrechetDistance.against(y)
    assert distance.value(x @ lift, y @ lift) == pytest.approx(by_sqrtm(x, y), rel=1e-9)
    assert covariance_rank(x @ lift) == 2
    assert "rank 2 in 40 dimensions (collinear" in distance.caveat(x @ lift, y @ lift)
    assert "rank 11 in 40 dimensions (12 clips)" in distance.caveat(gaussian(12, 40, 3), gaussian(99, 40, 4))


SETS = arrays(np.float64, st.tuples(st.integers(4, 12), st.just(3)), elements=st.floats(-100, 100, width=32))


@settings(deadline=None)
@given(SETS, SETS, st.floats(-1000, 1000))
def test_distances_are_symmetric_and_blind_to_translation_and_nothing_on_themselves(x, y, shift):
    size = 1 + np.square(x).sum() + np.square(y).sum()
    frechet = FrechetDistance.against(y)
    value = frechet.value(x, y)
    assert frechet.value(y, x) == pytest.approx(value, abs=1e-7 * size)
    assert frechet.value(x + shift, y + shift) == pytest.approx(value, abs=1e-6 * size)
    assert frechet.value(x, x) == pytest.approx(0, abs=1e-9 * size)
    kernel = KernelMMD(bandwidth=50.0)
    assert kernel.value(x, y) == pytest.approx(kernel.value(y, x), abs=1e-6)
    assert kernel.value(x + shift, y + shift) == pytest.approx(kernel.value(x, y), abs=1e-6)
    assert kernel.value(x, x) <= 1e-9  # unbiased: equal samples are likelier near than far


def test_kernel_distance_equals_the_double_loop_whatever_the_tiles(monkeypatch):
    x, y = gaussian(13, 4, 1, shift=1000.0), gaussian(17, 4, 2, shift=1000.5)
    distance = KernelMMD.against(y)
    pairs = [np.linalg.norm(y[i] - y[j]) for i in range(17) for j in range(i)]
    assert distance.bandwidth == pytest.approx(np.median(pairs), rel=1e-9)
    assert distance.value(x, y) == pytest.approx(by_double_loop(x, y, distance.bandwidth), rel=1e-8)
    monkeypatch.setattr(kernel_module, "_TILE", 5)
    assert distance.value(x, y) == pytest.approx(by_double_loop(x, y, distance.bandwidth), rel=1e-8)


def test_equal_reference_vectors_leave_no_bandwidth():
    y = np.ones((6, 3))
    result = set_distance(KernelMMD.against(y), gaussian(6, 3, 0), y, alone(y, y))
    assert np.isnan(result.value)
    assert "bandwidth is 0" in result.reason
    assert median_distance(y) == 0


@pytest.mark.parametrize("kind", [FrechetDistance, KernelMMD])
def test_influence_is_the_derivative_by_the_weight_of_a_clip(kind):
    # counting one clip k times among n moves the distance by about (k - 1) / n of its influence
    x, y = gaussian(400, 3, 1, shift=0.5), gaussian(300, 3, 2)
    distance = kind.against(y)
    contrast = distance.contrast(x, y)
    for side, influence in ((0, contrast.generated), (1, contrast.reference)):
        assert influence.mean() == pytest.approx(0, abs=1e-9)
        strongest = int(np.argmax(np.abs(influence)))
        sets = [x, y]
        sets[side] = np.delete(sets[side], strongest, axis=0)
        moved = contrast.value - distance.value(*sets)
        assert moved == pytest.approx(influence[strongest] / len((x, y)[side]), rel=0.05)


@pytest.mark.parametrize(
    ("kind", "shift", "truth"),
    [
        (FrechetDistance, 0.0, 0.0),
        (FrechetDistance, 0.5, 1.0),
        (KernelMMD, 0.0, 0.0),
        (KernelMMD, 0.5, None),
    ],
)
def test_corrected_values_are_unbiased_and_their_intervals_cover(kind, shift, truth):
    dimensions, runs, hits, values, plain = 4, 80, 0, [], []
    for seed in range(runs):
        x, y = gaussian(40, dimensions, 2 * seed, shift), gaussian(60, dimensions, 2 * seed + 1)
        distance = kind.against(y)
        if kind is KernelMMD:
            # the kernel's mean over two Gaussians is a Gaussian of the shift
            variance = distance.bandwidth**2
            share = (variance / (variance + 2)) ** (dimensions / 2)
            truth = 200 * share * (1 - np.exp(-dimensions * shift**2 / (2 * (variance + 2))))
        result = set_distance(distance, x, y, alone(x, y), seed)
        hits += result.corrected_low <= truth <= result.corrected_high
        values.append(result.corrected - truth)
        plain.append(result.value - truth)
    error = np.std(values) / np.sqrt(runs)
    assert abs(np.mean(values)) < 3 * error + 0.02
    assert hits / runs >= 0.9
    if kind is FrechetDistance:
        assert np.mean(plain) > 10 * abs(np.mean(values))  # what the extrapolation takes out


def test_the_floor_is_what_identical_sources_score():
    y = gaussian(200, 4, 3)
    distance = FrechetDistance.against(y)
    result = set_distance(distance, gaussian(80, 4, 1), y, alone(gaussian(80, 4, 1), y))
    assert result.floor_clips == 80
    expected = np.mean([distance.value(gaussian(80, 4, 10 + i), gaussian(80, 4, 50 + i)) for i in range(30)])
    assert result.floor == pytest.approx(expected, rel=0.35)
    assert result.trust in ("ok", "sample_limited")


def test_speakers_are_resampled_whole():
    # forty clips of eight speakers describe a population little better than eight clips do
    rng = np.random.default_rng(0)
    voices = np.repeat(np.arange(8), 5)
    x = 2 * rng.standard_normal((8, 2))[voices] + 0.1 * rng.standard_normal((40, 2))
    y = gaussian(200, 2, 1)
    distance = FrechetDistance.against(y)
    loose = set_distance(distance, x, y, alone(x, y))
    held = set_distance(distance, x, y, (voices, np.arange(200)))
    assert held.corrected_high - held.corrected_low > 2 * (loose.corrected_high - loose.corrected_low)


def test_the_difference_of_two_systems_is_seen_where_there_is_one():
    y = gaussian(150, 3, 0)
    shared = gaussian(60, 3, 1, shift=1.0)
    near, far = shared, shared + 0.5
    clusters = alone(near, far, y)
    for kind in (FrechetDistance, KernelMMD):
        distance = kind.against(y)
        a, b = (set_distance(distance, vectors, y, alone(vectors, y)) for vectors in (near, far))
        value, se, few = difference(a, b, clusters, paired=True)
        assert value < -3 * se
        assert few == 60
        assert se < difference(a, b, clusters, paired=False)[1]
        assert difference(a, a, clusters, paired=True)[:2] == (0, 0)


def test_diversity_is_the_mean_over_pairs():
    x = gaussian(9, 5, 0, shift=1.0)
    pairs = [
        1 - x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j]) for i in range(9) for j in range(9) if i != j
    ]
    assert pairwise_cosine_distance(x, np.ones((1, 9)))[0] == pytest.approx(np.mean(pairs))
    # a clip that is drawn twice is no pair with itself, and one that is not drawn is not there
    weights = np.array([[2.0, 1.0, 0, 0, 0, 0, 0, 0, 0], [3.0, 0, 0, 0, 0, 0, 0, 0, 0]])
    result = pairwise_cosine_distance(x, weights)
    assert result[0] == pytest.approx(pairs[0])
    assert np.isnan(result[1])


def test_near_copies_are_found_and_independent_vectors_are_not():
    reference = gaussian(300, 10, 0, spread=np.linspace(1, 50, 10))
    reference[7] = reference[8]  # a copy within the reference must not blunt the limit
    fresh = gaussian(300, 10, 1, spread=np.linspace(1, 50, 10))
    assert len(near_copies(fresh, reference).places) == 0
    fresh[5] = reference[33] + 0.01
    fresh[90] = reference[4]
    result = near_copies(fresh, reference)
    assert result.places.tolist() == [90, 5]
    assert result.neighbours.tolist() == [4, 33]
