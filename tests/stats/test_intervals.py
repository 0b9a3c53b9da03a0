"""Intervals and tests of means, shares, quantiles, ratios: against scipy and known truths (benchmarks/calibration)."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.calibration.means import SOURCES, comparisons, coverage
from cdslm_eval import Context, Mean, Perplexity, Quantile, RatioOfSums
from cdslm_eval.results.comparison_result import ComparisonResult
from cdslm_eval.results.differences import with_holm
from cdslm_eval.stats.clusters import Clusters
from cdslm_eval.stats.intervals import quantile_interval, share_interval
from cdslm_eval.stats.resampling import Jackknife, jackknife
from cdslm_eval.stats.sample import Sample
from cdslm_eval.stats.weighted import WeightedStatistic

X = Mean("x")


def sample_of(values, speakers=None, name="x"):
    clusters = Clusters.alone(len(values)) if speakers is None else Clusters.of(speakers)
    return Sample(numbers={name: np.array(values, float)}, scored=np.arange(len(values)), clusters=clusters)


def estimate(statistic, sample, unit=""):
    return statistic.estimate(sample, None, Context(name="x", unit=unit)).estimates[0]


def difference(statistic, a, b, *, paired=False):
    (result,) = statistic.difference(a, b, None, Context(name="x"), paired=paired)
    return result


def test_tests_of_means_are_those_of_welch_and_of_pairs():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.5, 1, 7), rng.normal(0, 3, 7)
    for paired, expected in ((False, stats.ttest_ind(a, b, equal_var=False)), (True, stats.ttest_rel(a, b))):
        result = difference(X, sample_of(a), sample_of(b), paired=paired)
        assert result.p_value == pytest.approx(expected.pvalue)
        interval = expected.confidence_interval()
        assert (result.low, result.high) == pytest.approx((interval.low, interval.high))


def test_speakers_of_equal_size_are_tested_by_their_means():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(4, 5)) + rng.normal(size=(4, 1)), rng.normal(size=(4, 5)) + rng.normal(size=(4, 1))
    speakers = np.repeat(np.arange(4), 5)
    result = difference(X, sample_of(a.ravel(), speakers), sample_of(b.ravel(), speakers))
    assert result.p_value == pytest.approx(stats.ttest_ind(a.mean(axis=1), b.mean(axis=1), equal_var=False).pvalue)


def test_the_jackknife_of_a_ratio_is_leaving_out_by_hand():
    over, under = np.array([1.0, 0.0, 4.0, 2.0]), np.array([5.0, 2.0, 9.0, 7.0])
    columns = {"a": over, "b": under}
    result = jackknife(RatioOfSums("a", "b"), columns, Clusters.of("xxyz"), np.random.default_rng(0))
    by_hand = [over[keep].sum() / under[keep].sum() for keep in ([2, 3], [0, 1, 3], [0, 1, 2])]
    np.testing.assert_allclose(result.without, by_hand)


def test_a_share_of_sums_ends_at_one_and_another_ratio_does_not():
    over, under = np.array([9.0, 10.0, 4.0]), np.array([10.0, 10.0, 10.0])
    sample = dataclasses.replace(sample_of(over), numbers={"a": over, "b": under})
    share, rate = (estimate(RatioOfSums("a", "b"), sample, unit=unit) for unit in ("fraction", "1/min"))
    assert share.high == 1.0 < rate.high
    assert share.low == rate.low


def test_many_clips_are_left_out_in_groups_with_the_same_error():
    x = np.random.default_rng(2).exponential(size=5000)
    result = jackknife(X, {"x": x}, Clusters.alone(5000), np.random.default_rng(0))
    assert len(result.without) == 200
    assert result.se == pytest.approx(x.std() / np.sqrt(5000), rel=0.15)


@pytest.mark.parametrize(("hits", "clips"), [(0, 5), (1, 10), (3, 30), (10, 10)])
def test_shares_of_independent_clips_have_the_exact_interval(hits, clips):
    x = np.repeat([1.0, 0.0], [hits, clips - hits])
    result = estimate(X, sample_of(x), unit="fraction")
    exact = stats.binomtest(hits, clips).proportion_ci(method="exact")
    assert (result.low, result.high) == pytest.approx((exact.low, exact.high))


def test_speakers_that_agree_count_as_one_clip_each():
    x, speakers = np.repeat([1.0, 0.0, 0.0, 0.0, 0.0, 0.0], 10), np.repeat(np.arange(6), 10)
    together, alone = estimate(X, sample_of(x, speakers)), estimate(X, sample_of(x))
    six = share_interval(
        1 / 6, jackknife(X, {"x": x[::10]}, Clusters.alone(6), np.random.default_rng(0)), Clusters.alone(6)
    )
    assert together.high - together.low > 2 * (alone.high - alone.low)
    assert together.high >= six.high
    assert together.low <= six.low


def test_clips_that_do_not_vary_have_no_interval_and_a_reason():
    constant = estimate(X, sample_of([2.5] * 9))
    assert constant.value == 2.5
    assert np.isnan([constant.low, constant.high]).all()
    assert "all clips have the same value" in constant.reason
    two = estimate(X, sample_of([1.0, 2.0]))
    assert math.isnan(two.low)
    assert "at least 3 clips" in two.reason
    speakers = estimate(X, sample_of([1.0, 2.0, 3.0, 4.0], "aabb"))
    assert math.isnan(speakers.low)


def test_no_error_in_any_clip_bounds_the_error_rate_from_above():
    sample = Sample(
        numbers={"errors": np.zeros(20), "words": np.full(20, 9.0)}, scored=np.arange(20), clusters=Clusters.alone(20)
    )
    wer = estimate(RatioOfSums("errors", "words"), sample, unit="fraction")
    assert (wer.value, wer.low) == (0.0, 0.0)
    assert wer.high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert math.isnan(estimate(RatioOfSums("errors", "words"), sample, unit="1/min").high)


def test_quantiles_lie_between_order_statistics_or_are_open():
    x = np.random.default_rng(3).permutation(np.arange(1.0, 41.0))
    median = quantile_interval(x, 0.5, Clusters.alone(40))
    inside = stats.binom.cdf(median.high - 1, 40, 0.5) - stats.binom.cdf(median.low - 1, 40, 0.5)
    assert inside >= 0.95
    assert stats.binom.cdf(median.low, 40, 0.5) > 0.025  # the next order statistic would be too near
    upper = estimate(Quantile("x", 0.9), sample_of(x[:20]))
    assert math.isfinite(upper.low)
    assert math.isnan(upper.high)
    assert upper.reason == "its upper end is open: to bound it takes 36 independent clips"
    assert math.isfinite(quantile_interval(x[:36], 0.9, Clusters.alone(36)).high)
    assert math.isnan(quantile_interval(x[:35], 0.9, Clusters.alone(35)).high)
    assert str(upper.headline()).endswith("… open)")
    assert upper.as_json()["high"] is None


def test_quantiles_that_a_side_cannot_bound_are_not_compared():
    rng = np.random.default_rng(4)
    result = difference(Quantile("x", 0.9), sample_of(rng.normal(size=20)), sample_of(rng.normal(size=90)))
    assert math.isnan(result.p_value)
    assert "36 independent clips" in result.reason


def test_perplexity_is_bounded_on_the_scale_of_its_logarithm():
    rng = np.random.default_rng(5)
    tokens = np.full(12, 40.0)
    nll = tokens * rng.gamma(20, 0.2, 12)
    numbers = {"nll": nll, "tokens": tokens}
    sample = Sample(numbers=numbers, scored=np.arange(12), clusters=Clusters.alone(12))
    ppl, rate = estimate(Perplexity("nll", "tokens"), sample), estimate(RatioOfSums("nll", "tokens"), sample)
    assert (ppl.low, ppl.high) == pytest.approx((math.exp(rate.low), math.exp(rate.high)))


class CubedRatio(RatioOfSums):
    """A ratio of the sums of cubes: not what the sums of groups give."""

    def evaluate(self, columns, weights):
        return super().evaluate({name: values**3 for name, values in columns.items()}, weights)


@pytest.mark.parametrize("statistic", [Mean("a"), RatioOfSums("a", "b"), Perplexity("a", "b"), CubedRatio("a", "b")])
@pytest.mark.parametrize("clusters", [Clusters.alone(700), Clusters.of(n % 23 for n in range(700))])
def test_groups_of_clips_are_left_out_of_any_statistic_as_by_hand(statistic, clusters):
    rng = np.random.default_rng(11)
    columns = {name: rng.gamma(2.0, size=700) + 0.1 for name in statistic.columns}
    groups = clusters.numbers if clusters.count == 23 else clusters.deal(200, np.random.default_rng(4))
    rest = [statistic.evaluate(columns, (groups != group).astype(float)[None])[0] for group in range(groups.max() + 1)]
    assert jackknife(statistic, columns, clusters, np.random.default_rng(4)).without == pytest.approx(rest, rel=1e-12)


class Squares:
    """A mixin: the mean of squares, which the means of groups do not have."""

    def evaluate(self, columns, weights):
        return super().evaluate({name: column**2 for name, column in columns.items()}, weights)


class MeanSquare(Squares, Mean):
    """Brings its arithmetic by a mixin."""


class NamedMeanSquare(MeanSquare):
    """Inherits it."""


class SquareOfStated(Squares, Mean):
    """States what does not hold of it."""

    additive = True


@pytest.mark.parametrize("kind", [MeanSquare, NamedMeanSquare])
def test_a_statistic_whose_arithmetic_is_of_a_mixin_is_not_added_up_before(kind):
    x = np.random.default_rng(8).normal(size=600)
    clusters = Clusters.alone(600)
    groups = clusters.deal(200, np.random.default_rng(4))
    rest = [np.mean(x[groups != group] ** 2) for group in range(200)]
    columns = {"x": x}
    assert jackknife(kind("x"), columns, clusters, np.random.default_rng(4)).without == pytest.approx(rest, rel=1e-12)
    # what the class states itself is believed, wrongly here
    wrong = jackknife(SquareOfStated("x"), columns, clusters, np.random.default_rng(4)).without
    assert np.abs(wrong - rest).max() > 0.1


class Midrange(WeightedStatistic):
    """Middle of least and largest value: not smooth in the weights."""

    smooth = False
    columns = ("x",)

    def evaluate(self, columns, weights):
        values = np.where(weights > 0, columns["x"], np.nan)
        return (np.nanmin(values, axis=1) + np.nanmax(values, axis=1)) / 2


def test_a_statistic_that_jumps_takes_its_error_from_the_bootstrap():
    rng = np.random.default_rng(6)
    a, b = sample_of(rng.uniform(size=40)), sample_of(rng.uniform(size=40))
    result = estimate(Midrange(), a)
    assert result.interval == "95% bootstrap t"
    assert result.low < 0.5 < result.high
    assert difference(Midrange(), a, b).p_value > 0.05
    assert difference(Midrange(), a, sample_of(rng.uniform(size=40) + 1)).p_value < 0.01


def test_the_same_difference_everywhere_is_tested_by_its_sign():
    x = np.random.default_rng(7).normal(size=8)
    same = difference(X, sample_of(x), sample_of(x), paired=True)
    assert (same.difference, same.p_value) == (0.0, 1.0)
    assert math.isnan(same.low)
    shifted = difference(X, sample_of(x + 0.1), sample_of(x), paired=True)
    assert shifted.p_value == pytest.approx(2**-7)
    assert "all differ by the same amount" in shifted.reason
    result = ComparisonResult(a="a", b="b", differences=tuple(with_holm([shifted])))
    assert result.verdict(result.differences[0]) == "different"


def test_a_large_difference_survives_hundreds_of_comparisons():
    rng = np.random.default_rng(8)
    large = difference(X, sample_of(rng.normal(5, 1, 30)), sample_of(rng.normal(0, 1, 30)))
    noise = [difference(X, sample_of(rng.normal(size=30)), sample_of(rng.normal(size=30))) for _ in range(199)]
    adjusted = with_holm([large, *noise])
    assert adjusted[0].p_holm < 1e-6
    assert sum(result.p_holm < 0.05 for result in adjusted[1:]) <= 1


def test_pseudo_values_of_a_mean_are_its_values():
    x = np.array([1.0, 4.0, 9.0, 2.0])
    result = jackknife(X, {"x": x}, Clusters.alone(4), np.random.default_rng(0))
    np.testing.assert_allclose(result.pseudo_values, x)
    assert result.se == pytest.approx(x.std(ddof=1) / 2)
    assert Jackknife(0.3, np.full(4, 0.1 + 0.2)).se == 0.0


@pytest.mark.parametrize(
    ("name", "clips", "least"),
    [
        ("mean, normal, 3 speakers", 30, 0.93),
        ("share of 10 %", 5, 0.95),
        ("share of 10 %, 6 speakers", 30, 0.95),
        ("90 % quantile, normal", 30, 0.95),
        ("median, normal, 6 speakers", 30, 0.92),
        ("WER, a tenth of clips fail", 10, 0.95),
        ("WER, 3 speakers", 30, 0.93),
        ("mean, log-normal", 5, 0.91),
        ("mean, log-normal", 10, 0.91),
    ],
)
def test_intervals_cover_the_truth(name, clips, least):
    """Percentile intervals covered .76, .38, .90, .86, .92, .65, .74, .82 and .86 of these."""
    covered, none, _ = coverage(SOURCES[name], clips, 200, seed=1)
    assert covered >= least
    assert none < 0.25


@pytest.mark.parametrize(
    ("name", "clips", "paired"),
    [("mean, normal", 5, True), ("mean, normal, 3 speakers", 30, False), ("WER, 3 speakers", 30, False)],
)
def test_equal_sources_differ_in_five_of_a_hundred_comparisons(name, clips, paired):
    """Type I errors were .18, .22 and .21; the interval and p now agree by construction."""
    tests = comparisons(SOURCES[name], clips, 300, paired=paired)
    assert 0.01 <= np.mean([test.p_value < 0.05 for test in tests]) <= 0.085
    assert all((test.p_value < 0.05) == (test.low > 0 or test.high < 0) for test in tests)


def test_the_detectable_difference_is_shown_four_times_of_five():
    source = SOURCES["mean, normal, 3 speakers"]
    stated = float(np.mean([test.detectable for test in comparisons(source, 30, 300)]))
    shown = np.mean([test.p_value < 0.05 for test in comparisons(source, 30, 300, stated, seed=8)])
    assert 0.73 <= shown <= 0.87
