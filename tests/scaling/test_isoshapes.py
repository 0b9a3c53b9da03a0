"""Which curve an isoFLOP is fitted by: each finds the minimum of a known law, and published optima their exponents."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from cdslm_eval.core.errors import UnknownNameError, UsageError
from cdslm_eval.scaling import Law, Plan, fit_isoflops, simulate
from cdslm_eval.scaling.isoshapes import fit_akima, fit_shape
from cdslm_eval.scaling.isoskew import BudgetRows, fit_skewed
from cdslm_eval.scaling.table import RunTable

LAW = Law.of("chinchilla", E=1.8, A=480.0, B=2100.0, alpha=0.25, beta=0.5)
WIDE = Plan((1e18, 1e19, 1e20, 1e21), 15, 400.0)


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"curve": "skewed"}, 1e-3),
        ({"curve": "law"}, 1e-3),
        ({"curve": "akima"}, 0.03),
        ({"window": 0.05, "degree": 2}, 0.1),
        ({"degree": 2}, 2.0),
    ],
)
def test_every_curve_finds_the_minimum_of_the_law(options, tolerance):
    isoflops = fit_isoflops(simulate(LAW, WIDE, 0.0), "loss", **options)
    errors = [abs(np.log(budget.N / float(LAW.optimum(budget.C).N))) for budget in isoflops.optima]
    assert len(errors) == 4
    assert max(errors) < tolerance
    # over so wide a range a parabola is wrong: what the other curves are for
    assert ("window" in options or "curve" in options) == (max(errors) < 0.2)


def test_the_law_shape_knows_curvature_and_width():
    table = simulate(LAW, WIDE, 0.0)
    for budget in fit_isoflops(table, "loss", curve="law").optima:
        assert budget.kappa == pytest.approx(float(LAW.kappa(budget.C)), rel=1e-3)
        near = LAW.near_optimal(budget.C, 0.01, relative=True)
        ends = np.exp(budget.chosen.width(0.01 * budget.loss))
        np.testing.assert_allclose(ends, [float(near.N_low), float(near.N_high)], rtol=1e-3)
        assert budget.chosen.name == "law"


@pytest.mark.parametrize("curve", ["skewed", "law", "akima"])
def test_intervals_of_the_optimum_hold_the_truth(curve):
    held = total = 0
    for seed in range(8):
        isoflops = fit_isoflops(simulate(LAW, Plan((1e18, 1e19, 1e20), 9), 0.003, seed), "loss", curve=curve)
        for budget in isoflops.optima:
            low, high = budget.N_interval
            held += low <= float(LAW.optimum(budget.C).N) <= high
            total += 1
    assert held >= 0.8 * total


def test_the_shared_skew_is_within_its_interval_where_a_parabola_misses():
    # five sizes a budget: no budget by itself could tell the skew
    plan = Plan(tuple(np.geomspace(1e18, 1e21, 8)), 5, 16.0)
    held = {"skewed": 0, "polynomial": 0}
    for seed in range(6):
        table = simulate(LAW, plan, 0.003, seed)
        for curve in held:
            for budget in fit_isoflops(table, "loss", curve=curve, replicates=500).optima:
                low, high = budget.N_interval
                held[curve] += low <= float(LAW.optimum(budget.C).N) <= high
    # of 48 at .95 fewer than 42 have a chance of .02, were they independent
    assert held["skewed"] >= 40
    assert held["polynomial"] < 36


def test_noise_is_relative_where_a_law_would_take_it_so():
    # the loss halves over these budgets, and so does the noise in its units
    table = simulate(LAW, Plan((1e17, 1e22), 5, 16.0), 0.003, 1)
    widths = {}
    for link in ("", "identity"):
        first, last = fit_isoflops(table, "loss", link=link, curve="law", replicates=500).optima
        widths[link] = np.ptp(first.loss_interval) / np.ptp(last.loss_interval)
    assert widths[""] > 1.2 * widths["identity"]


def test_exact_rows_and_too_few_of_them():
    exact = fit_isoflops(simulate(LAW, Plan((1e18, 1e19), 5, 16.0), 0.0), "loss")
    for budget in exact.optima:
        assert np.log(budget.N / float(LAW.optimum(budget.C).N)) == pytest.approx(0, abs=1e-3)
    # three sizes leave no noise to see: an optimum without an interval
    bare = fit_isoflops(simulate(LAW, Plan((1e18, 1e19), 3, 16.0), 0.003), "loss")
    assert all(budget.chosen.name == "skewed" and np.isnan(budget.N_interval[0]) for budget in bare.optima)
    assert fit_skewed([BudgetRows(np.zeros(2), np.ones(2), np.ones(2), 1.0)]) == [None]


def test_an_interpolation_has_no_curvature_and_no_optimum_at_an_end():
    curve = fit_akima(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]), np.ones(3))
    assert not curve.inside
    assert np.isnan(curve.kappa)
    assert fit_akima(np.array([1.0, 2.0]), np.array([1.0, 2.0]), np.ones(2)) is None
    assert fit_shape(np.array([1.0, 2.0]), np.array([1.0, 2.0]), np.ones(2), 0.3, 0.3) is None
    # a concave budget has no minimum
    assert np.isnan(fit_shape(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 0.0]), np.ones(3), 0.3, 0.3).minimum)


def test_a_window_lists_what_it_leaves_out():
    isoflops = fit_isoflops(simulate(LAW, WIDE, 0.001), "loss", window=0.05)
    assert {row.reason for row in isoflops.excluded} == {"over 0.05 above the least of its budget"}
    assert len(isoflops.excluded) + len(isoflops.table) == WIDE.runs


def test_wrong_options_are_refused():
    table = simulate(LAW, WIDE, 0.001)
    with pytest.raises(UnknownNameError, match="akima"):
        fit_isoflops(table, "loss", curve="akimo")
    with pytest.raises(UsageError, match="belongs to a polynomial"):
        fit_isoflops(table, "loss", curve="akima", degree=2)
    with pytest.raises(UsageError, match="window"):
        fit_isoflops(table, "loss", window=0.0)


@pytest.fixture
def cli(monkeypatch, capsys):
    from cdslm_eval.cli import main

    def call(*arguments, code=0):
        monkeypatch.setattr("sys.argv", ["cdslm-eval", "fit", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        assert (left.value.code or 0) == code
        return capsys.readouterr()

    return call


def test_published_optima_give_the_published_exponents(cli, shared_data):
    path = shared_data / "scaling" / "porian" / "isoflop_points.csv"
    for decay, published in (("chinchilla", 0.571495), ("const", 0.496895)):
        # budgets are found by the usual name of C, flops
        options = ("--y", "n_star_published", "--log-std", "n_star_logstd", "--where", f"decay={decay}")
        law = json.loads(cli("power-law", path, *options, "--json", "-").out)
        assert law["exponent"] == pytest.approx(published, abs=1e-5)
        assert law["n"] == 12
        # the optima themselves, by the published method on these rows
        isoflops = fit_isoflops(RunTable.read(path).only(f"decay={decay}"), "loss", curve="akima")
        assert isoflops.N_law.exponent == pytest.approx(published, abs=0.015)


def test_a_broken_table_of_optima_is_named(cli, tmp_path):
    path = tmp_path / "optima.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["C", "n"], ["1e18", "1e8"], ["1e19", "many"]])
    assert "line 3" in cli("power-law", path, "--y", "n", code=2).err
    assert "no column 'm'" in cli("power-law", path, "--y", "m", code=2).err
