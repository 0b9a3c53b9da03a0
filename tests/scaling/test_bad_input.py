"""Bad input gets a clear sentence, and what can still be answered is answered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cdslm_eval.core.errors import UnknownNameError, UsageError
from cdslm_eval.scaling import Law, LawSpec, Plan, bootstrap, fit_isoflops, fit_law, judge, roll_out, simulate
from cdslm_eval.scaling.flags import extrapolation_flags
from cdslm_eval.scaling.frontier import Resampling
from cdslm_eval.scaling.study import Settings, study
from cdslm_eval.scaling.table import RunTable
from cdslm_eval.scaling.verdict import doubted

LAW = Law.of("chinchilla", E=1.8, A=400.0, B=3000.0, alpha=0.33, beta=0.38)
TABLE = simulate(LAW, Plan((1e18, 1e19, 1e20, 1e21), sizes=7, width=30), 0.005, seed=3)


def flags_of(table, **spec):
    return {flag.name: flag for flag in fit_law(table, "loss", LawSpec(**spec)).flags}


def with_loss(values):
    return replace(TABLE, metrics={"loss": np.asarray(values, float)})


def test_a_good_table_raises_no_doubt():
    fit = fit_law(TABLE, "loss")
    assert fit.trusted
    assert fit.headline.startswith("loss = ")


def test_too_few_rows():
    with pytest.raises(UsageError, match="4 usable train rows of 'loss' are too few for the 5 parameters"):
        fit_law(TABLE.select(np.arange(4)), "loss")
    assert fit_law(TABLE.select(np.arange(0, 28, 6)), "loss", LawSpec(form="power")).n_rows == 5


def test_one_budget_still_has_its_isoflop():
    table = TABLE.select(TABLE.C == 1e20)
    assert "one_budget" in flags_of(table)
    assert not fit_law(table, "loss").trusted
    result = fit_isoflops(table, "loss")
    assert len(result.optima) == 1
    assert result.N_law is None
    assert judge(table, "loss").label == "undetermined"


def test_one_size_leaves_alpha_open():
    n = np.full(20, 1e9)
    d = np.geomspace(1e9, 1e12, 20)
    table = replace(
        TABLE.select(np.arange(20)), N=n, D=d, C=6 * n * d, metrics={"loss": LAW.predict(n, d)}, derived="C"
    )
    flags = flags_of(table)
    assert {"one_N", "rank_deficient"} <= set(flags)
    assert "all rows have one N" in flags["rank_deficient"].sentence


def test_values_outside_the_link_are_named_and_the_rest_is_fitted():
    values = TABLE.metric("loss").copy()
    values[[2, 5]] = [-1.0, np.nan]
    fit = fit_law(with_loss(values), "loss")
    assert {row.line: row.reason for row in fit.excluded} == {
        3: "loss = -1 cannot be used on the log scale",
        6: "loss is missing",
    }
    assert fit.n_rows == 26
    assert fit.trusted


def test_a_constant_metric_is_said_to_be_constant():
    fit = fit_law(with_loss(np.full(28, 2.5)), "loss")
    assert fit.headline.startswith("NOT TO BE TRUSTED: the metric is the same in every row")
    assert judge(with_loss(np.full(28, 2.5)), "loss", noise=0.01).label == "flat"


def test_duplicates_mixed_conventions_and_wrong_compute_are_flagged():
    assert flags_of(TABLE.select([*range(28), 4]))["duplicates"].value == 1
    mixed = flags_of(replace(TABLE, notes=("mixed conventions in 'N convention': a, b",)))
    assert mixed["mixed_conventions"].doubt
    wrong = flags_of(replace(TABLE, C=TABLE.C * np.geomspace(0.3, 3, 28), derived=""))
    assert wrong["compute_mismatch"].doubt


def test_a_floor_that_nothing_shows_is_not_identified():
    law = Law.of("chinchilla", E=1e-4, A=30.0, B=60.0, alpha=0.1, beta=0.12)
    table = simulate(law, Plan((1e18, 1e19, 1e20), sizes=6), 0.02, seed=1)
    assert "E_unidentified" in flags_of(table, estimator="least_squares")


def test_optima_outside_the_sampled_sizes_are_flagged():
    far = simulate(LAW, Plan((1e19, 1e20, 1e21), sizes=7, width=8, ratio=2000.0), 0.001)
    assert "optimum_outside_range" in flags_of(far)
    names = [flag.name for flag in extrapolation_flags(TABLE, LAW, np.array([1e25]))]
    assert names == ["extrapolation_ratio", "optimum_outside_range"]


def test_a_limit_above_measured_values_is_a_misfit():
    # a metric that stalls and then falls again: the law sees the stall as its limit
    c = np.geomspace(1e17, 1e22, 60)
    n = np.sqrt(c / 120)
    fall = 3 - 1.5 * np.minimum(np.log10(c / 1e17), 2) / 2 - 0.8 * np.maximum(np.log10(c / 1e21), 0)
    table = replace(simulate(LAW, Plan(tuple(c), sizes=1), 0.0), N=n, D=c / 6 / n, metrics={"loss": fall})
    assert {"floor_above_data", "lack_of_fit"} & set(flags_of(table))
    assert judge(table, "loss", LawSpec(link="log")).label != "saturates"


def test_larger_test_runs_speak_against_a_limit():
    law = Law.of("chinchilla", E=0.5, A=3e7, B=3e9, alpha=1.1, beta=1.1)
    table = simulate(law, Plan(tuple(np.geomspace(1e18, 1e22, 9)), sizes=7), 0.01, seed=1)
    assert judge(table, "loss", LawSpec(link="log")).label == "saturates"
    large = table.C > 1e21
    better = replace(
        table,
        split=np.where(large, "test", "train"),
        metrics={"loss": np.where(large, 0.4, table.metric("loss"))},
    )
    verdict = judge(better, "loss", LawSpec(link="log"))
    assert verdict.label == "undetermined"
    assert "larger test runs" in verdict.sentence


@pytest.mark.parametrize("largest", [5e18, 1e18])
def test_no_verdict_contradicts_a_first_line_that_doubts_the_law(shared_data, largest):
    # published runs at a constant learning rate: the small ones seem to saturate, the large ones go on
    path = shared_data / "scaling/porian/isoflop_points.csv"
    table = RunTable.read(path, columns={"N": "n", "D": "tokens", "C": "flops"}).only("decay=const")
    table = replace(table, split=np.where(largest < table.C, "test", "train").astype("U5"))
    result = study(table, "loss", Settings(resampling=Resampling(replicates=0), baseline=1.0))
    assert result.headline.startswith("NOT TO BE TRUSTED")
    assert result.verdict.label == "undetermined"
    assert "it seems to saturate, but" in result.verdict.sentence
    assert result.verdict.reach.label == "undetermined"


def test_a_law_in_doubt_leaves_what_was_measured_and_takes_what_only_it_says():
    verdict = judge(TABLE, "loss", LawSpec(link="log"), baseline=1.2, replicates=200)
    assert (verdict.label, verdict.reach.label) == ("scales", "unreachable")
    assert doubted(verdict, []) is verdict
    less = doubted(verdict, ["it fits badly"])
    assert (less.label, less.reach.label) == ("scales", "undetermined")
    assert "it fits badly" in less.sentence
    assert doubted(replace(verdict, label="saturates"), ["it fits badly"]).label == "undetermined"
    assert doubted(replace(verdict, label="flat"), ["it fits badly"]).doubts == ()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fit_law(TABLE, "los"), UnknownNameError, "Did you mean 'loss'"),
        (lambda: fit_law(TABLE, "loss", LawSpec(form="chinchila")), UnknownNameError, "Did you mean 'chinchilla'"),
        (lambda: fit_law(TABLE, "loss", LawSpec(estimator="hubr")), UnknownNameError, "Did you mean 'huber'"),
        (lambda: fit_law(TABLE, "loss", LawSpec(link="logit")), UsageError, "needs the bounds"),
        (lambda: fit_law(TABLE, "loss", LawSpec(link="log", better="higher")), UsageError, "declare bounds"),
        (lambda: fit_law(TABLE, "loss", LawSpec(bounds=(3, 1), link="logit")), UsageError, "two finite numbers"),
        (lambda: fit_law(TABLE, "loss", LawSpec(delta=0)), UsageError, "delta must be above 0"),
        (lambda: bootstrap(fit_law(TABLE, "loss"), by="isoflop").interval("gama"), UnknownNameError, "parameter"),
        (lambda: bootstrap(fit_law(TABLE, "loss"), by="rows"), UnknownNameError, "Did you mean 'row'"),
        (lambda: roll_out(fit_law(TABLE, "loss"), 4), UsageError, "there are 4"),
        (lambda: LAW.near_optimal(1e20, 0), UsageError, "epsilon must be above 0"),
        (lambda: judge(TABLE, "loss", noise=-1), UsageError, "noise must be above 0"),
    ],
)
def test_wrong_questions_are_answered_with_what_to_do(call, error, message):
    with pytest.raises(error, match=message):
        call()
