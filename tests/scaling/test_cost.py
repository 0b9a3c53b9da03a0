"""Compute that is not 6ND: costs fitted to measured C, and optima under them against a grid."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling import Law, LawSpec, Plan, fit_law, simulate
from cdslm_eval.scaling.cost import Cost, fit_cost
from cdslm_eval.scaling.curves import NumericCurve
from cdslm_eval.scaling.frontier import Resampling, predictions
from cdslm_eval.scaling.law import get_form
from cdslm_eval.scaling.table import RunTable

COST = Cost(40.0, 0.87, 1.05)
LAW = dataclasses.replace(Law.of("chinchilla", E=1.8, A=480.0, B=2100.0, alpha=0.35, beta=0.37), cost=COST)


def test_a_cost_is_its_own_inverse():
    N, C = np.geomspace(1e7, 1e10, 5), np.geomspace(1e18, 1e22, 5)
    np.testing.assert_allclose(COST.flops(N, COST.tokens(C, N)), C, rtol=1e-12)
    balanced = np.exp(COST.log_balanced(np.log(C), 20.0))
    np.testing.assert_allclose(COST.flops(balanced, 20 * balanced), C, rtol=1e-12)
    np.testing.assert_allclose(COST.tokens(C, np.exp(COST.log_largest(np.log(C)))), 1.0, rtol=1e-9)
    assert str(COST) == "40 N^0.87 D^1.05"
    assert str(Cost()) == "6 N D"


@pytest.mark.parametrize("numeric", [False, True])
def test_optima_under_a_cost_are_those_of_a_grid(numeric):
    curve = LAW.curve
    if numeric:
        own = {name: np.asarray(LAW.parameters[name]) for name in ("A", "alpha", "B", "beta")}
        curve = NumericCurve(curve.floor, COST, get_form("chinchilla"), own)
    C = np.array([1e19, 1e21])
    for budget in C:
        grid = np.geomspace(1e6, 1e12, 200_001)
        tokens = (budget / 40 / grid**0.87) ** (1 / 1.05)
        values = 1.8 + 480 * grid**-0.35 + 2100 * tokens**-0.37
        best, step = int(np.argmin(values)), np.log(grid[1] / grid[0])
        assert float(curve.log_n_optimum(budget)) == pytest.approx(np.log(grid[best]), abs=2 * step)
        # the second difference over a wide step of the grid
        wide = 400
        kappa = (values[best - wide] + values[best + wide] - 2 * values[best]) / (wide * step) ** 2
        assert float(curve.kappa(budget)) == pytest.approx(kappa, rel=1e-3)
        near = curve.near_optimal(budget, 0.01, relative=True)
        inside = values <= 1.01 * values[best]
        assert float(near.N_low) == pytest.approx(grid[inside][0], rel=1e-3)
        assert float(near.D_low) == pytest.approx(tokens[inside][-1], rel=1e-3)
        assert float(curve.reach(values[best])) == pytest.approx(budget, rel=1e-4)


def test_exponents_are_those_of_the_optima():
    C = np.array([1e20, 1e22])
    best, decades = LAW.optimum(C), np.log(100)
    for name, exponent in (
        ("N", LAW.curve.N_exponent),
        ("D", LAW.curve.D_exponent),
        ("ratio", LAW.curve.ratio_exponent),
    ):
        assert np.log(getattr(best, name)[1] / getattr(best, name)[0]) / decades == pytest.approx(float(exponent))


def test_a_fitted_cost_is_the_true_one_in_spite_of_outliers():
    rng = np.random.default_rng(0)
    N, D = np.exp(rng.uniform(16, 23, 60)), np.exp(rng.uniform(20, 26, 60))
    C = COST.flops(N, D) * np.exp(rng.normal(0, 0.01, 60))
    C[::20] *= 3
    fitted = fit_cost(N, D, C)
    assert (fitted.p, fitted.q) == pytest.approx((0.87, 1.05), abs=0.01)
    # tokens in proportion to parameters: only the sum of both powers shows, and D keeps the power 1
    line = fit_cost(N, 20 * N, COST.flops(N, 20 * N))
    assert (line.p, line.q) == pytest.approx((0.92, 1.0), abs=1e-6)
    assert fit_cost(np.array([1e9]), np.array([2e10]), np.array([1.2e20])).k == pytest.approx(6.0)


def test_a_measured_cost_gives_the_true_optimum():
    rows = simulate(LAW, Plan((1e18, 1e19, 1e20, 1e21), 7), 0.001).to_records()
    table = RunTable.from_records(rows)
    plain, fitted = fit_law(table, "loss"), fit_law(table.costing(), "loss")
    assert pytest.approx(float(LAW.optimum(1e20).N), rel=0.05) == fitted.law.optimum(1e20).N
    true, wrong = float(LAW.optimum(1e20).D), float(plain.law.optimum(1e20).D)
    assert float(fitted.law.optimum(1e20).D) == pytest.approx(true, rel=0.05)
    assert abs(wrong / true - 1) > 0.3
    assert "compute_mismatch" in {flag.name for flag in plain.flags}
    assert "compute_mismatch" not in {flag.name for flag in fitted.flags}
    # C plays no part in one model's loss: the mismatch doubts the optimum of a budget alone
    how, spec = Resampling(replicates=0), LawSpec()
    assert "NOT TO BE TRUSTED" not in predictions(table, "loss", spec, how, models=[(1e9, 2e10)]).headline
    assert "NOT TO BE TRUSTED" in predictions(table, "loss", spec, how, budgets=[1e20]).headline
    assert "NOT TO BE TRUSTED" not in predictions(table.costing(), "loss", spec, how, budgets=[1e20]).headline


def test_flops_per_token_are_compute():
    rows = [
        {"N": 1e9, "D": 2e10, "flops_per_token": 8e9, "loss": 2.5},
        {"N": 2e9, "D": 1e10, "flops_per_token": 15e9, "loss": 2.6},
    ]
    table = RunTable.from_records(rows)
    np.testing.assert_allclose(table.C, [1.6e20, 1.5e20])
    assert not table.derived
    rows = [{"N": 1e9, "C": 1.6e20, "F": 8e9, "loss": 2.5}]
    assert RunTable.from_records(rows, columns={"F": "F"}).D[0] == pytest.approx(2e10)


def test_a_computed_c_cannot_be_fitted():
    table = RunTable.from_records([{"N": 1e9, "D": 2e10, "loss": 2.5}])
    with pytest.raises(UsageError, match="C is computed as C = 6 N D"):
        table.costing()


def test_olmo_flops_follow_their_fitted_cost(shared_data):
    table = RunTable.read(shared_data / "scaling" / "olmo" / "final.csv")
    # the published description: 8.83 FLOPs per parameter and token, falling with size
    assert table.compute_check().spread > 0.2
    fitted = table.costing()
    # the larger models that were held out lie off it by 16 %, the fitted ones by .3 % in the median
    assert fitted.compute_check().typical < 0.01
    assert fitted.cost.p == pytest.approx(0.87, abs=0.03)
    assert fitted.cost.q == pytest.approx(1.0, abs=0.01)


def test_a_computed_c_is_no_measurement_of_the_cost():
    rng = np.random.default_rng(1)
    N, D = np.exp(rng.uniform(16, 23, 52)), np.exp(rng.uniform(20, 26, 52))
    C = COST.flops(N, D)
    rows = [
        {"N": n, "D": d, "C": c if row < 13 else "", "loss": 3.0}
        for row, (n, d, c) in enumerate(zip(N, D, C, strict=True))
    ]
    table = RunTable.from_records(rows)
    # checked over the 13 rows that state C, although 39 rows follow 6 N D exactly
    assert table.compute_check().measured == pytest.approx(float(np.median(C[:13] / N[:13] / D[:13])))
    assert table.compute_check().typical > 0.1
    assert "over the 13 rows that state C" in table.compute_check().sentence
    fitted = table.costing()
    assert (fitted.cost.p, fitted.cost.q) == pytest.approx((COST.p, COST.q), abs=1e-6)
    np.testing.assert_allclose(fitted.C, C, rtol=1e-6)
    assert fitted.conventions["C"].startswith(f"computed as {fitted.cost} in 39 of 52 rows")
    # what a fit's JSON holds distinguishes them as well
    again = RunTable.from_records(fitted.to_records()).costing(fitted.cost)
    assert again.computed.sum() == 39
    np.testing.assert_allclose(again.C, fitted.C)
    alone = table.select(table.computed)
    assert "C is computed" in alone.compute_check().sentence
    with pytest.raises(UsageError, match="no train row states C"):
        alone.costing()
    per_token = [{"N": 1e9, "D": 2e10, "C": None}, {"N": 1e9, "D": 2e10, "C": 1.5e20}]
    per_token = [{**row, "flops_per_token": 8e9} for row in per_token]
    np.testing.assert_allclose(RunTable.from_records(per_token).C, [1.6e20, 1.5e20])
