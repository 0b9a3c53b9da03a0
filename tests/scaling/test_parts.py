"""isoFLOPs, downstream metrics, verdicts and plans, on tables whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling import (
    Law,
    LawSpec,
    Plan,
    bootstrap,
    bootstrap_staged,
    compare_downstream,
    fit_isoflops,
    fit_law,
    hold_out,
    judge,
    plan_intervals,
    plan_runs,
    roll_out,
    simulate,
)
from cdslm_eval.scaling.rows import find_budgets
from cdslm_eval.scaling.table import RunTable

FALLING = Law.of("chinchilla", E=1.8, A=400.0, B=3000.0, alpha=0.32, beta=0.40)
RISING = Law.of("chinchilla", E=1.8, A=2000.0, B=600.0, alpha=0.40, beta=0.31)
STEEP = Law.of("chinchilla", E=0.35, A=3e7, B=3e9, alpha=1.1, beta=1.1)
PLAN = Plan(tuple(np.geomspace(1e18, 1e21, 7)), sizes=9, width=30)
SEEDS = range(12)
LOGIT = LawSpec(link="logit", bounds=(0, 1), better="higher")


def flat_table(seed):
    table = simulate(FALLING, PLAN, 0.0)
    return replace(table, metrics={"loss": 3.0 + 0.05 * np.random.default_rng(seed).standard_normal(len(table))})


# ---- verdicts ----


@pytest.mark.parametrize(
    ("make", "label", "ratio"),
    [
        (lambda seed: simulate(FALLING, PLAN, 0.005, seed), "scales", "falls"),
        (lambda seed: simulate(RISING, PLAN, 0.005, seed), "scales", "rises"),
        (lambda seed: simulate(STEEP, PLAN, 0.01, seed), "saturates", None),
        (flat_table, "flat", "undetermined"),
        (
            lambda seed: replace(
                flat_table(seed),
                metrics={
                    "loss": 3
                    + 0.1 * np.log(PLAN.models(FALLING)[2] / 1e18)
                    + 0.05 * np.random.default_rng(seed).standard_normal(63)
                },
            ),
            "worsens",
            "undetermined",
        ),
    ],
    ids=["a<b", "a>b", "saturates", "flat", "worsens"],
)
def test_each_truth_gets_its_verdict(make, label, ratio):
    verdicts = [judge(make(seed), "loss", LawSpec(link="log"), replicates=200) for seed in SEEDS]
    assert sum(verdict.label == label for verdict in verdicts) >= 11
    if ratio:
        assert sum(verdict.ratio == ratio for verdict in verdicts) >= 11


@pytest.mark.parametrize("law", [FALLING, RISING, STEEP], ids=["a<b", "a>b", "steep"])
def test_intervals_cover_the_truth(law):
    truth = {name: law.parameters[name] for name in ("E", "alpha", "beta")}
    truth["ratio_exponent"] = float(law.curve.ratio_exponent)
    hits = dict.fromkeys(truth, 0)
    for seed in range(40):
        fit = fit_law(simulate(law, PLAN, 0.005, seed), "loss", LawSpec(delta=0.005))
        draws = bootstrap(fit, replicates=300)
        for name, value in truth.items():
            low, high = draws.interval(name)
            hits[name] += low <= value <= high
    # of 40 at 95 %, fewer than 33 has a chance below 1 in 10,000
    assert all(count >= 33 for count in hits.values()), hits
    assert sum(hits.values()) < 160, "intervals that never miss are too wide"


def test_too_little_data_decides_nothing():
    table = simulate(FALLING, Plan((1e19, 2e19), sizes=3), 0.2, seed=2)
    assert judge(table, "loss").label == "undetermined"


def test_a_baseline_within_reach_out_of_reach_and_open():
    table = simulate(FALLING, PLAN, 0.003, seed=1)
    wanted = float(FALLING.optimum(1e23).loss)
    near = judge(table, "loss", LawSpec(link="log"), baseline=wanted).reach
    assert near.label == "reachable"
    assert near.interval[0] < 1e23 < near.interval[1]
    assert near.extrapolation_ratio == pytest.approx(near.C / 1e21)
    assert judge(table, "loss", LawSpec(link="log"), baseline=1.5).reach.label == "unreachable"
    assert judge(table, "loss", LawSpec(link="log"), baseline=1.8).reach.label == "undetermined"
    assert judge(flat_table(0), "loss", baseline=3.2).reach.label == "reachable"
    far = judge(flat_table(0), "loss", baseline=2.0).reach
    assert far.label == "undetermined"
    assert "not reached at any sampled budget" in far.sentence


def test_a_metric_that_should_rise_is_judged_from_its_own_side():
    falls = simulate(FALLING, PLAN, 0.002, seed=1)
    verdict = judge(
        replace(falls, metrics={"score": falls.metric("loss")}),
        "score",
        LawSpec(link="identity", better="higher"),
        baseline=9.0,
    )
    assert verdict.label == "worsens"
    assert verdict.reach.label == "unreachable"
    few = falls.select([0, 30, 60])
    high = judge(
        replace(few, metrics={"score": np.array([0.1, 0.3, 0.5])}),
        "score",
        LawSpec(link="identity", better="higher"),
        baseline=0.9,
    )
    assert high.fit is None
    assert high.reach.label == "undetermined"


# ---- isoFLOPs ----


def test_isoflops_find_the_optima_of_a_law():
    table = simulate(FALLING, replace(PLAN, width=10), 0.002, seed=4)
    isoflops = fit_isoflops(table, "loss")
    assert len(isoflops.optima) == 7
    for budget in isoflops.budgets:
        truth = FALLING.optimum(budget.C)
        assert budget.N_interval[0] * 0.8 < truth.N < budget.N_interval[1] * 1.25
        assert pytest.approx(budget.C / (6 * budget.N)) == budget.D
        assert budget.kappa == pytest.approx(float(truth.kappa), rel=0.35)
    low, high = isoflops.N_law.interval
    assert low < float(FALLING.curve.N_exponent) < high
    assert isoflops.ratio_law.exponent == pytest.approx(isoflops.D_law.exponent - isoflops.N_law.exponent)


def test_a_minimum_beyond_the_sizes_is_no_optimum():
    isoflops = fit_isoflops(simulate(FALLING, Plan((1e19, 1e20, 1e21), 7, 6, ratio=3000.0), 0.001), "loss")
    assert not isoflops.optima
    assert all(np.isnan(budget.N) and "above the sampled sizes" in budget.reason for budget in isoflops.budgets)
    assert "too few for a law" in isoflops.headline
    assert any(flag.name == "no_optimum" and flag.doubt for flag in isoflops.flags)


def test_isoflops_of_published_runs_meet_the_published_exponent(shared_data):
    table = RunTable.read(shared_data / "scaling/porian/isoflop_points.csv").only("hparams=base")
    isoflops = fit_isoflops(table, "loss", degree=3)
    assert len(isoflops.optima) == 12
    assert isoflops.N_law.exponent == pytest.approx(0.5715, abs=0.02)


def test_budgets_are_clusters_of_compute():
    table = simulate(FALLING, PLAN, 0.0)
    blurred = replace(
        table, isoflop=np.full(63, ""), C=table.C * np.exp(np.random.default_rng(0).uniform(-0.05, 0.05, 63))
    )
    groups = find_budgets(blurred)
    assert not groups.declared
    assert (groups.label == find_budgets(table).label).all()
    continuum = replace(table, isoflop=np.full(63, ""), C=np.geomspace(1e18, 1e21, 63))
    spans = [
        np.ptp(np.log(continuum.C[find_budgets(continuum).rows(i)])) for i in range(len(find_budgets(continuum).C))
    ]
    assert max(spans) <= 0.3


# ---- downstream ----


def downstream_table(seed=1):
    table = simulate(FALLING, PLAN, 0.003, seed=seed)
    loss = FALLING.predict(table.N, table.D)
    noise = np.random.default_rng(seed + 1).standard_normal((2, len(loss)))
    accuracy = 1 / (1 + np.exp(-(4 - 1.6 * loss + 0.05 * noise[0])))
    return replace(
        table, metrics={**table.metrics, "accuracy": accuracy, "pjsd": 0.1 + 0.2 * (loss - 1.8) + 0.003 * noise[1]}
    )


def test_two_stage_and_fused_find_the_map_from_loss_to_metric():
    result = compare_downstream(downstream_table(), "accuracy", spec=LOGIT, maps=["line"])
    for staged in (result.two_stage, result.fused):
        # of the distance from 1: ln((1 - y) / y) = -4 + 1.6 loss
        assert staged.map.parameters["slope"] == pytest.approx(1.6, abs=0.08)
        assert staged.map.parameters["intercept"] == pytest.approx(-4.0, abs=0.2)
    assert result.fused.rank_deficiency == 0
    assert result.best in {"direct", "two_stage", "fused"}
    for score in result.scores:
        assert len(score.beyond) == 9
        assert len(score.within) == 63
    assert next(one.rmse_beyond for one in result.scores if one.method == "two_stage") < 0.1
    exact = 1 / (1 + np.exp(-(4 - 1.6 * FALLING.predict(1e9, 2e10))))
    for method in ("direct", "two_stage", "fused"):
        assert float(result.predict(method, 1e9, 2e10)) == pytest.approx(float(exact), abs=0.01)


def test_intervals_of_fits_through_the_loss_hold_the_truth_and_are_no_wider_than_they_must():
    truth = {"slope": 1.6, "intercept": -4.0, "alpha": 0.32, "E": 1.8}
    hits, values, errors = ({(way, name): [] for way in ("two_stage", "fused") for name in truth} for _ in range(3))
    for seed in range(16):
        table = downstream_table(seed)
        estimates = compare_downstream(table, "accuracy", spec=LOGIT, maps=["line"], folds=0)
        for staged in (estimates.two_stage, estimates.fused):
            draws = bootstrap_staged(staged, replicates=200)
            for name, value in truth.items():
                low, high = draws.interval(name)
                hits[staged.name, name].append(low <= value <= high)
                values[staged.name, name].append(staged.parameters[name])
                errors[staged.name, name].append(draws.standard_error(name))
    # of 16 at 95 %, fewer than 12 has a chance of 0.0009
    assert all(sum(outcomes) >= 12 for outcomes in hits.values()), hits
    for parameter, estimates in values.items():
        # the spread of 16 estimates is itself known to a fifth
        assert 0.6 < np.mean(errors[parameter]) / np.std(estimates, ddof=1) < 1.7, parameter


def test_a_fused_objective_without_the_loss_is_rank_deficient_by_two():
    result = compare_downstream(downstream_table(), "pjsd", maps=["line"], keep_loss=False, folds=0)
    assert result.fused.rank_deficiency == 2
    assert any("undetermined: without residuals of the loss" in flag.sentence for flag in result.flags)
    with pytest.raises(UsageError, match="so none has an interval"):
        bootstrap_staged(result.fused)
    assert compare_downstream(downstream_table(), "pjsd", folds=0).fused.rank_deficiency == 0


def test_test_rows_are_what_the_methods_are_compared_on():
    table = downstream_table()
    marked = replace(table, split=np.where(table.C > 3e20, "test", "train"))
    done = []
    result = compare_downstream(marked, "pjsd", folds=2, progress=lambda i, n: done.append((i, n)))
    assert len(result.held_out) == 9 * int(np.sum(np.asarray(PLAN.budgets) > 3e20))
    assert done[-1] == (4, 4)
    with pytest.raises(UsageError, match="downstream metric of itself"):
        compare_downstream(table, "loss")


# ---- plans ----


def test_planned_intervals_are_those_of_tables_drawn_one_by_one():
    planned = plan_intervals(FALLING, PLAN, 0.01, simulations=300, seed=1)
    assert planned.converged > 0.99
    alone = [
        fit_law(simulate(FALLING, PLAN, 0.01, seed), "loss", LawSpec(delta=0.01345)).parameters["alpha"]
        for seed in range(60)
    ]
    assert np.std(planned.estimates["alpha"]) == pytest.approx(np.std(alone), rel=0.3)
    assert abs(planned.bias("alpha")) < np.std(alone) / 2
    assert planned.sign_known > 0.99


def test_four_times_the_runs_halve_the_interval():
    few = plan_intervals(FALLING, PLAN, 0.01, simulations=1500)
    many = plan_intervals(FALLING, replace(PLAN, repeats=4), 0.01, simulations=1500)
    assert many.width("alpha") / few.width("alpha") == pytest.approx(0.5, abs=0.08)
    assert many.plan.flops == pytest.approx(4 * few.plan.flops)


def test_the_smallest_plan_that_is_enough():
    tried = []
    plan = plan_runs(FALLING, PLAN, 0.01, "alpha", 0.03, progress=tried.append)
    assert plan.width("alpha") <= 0.03
    assert tried[-2].width("alpha") > 0.03
    with pytest.raises(UsageError, match="widen the budgets"):
        plan_runs(FALLING, PLAN, 0.01, "alpha", 1e-4, most=200)


def test_a_simulated_table_is_reproducible_and_as_noisy_as_told():
    first, second = (simulate(FALLING, replace(PLAN, repeats=30), 0.02, 7, tails=5.0) for _ in range(2))
    assert first.digest == second.digest
    noise = np.log(first.metric("loss")) - np.log(FALLING.predict(first.N, first.D))
    assert np.std(noise) == pytest.approx(0.02, rel=0.1)


def test_rollouts_predict_the_next_budget():
    fit = fit_law(simulate(FALLING, PLAN, 0.005, seed=2), "loss", LawSpec(estimator="least_squares"))
    steps = roll_out(fit, least=4)
    assert [len(step.actual) for step in steps] == [9, 9, 9]
    assert all(step.rmse < 0.03 for step in steps)
    assert hold_out(fit, 0.2).extrapolation_ratio == pytest.approx(10**0.5)
