"""Which curve an isoFLOP is fitted by: each finds the minimum of a known law, and published optima their exponents."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from cdslm_eval.core.errors import UnknownNameError, UsageError
from cdslm_eval.scaling import Law, Plan, fit_isoflops, simulate
from cdslm_eval.scaling.isoshapes import fit_akima, fit_shape
from cdslm_eval.scaling.table import RunTable

LAW = Law.of("chinchilla", E=1.8, A=480.0, B=2100.0, alpha=0.25, beta=0.5)
WIDE = Plan((1e18, 1e19, 1e20, 1e21), 15, 400.0)


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [({"curve": "law"}, 1e-3), ({"curve": "akima"}, 0.03), ({"window": 0.05, "degree": 2}, 0.1), ({"degree": 2}, 2.0)],
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


@pytest.mark.parametrize("curve", ["law", "akima"])
def test_intervals_of_the_optimum_hold_the_truth(curve):
    held = total = 0
    for seed in range(8):
        isoflops = fit_isoflops(simulate(LAW, Plan((1e18, 1e19, 1e20), 9), 0.003, seed), "loss", curve=curve)
        for budget in isoflops.optima:
            low, high = budget.N_interval
            held += low <= float(LAW.optimum(budget.C).N) <= high
            total += 1
    assert held >= 0.8 * total


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
        options = ("--x", "flops", "--y", "n_star_published", "--log-std", "n_star_logstd", "--where", f"decay={decay}")
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
