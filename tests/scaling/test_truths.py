"""Tables drawn from known laws: what is recovered, judged, and covered by the intervals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cdslm_eval.errors import EvalError
from cdslm_eval.scaling import fit_law
from cdslm_eval.scaling.downstream import compare_downstream
from cdslm_eval.scaling.isoflop import fit_isoflops
from cdslm_eval.scaling.law import Law
from cdslm_eval.scaling.power_law import fit_power_law
from cdslm_eval.scaling.simulate import Plan, plan_intervals, simulate
from cdslm_eval.scaling.verdict import judge
from cdslm_eval.table import RunTable

PLAN = Plan(tuple(np.geomspace(1e18, 1e21, 7)), sizes=9, width=30)
FALLS = Law.of("chinchilla", E=1.8, A=400, B=3000, alpha=0.32, beta=0.40)
RISES = Law.of("chinchilla", E=1.8, A=2000, B=600, alpha=0.40, beta=0.31)
SATURATES = Law.of("chinchilla", E=0.35, A=3e7, B=3e9, alpha=1.1, beta=1.1)
SEEDS = 8


@pytest.mark.parametrize(
    ("form", "parameters"),
    [
        ("chinchilla", {"E": 1.8, "A": 400.0, "B": 3000.0, "alpha": 0.32, "beta": 0.40}),
        ("gamma", {"E": 1.8, "A": 400.0, "B": 3000.0, "alpha": 0.32, "beta": 0.40, "gamma": 0.8}),
        ("power", {"E": 1.8, "A": 3000.0, "alpha": 0.2}),
    ],
)
def test_a_law_is_recovered_without_noise(form, parameters):
    law = Law.of(form, **parameters)
    found = fit_law(
        simulate(law, Plan(tuple(np.geomspace(1e17, 1e21, 9)), sizes=9, width=60), 0.0, 0), "loss", form=form
    )
    for name, value in law.parameters.items():
        if name in found.parameters:
            assert found.parameters[name] == pytest.approx(value, rel=1e-6), name


@pytest.mark.parametrize(
    ("law", "label", "ratio"), [(FALLS, "scales", "falls"), (RISES, "scales", "rises"), (SATURATES, "saturates", None)]
)
def test_a_truth_gets_its_verdict_and_intervals_hold_it(law, label, ratio):
    said, held = [], dict.fromkeys(("E", "alpha", "beta", "ratio_exponent"), 0)
    a, b = law.parameters["alpha"], law.parameters["beta"]
    truth = {**law.parameters, "ratio_exponent": (a - b) / (a + b)}
    for seed in range(SEEDS):
        found = judge(
            simulate(law, PLAN, 0.01 if label == "saturates" else 0.005, seed), "loss", link="log", replicates=300
        )
        said.append((found.label, found.ratio if ratio else None))
        bootstrap = found.fit.bootstrap(replicates=300)
        for name in held:
            low, high = bootstrap.interval(name)
            held[name] += low <= truth[name] <= high
    assert said.count((label, ratio)) >= SEEDS - 1
    # nominal 95 %: fewer than 5 of 8 has a chance of 0.0004
    assert min(held.values()) >= 5


def test_noise_alone_is_flat_and_not_called_scaling():
    labels = []
    for seed in range(SEEDS):
        drawn = simulate(FALLS, PLAN, 0.0, seed)
        noise = 3.0 + 0.05 * np.random.default_rng(seed).standard_normal(len(drawn))
        labels.append(
            judge(dataclasses.replace(drawn, metrics={"loss": noise}), "loss", link="log", replicates=300).label
        )
    assert labels.count("flat") >= SEEDS - 1


def test_a_metric_that_grows_worse_is_told():
    drawn = simulate(FALLS, PLAN, 0.002, 1)
    worse = dataclasses.replace(drawn, metrics={"score": drawn.metric("loss")})
    assert judge(worse, "score", better="higher", replicates=300).label == "worsens"


def test_real_data_is_reachable_where_the_floor_lies_under_it_and_not_where_over():
    drawn = simulate(FALLS, PLAN, 0.002, 1)
    assert judge(drawn, "loss", link="log", baseline=2.2, replicates=300).reach.label == "reachable"
    assert judge(drawn, "loss", link="log", baseline=1.2, replicates=300).reach.label == "unreachable"
    cost = judge(drawn, "loss", link="log", baseline=2.2, replicates=300).reach.C
    assert float(
        FALLS.predict(*(getattr(fit_law(drawn, "loss").optimum(np.array([cost])), name)[0] for name in "ND"))
    ) == (pytest.approx(2.2, rel=0.01))


def test_isoflops_find_the_optima_of_the_law_that_drew_them():
    found = fit_isoflops(simulate(FALLS, PLAN, 0.001, 0), "loss", replicates=200)
    true = fit_law(simulate(FALLS, PLAN, 0.0, 0), "loss")
    assert len(found.optima) == len(PLAN.budgets)
    for one in found.optima:
        best = true.optimum(np.array([one.C]))
        assert abs(np.log(one.N / best.N[0])) < 0.2
        assert abs(np.log(one.kappa / best.kappa[0])) < 0.3
    low, high = found.N_law.interval
    assert low < 0.40 / 0.72 < high


def test_an_optimum_outside_the_sizes_is_not_called_one():
    drawn = simulate(FALLS, Plan((1e19, 1e20, 1e21), sizes=7, width=20, ratio=2000.0), 0.0, 0)
    found = fit_isoflops(drawn, "loss", replicates=50)
    assert not any(one.has_optimum for one in found.budgets)
    assert all(one.reason for one in found.budgets)


@pytest.mark.parametrize(("decay", "published"), [("chinchilla", 0.571495), ("const", 0.496895)])
def test_the_published_exponents_follow_from_the_published_optima(shared_data, decay, published):
    table = RunTable.read(shared_data / "scaling" / "porian" / "isoflop_points.csv").only(f"decay={decay}")
    rows = {}
    for one in table.to_records():
        rows[float(one["C"])] = (float(one["n_star_published"]), float(one["n_star_logstd"]))
    C = np.array(sorted(rows))
    found = fit_power_law(C, np.array([rows[c][0] for c in C]), np.array([rows[c][1] for c in C]))
    assert found.exponent == pytest.approx(published, abs=2e-4)


def downstream_table(noise=0.002):
    drawn = simulate(FALLS, PLAN, noise, 2)
    rng = np.random.default_rng(0)
    score = 5.0 - 1.1 * drawn.metric("loss") + noise * rng.standard_normal(len(drawn))
    return dataclasses.replace(drawn, metrics={**drawn.metrics, "score": score})


def test_a_metric_that_follows_the_loss_is_predicted_through_it():
    found = compare_downstream(downstream_table(), "score", loss="loss", better="higher", link="identity")
    assert found.fused.map.slope == pytest.approx(found.two_stage.map.slope, rel=0.05)
    assert {one.method for one in found.scores} == {"direct", "two_stage", "fused"}
    assert found.fused.rank_deficiency == 0


def test_without_the_loss_the_fused_objective_lacks_two_ranks_and_says_so():
    found = compare_downstream(
        downstream_table(), "score", loss="loss", better="higher", link="identity", keep_loss=False
    )
    assert found.fused.rank_deficiency == 2
    assert any(flag.name == "rank_deficient" for flag in (*found.fused.flags, *found.flags))


def test_more_runs_narrow_the_interval_that_a_plan_promises():
    few = plan_intervals(FALLS, Plan(PLAN.budgets[:4], sizes=5, width=16), 0.005, simulations=60)
    many = plan_intervals(FALLS, Plan(PLAN.budgets, sizes=9, width=30, repeats=2), 0.005, simulations=60)
    assert many.width("alpha") < few.width("alpha")


def rows(*values, **more):
    return RunTable.from_records([{"N": n, "D": d, "loss": loss, **more} for n, d, loss in values])


GRID = [(n, d, 1.8 + 400 * n**-0.3 + 3000 * d**-0.4) for n in (1e7, 1e8, 1e9) for d in (1e9, 1e10, 1e11)]


@pytest.mark.parametrize(
    "bad",
    [
        GRID[:3],  # too few rows for the parameters
        [(1e8, d, loss) for _, d, loss in GRID],  # one N only
        [(n, d, -loss) for n, d, loss in GRID],  # not positive under a log link
    ],
    ids=["few", "one-n", "negative"],
)
def test_what_cannot_be_fitted_is_told_in_a_sentence(bad):
    try:
        found = fit_law(rows(*bad), "loss")
    except EvalError as error:
        assert len(str(error)) > 20  # noqa: PT017 - either way of saying it will do
    else:
        assert not found.trusted
        assert found.headline.startswith("NOT TO BE TRUSTED")


def test_a_row_with_nan_is_named_with_its_line_and_the_rest_is_fitted(tmp_path):
    path = tmp_path / "runs.csv"
    lines = [f"{n:.0f},{d:.0f},{loss!r}" for n, d, loss in GRID]
    path.write_text("\n".join(["N,D,loss", *lines[:4], "1e8,1e10,nan", *lines[4:], "seven,1e10,2.0"]) + "\n")
    table = RunTable.read(path)
    assert {one.line for one in table.excluded} == {12}  # a quantity that is none is of no use to any metric
    fit = fit_law(table, "loss")
    assert {one.line for one in fit.excluded} == {6, 12}
    assert fit.n_rows == len(GRID)


@pytest.mark.parametrize("text", ["7e9", "7B", "7b", "7000M", "7,000,000,000"])
def test_quantities_are_read_as_people_write_them(text):
    from cdslm_eval.records import parse_quantity

    assert parse_quantity(text) == 7e9


def test_a_compute_that_does_not_fit_is_reported():
    good = RunTable.from_records([{"N": n, "D": d, "C": 6 * n * d, "loss": loss} for n, d, loss in GRID])
    off = RunTable.from_records([{"N": n, "D": d, "C": 2.3 * n * d, "loss": loss} for n, d, loss in GRID])
    assert "misses" in off.compute_check().sentence
    assert "misses" not in good.compute_check().sentence
