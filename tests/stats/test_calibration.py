"""Short versions of the simulations behind docs/statistics.md: coverage, type I errors, copies, thinning."""

from __future__ import annotations

import numpy as np

from benchmarks.calibration.divergences import near_copies, sources
from benchmarks.calibration.sources import divergences
from cdslm_eval import Context, Frechet
from cdslm_eval.core.store import Outcome
from cdslm_eval.stats.hidden_clusters import order_correlation
from cdslm_eval.stats.jsd import corrected_difference, jsd, phoneme_jsd
from cdslm_eval.stats.jsd.corrected import grassberger_jsd
from cdslm_eval.stats.sample import gather


def test_the_interval_of_a_corrected_value_covers_the_truth_and_is_absent_at_bounds_only():
    kinds, covered, runs = sources(), 0, 40
    truth = divergences(kinds["near"], kinds["identical"], (2,))[2]
    for seed in range(runs):
        rng = np.random.default_rng([1, seed])
        (a, _), (b, _) = (kinds[name].clips(60, 1, 40, rng) for name in ("near", "identical"))
        results = phoneme_jsd(a, b, (2, 3) if seed == 0 else (2,), seed)
        covered += results[2].corrected_low <= truth <= results[2].corrected_high
        if seed == 0:
            assert results[3].trust == "bounds_only"
            assert np.isnan([results[3].corrected_low, results[3].corrected_high]).all()
            assert "only the bounds hold" in results[3].reason
    assert covered >= 0.8 * runs  # a true coverage of .9 fails this in 1 of 60 runs


def test_systems_of_one_source_differ_rarely_and_a_detectable_difference_is_the_one_that_is_detected():
    kinds, tests = sources(), []
    for seed in range(40):
        rng = np.random.default_rng([2, seed])
        a, b, real = (kinds[name].clips(60, 1, 40, rng)[0] for name in ("near", "near", "identical"))
        tests.append(corrected_difference(a, b, real, (1,), seed=seed)[1])
    assert sum(test.p_value < 0.05 for test in tests) <= 6
    ratio = np.mean([test.detectable for test in tests]) / (2.8 * np.std([test.value for test in tests]))
    assert 0.75 < ratio < 1.35


def test_copies_are_noticed_and_bounds_keep_their_order():
    assert [row.after for row in near_copies(3)] == ["1.000", "1.000", "1.000", "1.000", "1.000", "0.000"]


def test_the_second_estimate_is_nearly_unbiased_where_the_plug_in_is_not():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(300), 2)
    m = (p + q) / 2
    truth = (p @ np.log2(p / m) + q @ np.log2(q / m)) / 2
    draws = [(rng.multinomial(600, p), rng.multinomial(600, q)) for _ in range(60)]
    second, plug_in = (np.mean([estimate(*draw) for draw in draws]) for estimate in (grassberger_jsd, jsd))
    assert abs(second - truth) < 0.3 * (plug_in - truth)


def test_sets_of_unequal_counts_are_thinned_where_a_covariance_is_singular():
    def sample(count, rng, shift=0.0):
        rows = [
            Outcome("ok", "", {"embedding": (row + shift).astype(np.float32)}) for row in rng.normal(size=(count, 24))
        ]
        return gather(rows, range(count))

    significant = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        few, many, real = (sample(count, rng) for count in (18, 72, 80))
        (difference,) = Frechet().difference(few, many, real, Context(name="fad", seed=seed), paired=False)
        assert "thinned to 18 clips" in difference.method
        significant += difference.p_value < 0.05
    assert significant <= 3
    (apart,) = Frechet().difference(sample(18, rng, 1.0), many, real, Context(name="fad"), paired=False)
    assert apart.p_value < 0.01


def test_clips_of_unnamed_speakers_in_a_row_are_noticed():
    rng = np.random.default_rng(0)
    shown = [order_correlation(np.repeat(rng.normal(size=40), 5) + rng.normal(size=200)).shown for _ in range(50)]
    independent = [order_correlation(rng.normal(size=200)).shown for _ in range(200)]
    assert np.mean(shown) > 0.8
    assert np.mean(independent) < 0.02
    assert not order_correlation(np.full(100, np.nan)).shown
