"""Values and bootstrap replicates against computing by hand; counts and reasons."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdslm_eval import Context, Mean, Quantile, RatioOfSums
from cdslm_eval.builtin.metrics.signal import Signal
from cdslm_eval.core.store import Outcome
from cdslm_eval.results.differences import holm
from cdslm_eval.stats.clusters import Clusters
from cdslm_eval.stats.resampling import bootstrap
from cdslm_eval.stats.sample import gather


def test_bootstrap_equals_resampling_by_hand():
    x = np.random.default_rng(1).exponential(size=25)
    ours = bootstrap(Mean("x"), {"x": x}, Clusters.alone(25), seed=4, replicates=50)
    rng = np.random.default_rng(4)
    by_hand = [x[draw].mean() for draw in rng.integers(0, 25, (50, 25))]
    np.testing.assert_allclose(ours, by_hand, rtol=1e-12)


def test_clusters_are_drawn_whole():
    x, clusters = np.array([1.0, 3.0, 10.0]), Clusters.of("aab")
    values = set(np.round(bootstrap(Mean("x"), {"x": x}, clusters, seed=0, replicates=200), 6))
    assert values == {2.0, 10.0, round(14 / 3, 6)}


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=20), st.floats(0, 1))
def test_quantiles_are_values_that_enough_of_the_sample_does_not_exceed(values, q):
    x = np.array(values)
    actual = Quantile("x", q).evaluate({"x": x}, np.ones((1, len(x))))[0]
    assert actual in x
    assert (x <= actual).mean() >= q - 1e-9
    np.testing.assert_allclose(actual, np.quantile(x, q, method="inverted_cdf"))


def test_ratio_of_sums_is_not_a_mean_of_ratios():
    columns = {"a": np.array([1.0, 0.0]), "b": np.array([1.0, 9.0])}
    assert RatioOfSums("a", "b").evaluate(columns, np.ones((1, 2)))[0] == pytest.approx(0.1)
    assert np.isnan(RatioOfSums("a", "b").evaluate(columns, np.zeros((1, 2)))[0])


def test_failed_and_skipped_clips_are_counted_never_averaged():
    row = {
        "seconds": 2.0,
        "level_dbfs": None,
        "silent_s": 1.0,
        "speech_s": 1.0,
        "clipped": 0,
        "samples": 9,
        "phones": 3,
    }
    outcomes = [
        Outcome("ok", "", row),
        Outcome("failed", "broken", {}),
        Outcome("skipped", "silent", {}),
        Outcome("ok", "", row),
    ]
    sample = gather(outcomes, range(4))
    actual = {
        name: statistic.estimate(sample, None, Context(name=name)).estimates[0]
        for name, statistic in Signal.statistics.items()
    }
    assert actual["duration"].value == 2.0
    assert (actual["duration"].n_scored, actual["duration"].n_failed, actual["duration"].n_skipped) == (2, 1, 1)
    assert np.isnan(actual["level"].value)
    assert actual["level"].reason == "it applies to no clip"
    assert actual["level"].as_json()["value"] is None


def test_holm_is_the_step_down_by_hand():
    assert holm([0.01, float("nan"), 0.04, 0.03])[0::2] == pytest.approx([0.03, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
