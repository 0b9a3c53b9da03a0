"""Short versions of the simulations behind docs/statistics.md: coverage, type I errors, copies, thinning."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.calibration.decisions import (
    advice_decides,
    divergence_of,
    false_ranks,
    hidden_speakers,
    mean_of,
    memorisers,
)
from benchmarks.calibration.divergences import near_copies, sources
from benchmarks.calibration.means import SOURCES
from benchmarks.calibration.sets import frechet_coverage, kernel_coverage, told_apart
from benchmarks.calibration.sources import divergences
from cdslm_eval import Context, Mean
from cdslm_eval.stats.hidden_clusters import order_correlation
from cdslm_eval.stats.jsd import corrected_difference, jsd, phoneme_jsd
from cdslm_eval.stats.jsd.corrected import grassberger_jsd
from cdslm_eval.stats.standing import standings


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


def test_sets_of_unequal_counts_are_thinned_where_few_clips_leave_a_bias():
    tests = [told_apart((18, 72, 80), 24, seed) for seed in range(20)] + [
        told_apart((60, 200, 80), 24, seed) for seed in range(10)
    ]
    assert sum(by_test for by_test, _, _ in tests) <= 4
    assert not any(by_rank for _, by_rank, _ in tests)
    assert "thinned to 18 clips" in tests[0][2]
    assert "thinned to 60 clips" in tests[-1][2]
    assert "thinned" not in told_apart((100, 200, 80), 24, 0)[2]
    assert told_apart((18, 72, 80), 24, 0, shift=1.0)[0]
    assert told_apart((100, 200, 80), 24, 0, shift=1.0)[1]


@pytest.mark.parametrize("name", ["mean, normal", "median, normal"])
def test_equal_systems_are_rarely_ranked_apart_and_different_ones_are(name):
    assert false_ranks(name, 30, 40) <= 0.15
    rng = np.random.default_rng(0)
    source, estimates = SOURCES[name], []
    for system in range(4):
        sample = source.sample(30, rng)
        sample.numbers["x"] = sample.numbers["x"] + 3.0 * system
        context = Context(name="x", better="higher", system=str(system))
        estimates += source.statistic.estimate(sample, None, context).estimates
    assert [standing.text for standing in standings(estimates).values()] == ["4", "3", "2", "1"]


def test_ranks_of_two_systems_are_the_unpaired_test_of_compare():
    source, rng = SOURCES["mean, normal"], np.random.default_rng(4)
    for shift in (0.5, 1.5):
        a, b = source.sample(8, rng), source.sample(5, rng)
        b.numbers["x"] = b.numbers["x"] + shift
        contexts = [Context(name="x", better="higher", system=system) for system in "ab"]
        estimates = [
            Mean("x").estimate(side, None, own).estimates[0] for side, own in zip((a, b), contexts, strict=True)
        ]
        (difference,) = Mean("x").difference(a, b, None, contexts[0], paired=False)
        apart = {standing.shown for standing in standings(estimates).values()}
        assert apart == {difference.p_value < 0.05}


def test_a_memoriser_stands_unranked_next_to_fresh_speech():
    assert [row.after for row in memorisers(3)] == ["1.000", "1.000", "1.000", "0.000", "1.000"]


def test_sets_without_speakers_have_a_note_that_names_alike_neighbours():
    rows = {row.what: float(row.after) for row in hidden_speakers(4)}
    assert all(share == 1 for what, share in rows.items() if what.endswith("a note"))
    alike = "the note states that neighbours are alike"
    assert rows[f"40 unnamed speakers of 5 clips of 80 phones in a row: {alike}"] >= 0.5
    assert rows[f"200 clips of speakers of their own: {alike}"] == 0


def test_the_clips_that_a_gate_asks_for_decide_it_about_as_often_as_not():
    followed, decided, _ = advice_decides(mean_of, "x < 3.2", 30, 0, 60)
    assert followed >= 20
    assert 0.4 <= decided / followed <= 0.95
    followed, decided, beyond = advice_decides(divergence_of(1), "pjsd_1.corrected < 0.011", 30, 40, 12)
    assert followed + beyond >= 4
    assert decided >= 0.4 * followed


def test_distances_cover_the_truth_where_they_have_an_interval():
    printed = {row.what: row.after for row in frechet_coverage(10)}
    assert all(after == "no interval" for what, after in printed.items() if "50 against 200 clips, 32" in what)
    assert all(float(after) >= 0.7 for after in printed.values() if after != "no interval")
    assert all(float(row.after) >= 0.7 for row in kernel_coverage(10))


def test_clips_of_unnamed_speakers_in_a_row_are_noticed():
    rng = np.random.default_rng(0)
    shown = [order_correlation(np.repeat(rng.normal(size=40), 5) + rng.normal(size=200)).shown for _ in range(50)]
    independent = [order_correlation(rng.normal(size=200)).shown for _ in range(200)]
    assert np.mean(shown) > 0.8
    assert np.mean(independent) < 0.02
    assert not order_correlation(np.full(100, np.nan)).shown
