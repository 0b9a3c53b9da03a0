"""Speakers are kept whole: in groups, floors, kernel pairs and pairings; short forms of benchmarks/calibration."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.calibration.sources import SpeakerSource, speaker_vectors
from cdslm_eval import Mean
from cdslm_eval.core.store import Outcome
from cdslm_eval.run.comparison import differences
from cdslm_eval.stats.clusters import Clusters
from cdslm_eval.stats.distances import KernelMMD, set_distance
from cdslm_eval.stats.jsd import corrected_difference, phoneme_jsd
from cdslm_eval.stats.sample import ClipLabel, gather


def test_groups_folds_and_draws_never_split_a_cluster():
    clusters = Clusters.of("aabbbcdde")
    assert clusters.count == 5
    for groups in (2, 3, 10):
        dealt = clusters.deal(groups, np.random.default_rng(groups))
        assert all(len(set(dealt[clusters.numbers == number])) == 1 for number in range(5))
    weights = clusters.draw(50, np.random.default_rng(0))
    assert all((weights[:, clusters.numbers == number].std(axis=1) == 0).all() for number in range(5))


def test_joined_clusters_are_those_of_either_side():
    joined = Clusters.of("aabbc").joined(Clusters.of("vwwxy"))
    assert joined.numbers.tolist() == [0, 0, 0, 0, 1]
    assert Clusters.of("aab").joined(Clusters.alone(3)).numbers.tolist() == [0, 0, 1]


def test_comparing_systems_of_one_source_knows_the_speakers():
    """Type I error at 20 clips a speaker: .30 when clips are taken for independent."""
    source, hits = SpeakerSource(np.random.default_rng(0)), 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        phones, clusters = zip(*(source.clips(10, 20, 40, rng) for _ in range(3)), strict=True)
        hits += corrected_difference(*phones, (1,), clusters=clusters, seed=seed)[1].p_value < 0.05
    assert hits <= 6


def test_the_floor_of_few_speakers_leaves_no_bias():
    """Identical sources, 20 clips of 4 speakers: +.025 at n = 2 when the floor splits speakers."""
    source, known, unknown = SpeakerSource(np.random.default_rng(0)), [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        (a, own), (b, theirs) = (source.clips(4, 5, 40, rng) for _ in range(2))
        known.append(phoneme_jsd(a, b, (1,), seed, generated_clusters=own, reference_clusters=theirs)[1].corrected)
        unknown.append(phoneme_jsd(a, b, (1,), seed)[1].corrected)
    assert abs(np.mean(known)) < 3 * np.std(known) / np.sqrt(60)
    assert np.mean(unknown) > np.mean(known) + 0.005


def test_the_kernel_distance_is_unbiased_with_speakers():
    """Identical sources, 12 and 40 speakers of 5 clips, 64 dimensions: +1.5 when pairs of one speaker count."""
    values, covered = [], 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        (x, own), (y, theirs) = speaker_vectors(12, 5, 64, rng), speaker_vectors(40, 5, 64, rng)
        result = set_distance(KernelMMD.against(y), x, y, (own, theirs), seed)
        values.append(result.value)
        covered += result.low <= 0 <= result.high
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(40)
    assert covered >= 36


def test_kernel_pairs_of_different_clusters_equal_the_double_loop():
    rng = np.random.default_rng(2)
    (x, own), (y, theirs) = speaker_vectors(4, 3, 5, rng), speaker_vectors(3, 2, 5, rng)
    kernel = KernelMMD(bandwidth=2.0)

    def mean(u, v, keep):
        terms = [np.exp(-np.sum((a - b) ** 2) / 8) for i, a in enumerate(u) for j, b in enumerate(v) if keep(i, j)]
        return np.mean(terms)

    by_hand = mean(x, x, lambda i, j: own[i] != own[j]) + mean(y, y, lambda i, j: theirs[i] != theirs[j])
    by_hand -= 2 * mean(x, y, lambda i, j: True)
    assert kernel.value(x, y, (own, theirs)) == pytest.approx(100 * by_hand)


class _Metric:
    name, unit, better = "m", "", "lower"
    statistics = {"x": Mean("x")}  # noqa: RUF012


def _sample(values, order, clusters=None):
    rows = [Outcome("ok", "", {"x": float(values[clip])}) for clip in order]
    labels = [ClipLabel(f"c{clip}") for clip in order]
    return gather(rows, [("clip", clip) if clusters is None else clusters[clip] for clip in order], labels)


def test_pairing_does_not_depend_on_order_nor_on_which_side_has_speakers():
    rng = np.random.default_rng(0)
    shared = 3 * rng.standard_normal(12)
    x, y = shared + 0.4, shared + 0.1 * rng.standard_normal(12)
    a, b = _sample(x, range(12)), _sample(y, range(12))
    (expected,) = differences(_Metric(), "i", (a, b), None, seed=0)
    assert expected.low > 0
    (shuffled,) = differences(_Metric(), "i", (a, _sample(y, rng.permutation(12))), None, seed=0)
    assert shuffled == expected
    speakers = [clip // 2 for clip in range(12)]
    (first_only,) = differences(_Metric(), "i", (a, _sample(y, range(12), speakers)), None, seed=0)
    (both,) = differences(_Metric(), "i", (_sample(x, range(12), speakers), b), None, seed=0)
    assert first_only.low > 0
    assert first_only == both


def test_a_missing_clip_is_left_out_and_counted():
    rng = np.random.default_rng(1)
    shared = 3 * rng.standard_normal(8)
    x, y = shared + 0.4, shared + 0.05 * rng.standard_normal(8)
    (result,) = differences(_Metric(), "i", (_sample(x, range(8)), _sample(y, range(7))), None, seed=0)
    assert (result.paired, result.n_unpaired) == (True, 1)
    assert result.low > 0
    (apart,) = differences(_Metric(), "i", (_sample(x, range(8)), _sample(y, range(3))), None, seed=0)
    assert (apart.paired, apart.n_unpaired) == (False, 0)


def test_absolute_keys_count_from_their_common_folder_and_unpaired_insists():
    values = np.random.default_rng(0).standard_normal(8)
    a, b = (
        gather(
            [Outcome("ok", "", {"x": float(value)}) for value in values + shift],
            range(8),
            [ClipLabel(f"/{system}/wav/{clip // 4}/c{clip}.wav") for clip in range(8)],
        )
        for system, shift in (("a", 0.1), ("b", 0.0))
    )
    (paired,) = differences(_Metric(), "i", (a, b), None, seed=0)
    assert (paired.paired, paired.n_unpaired) == (True, 0)
    (apart,) = differences(_Metric(), "i", (a, b), None, seed=0, unpaired=True)
    assert not apart.paired


def test_speakers_that_chain_all_pairs_leave_the_samples_unpaired():
    """Other speakers under the same keys on each side join every pair, and one cluster has no interval."""
    rng = np.random.default_rng(0)

    def side(speakers):
        values = rng.normal(size=24)
        outcomes = [Outcome("ok", "", {"x": float(value)}) for value in values]
        return gather(outcomes, [speakers[i] for i in range(24)], [ClipLabel(f"k{i:02d}") for i in range(24)])

    a, b = side([f"a{i % 6}" for i in range(24)]), side([f"b{i // 4}" for i in range(24)])
    (difference,) = differences(_Metric(), "i", (a, b), None, seed=0)
    assert not difference.paired
    assert np.isfinite(difference.low)
