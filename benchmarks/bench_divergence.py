"""n-gram counts, plug-in and floor against Counter loops; the whole estimate; the bootstrap of means."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np

from cdslm_eval import Mean
from cdslm_eval.stats.clusters import Clusters
from cdslm_eval.stats.jsd import PhoneSequences, phoneme_jsd
from cdslm_eval.stats.jsd.corrected import corrected
from cdslm_eval.stats.jsd.ngrams import NgramTable
from cdslm_eval.stats.jsd.plug_in import plug_in
from cdslm_eval.stats.resampling import bootstrap


def clips(count, length, seed):
    rng = np.random.default_rng(seed)
    return [[str(phone) for phone in row] for row in rng.zipf(1.4, (count, length)) % 40]


def with_counters(a, b, draws=10):
    """Plug-in and floor for n = 1..5 with collections.Counter: the plain baseline."""
    rng = np.random.default_rng(0)

    def divergence(p, q):
        """Jensen-Shannon divergence of two Counters."""
        total_p, total_q = sum(p.values()), sum(q.values())
        value = 0.0
        for gram in p.keys() | q.keys():
            x, y = p[gram] / total_p, q[gram] / total_q
            m = (x + y) / 2
            value += (x * np.log2(x / m) if x else 0.0) / 2 + (y * np.log2(y / m) if y else 0.0) / 2
        return value

    def grams(some, n):
        return Counter(tuple(clip[i : i + n]) for clip in some for i in range(len(clip) - n + 1))

    pooled = a + b
    for n in range(1, 6):
        divergence(grams(a, n), grams(b, n))
        for _ in range(draws):
            order = rng.permutation(len(pooled))
            halves = [[pooled[i] for i in part] for part in np.array_split(order, 2)]
            divergence(grams(halves[0], n), grams(halves[1], n))


def vectorised(a, b):
    """Plug-in and floor as the package computes them."""
    table = NgramTable(PhoneSequences.from_lists(a), PhoneSequences.from_lists(b), 5)
    clusters = np.arange(len(table.lengths))
    for order in table.orders:
        plug_in(table, order, clusters)
    # 20 draws, and the influence of every clip
    corrected(table, (1, 2, 3, 4, 5), np.random.default_rng(0))


def test_counts_plug_in_and_floor_against_counter_loops(benchmark):
    a, b = clips(1000, 120, 1), clips(1000, 120, 2)
    start = time.perf_counter()
    with_counters(a, b)
    plain = time.perf_counter() - start
    benchmark.pedantic(vectorised, (a, b), rounds=5, warmup_rounds=1)
    benchmark.extra_info["ratio"] = plain / benchmark.stats.stats.median
    assert benchmark.extra_info["ratio"] > 1


def test_the_whole_estimate_at_a_thousand_clips_of_120_phones_a_side(benchmark):
    a, b = clips(1000, 120, 3), clips(1000, 120, 4)
    result = benchmark.pedantic(phoneme_jsd, (a, b), rounds=5, warmup_rounds=1)
    assert set(result) == {1, 2, 3, 4, 5}


def test_bootstrap_of_a_mean_over_a_hundred_thousand_clips(benchmark):
    x = np.random.default_rng(0).random(100_000)
    result = benchmark.pedantic(bootstrap, (Mean("x"), {"x": x}, Clusters.alone(len(x))), rounds=5, warmup_rounds=1)
    assert len(result) == 1000
