"""Claims about simulated ladders of 40 runs: a short form of benchmarks/forty_runs."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from benchmarks.forty_runs.claims import claims_of
from benchmarks.forty_runs.record import code_digest, read, share_of, shares, simulate_missing
from benchmarks.forty_runs.truths import LAWS, MOS_LIMIT, MOS_NOISE, NOISE, RISING, SHAPES, ladder, mos_ladder
from cdslm_eval.scaling import judge
from cdslm_eval.scaling.evidence import fit_trend


@pytest.mark.parametrize("name", LAWS)
def test_claims_about_a_ladder_that_follows_a_law(name):
    made = set(claims_of(LAWS[name], 5, 100))
    assert {"loss scales", "metric scales", "flat metric is flat"} <= made
    assert {"unreachable baseline is unreachable", "reachable baseline is reachable"} <= made
    assert "curvature_disagrees" not in made
    assert ("r* falls" in made) == (LAWS[name].curve.ratio_exponent < 0)
    assert "r* rises" not in made


@pytest.mark.parametrize("shape", SHAPES)
def test_a_score_near_its_limit_saturates_and_never_surely_reaches_it(shape):
    for seed in range(2):
        verdict = judge(
            mos_ladder(shape, seed), "mos", RISING, baseline=MOS_LIMIT, noise=MOS_NOISE, replicates=100, seed=seed
        )
        assert verdict.label == "saturates"
        assert verdict.reach.label != "reachable"


@pytest.mark.parametrize("name", ["r* as C^-.158"])
def test_the_interval_of_the_gain_holds_the_truth(name):
    ends = LAWS[name].optimum([1e18, 1e21]).loss
    truth = 0.3 * float(ends[0] - ends[1])
    held = 0
    for seed in range(40):
        table = ladder(LAWS[name], seed)
        low, high = fit_trend(table, table.metric("reachable")).interval(0.95)
        held += low <= truth <= high
        assert high - low < 10 * NOISE
    # 40 draws at .95: under 34 have a chance of .003
    assert held >= 34


@pytest.mark.parametrize(("hits", "n"), [(93, 100), (100, 100), (0, 40)])
def test_a_share_of_single_entries_has_the_exact_binomial_interval(hits, n):
    exact = binomtest(hits, n).proportion_ci()
    single = share_of([(1, 1)] * hits + [(0, 1)] * (n - hits))
    assert (single.value, single.low, single.high) == pytest.approx((hits / n, exact.low, exact.high))
    # four intervals of one table that hold or miss together are no more evidence than one
    together = share_of([(4, 4)] * hits + [(0, 4)] * (n - hits))
    assert (together.low, together.high) == pytest.approx((exact.low, exact.high))


def test_a_share_is_missed_only_where_chance_does_not_explain_it():
    verdicts = [share_of([(1, 1)] * hits + [(0, 1)] * (100 - hits)).verdict(0.92, 0.99) for hits in (80, 90, 95, 100)]
    assert verdicts == ["missed", "unsure", "", "unsure"]


def test_a_record_is_continued_and_that_of_other_code_is_left_out(tmp_path):
    record, simulated = tmp_path / "record.jsonl", []

    def count(seed):
        simulated.append(seed)
        return {"interval": (seed % 2, 1)}

    for seeds, digest in (([0, 1], "new"), ([0, 1, 2, 3], "new"), ([1], "old")):
        simulate_missing(record, "intervals", "truth", seeds, count, digest)
    assert simulated == [0, 1, 2, 3, 1]
    share = shares(read(record, "intervals", "truth", "new"))["interval"]
    assert (share.value, share.tables) == (0.5, 4)


def test_a_digest_covers_what_decides_the_counts(monkeypatch, tmp_path):
    from benchmarks.forty_runs import claims, intervals

    before = code_digest(200, 500)
    assert code_digest(200, 500) == before
    assert code_digest(200, 400) != before
    for module in (claims, intervals):
        changed = tmp_path / f"{module.__name__}.py"
        changed.write_text("another")
        with monkeypatch.context() as context:
            context.setattr(module, "__file__", str(changed))
            assert code_digest(200, 500) != before
