"""The fits of the published Chinchilla rows: their optimum, their intervals, and what does not matter to them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize

from cdslm_eval.scaling import fit_law
from cdslm_eval.table import RunTable

HUBER = {"A": 477.826, "B": 2143.42, "E": 1.817218, "alpha": 0.347310, "beta": 0.367172}
LAD = {"A": 482.006, "B": 2085.43, "E": 1.81686, "alpha": 0.34781, "beta": 0.36585}


@pytest.fixture(scope="module")
def table(request):
    folder = request.getfixturevalue("shared_data") / "scaling" / "chinchilla_epoch"
    columns = {"N": "Model Size", "C": "Training FLOP"}
    found = RunTable.read(folder / "svg_extracted_data.csv", columns=columns).excluding("highest:loss:5")
    assert len(found) == 240
    return found


@pytest.fixture(scope="module")
def huber(table):
    return fit_law(table, "loss", estimator="huber", delta=1e-3, link="log")


@pytest.fixture(scope="module")
def bootstrap(huber):
    return huber.bootstrap(by="row", replicates=1000, seed=0)


def test_huber_reaches_the_published_optimum(huber):
    for name, value in HUBER.items():
        tolerance = {"rel": 1e-3} if name in "AB" else {"abs": 1e-5}
        assert huber.parameters[name] == pytest.approx(value, **tolerance), name
    assert huber.objective <= 0.00101827402
    assert huber.trusted
    assert "Huber" in huber.estimator


def test_no_other_method_finds_less_near_it(huber, table):
    """A quasi-Newton method of another library, started at the optimum and beside it, gains nothing."""
    n, d, loss = np.log(table.N), np.log(table.D), np.log(table.metric("loss"))

    def objective(x):
        a, b, e, alpha, beta = x
        said = np.logaddexp(np.logaddexp(a - alpha * n, b - beta * d), e)
        size = np.abs(said - loss)
        return np.where(size <= 1e-3, 0.5 * size**2, 1e-3 * (size - 0.5e-3)).sum()

    p = huber.parameters
    start = np.array([np.log(p["A"]), np.log(p["B"]), np.log(p["E"]), p["alpha"], p["beta"]])
    assert objective(start) == pytest.approx(huber.objective, rel=1e-9)
    for scale in (0.0, 0.01, 0.05):
        near = start * (1 + scale * np.array([1, -1, 1, -1, 1]))
        found = minimize(objective, near, method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-15})
        assert found.fun >= huber.objective - 1e-12


def test_the_optimum_is_the_same_from_any_start_with_duplicated_rows_and_a_scaled_objective(huber, table):
    rng = np.random.default_rng(3)
    starts = [
        {"E": rng.uniform(0.5, 2.0), "A": rng.uniform(10, 1e4), "B": rng.uniform(10, 1e4), "alpha": a, "beta": b}
        for a, b in rng.uniform(0.05, 1.5, (6, 2))
    ]
    twice = RunTable.from_records([*table.to_records(), *table.to_records()])
    scaled = dataclasses.replace(table, weight=np.full(len(table), 1 / 240))
    for other in (
        *(fit_law(table, "loss", seeds=1, starts=[start]) for start in starts),
        fit_law(twice, "loss"),
        fit_law(scaled, "loss"),
    ):
        for name, value in huber.parameters.items():
            assert other.parameters[name] == pytest.approx(value, rel=2e-6), name


def test_least_absolute_deviations_is_another_estimator_and_says_so(table, huber):
    lad = fit_law(table, "loss", estimator="lad")
    for name, value in LAD.items():
        assert lad.parameters[name] == pytest.approx(value, abs=5e-6 if name not in "AB" else 0.01), name
    assert "absolute" in lad.estimator
    assert lad.estimator != huber.estimator


def test_bootstrap_standard_errors_are_the_published_ones(bootstrap):
    for name, published in {"E": 0.0259, "alpha": 0.0146, "beta": 0.0203}.items():
        assert bootstrap.standard_error(name) == pytest.approx(published, rel=0.15), name


def test_the_sign_of_the_ratio_is_not_established(bootstrap):
    low, high = bootstrap.interval("ratio_exponent")
    assert low < 0 < high
    assert (low, high) == pytest.approx((-0.112, 0.039), abs=0.02)


def test_closed_forms_agree_with_a_numeric_minimiser(huber):
    """N*, L*, kappa and the near-optimal width against scipy on the curve itself."""
    budget = 3e20
    optimum = huber.optimum(np.array([budget]))

    def loss(log_n):
        return float(huber.law.predict(np.exp(log_n), budget / 6 / np.exp(log_n)))

    from scipy.optimize import brentq, minimize_scalar

    found = minimize_scalar(loss, bounds=(np.log(1e7), np.log(1e12)), method="bounded", options={"xatol": 1e-10})
    assert optimum.loss[0] == pytest.approx(found.fun, rel=1e-9)
    assert np.log(optimum.N[0]) == pytest.approx(found.x, abs=1e-4)  # a minimiser by values sees no finer in x
    step = 1e-3
    x = np.log(optimum.N[0])
    slope = (loss(x + step) - loss(x - step)) / (2 * step)
    curvature = (loss(x + step) - 2 * loss(x) + loss(x - step)) / step**2
    assert abs(slope) < 1e-6
    assert optimum.kappa[0] == pytest.approx(curvature, rel=1e-5)
    near = huber.near_optimal(np.array([budget]), 0.01, relative=True)
    top = 1.01 * loss(x)
    low = brentq(lambda log_n: loss(log_n) - top, x - 5, x, xtol=1e-13)
    high = brentq(lambda log_n: loss(log_n) - top, x, x + 5, xtol=1e-13)
    assert np.log(near.N_low[0]) == pytest.approx(low, abs=1e-6)
    assert np.log(near.N_high[0]) == pytest.approx(high, abs=1e-6)
    assert optimum.D[0] == pytest.approx(budget / 6 / optimum.N[0], rel=1e-12)


def test_held_out_budgets_are_predicted_better_than_by_their_mean(huber):
    held = huber.holdout(0.2)
    spread = float(np.std(held.actual))
    assert held.rmse < 0.5 * spread
    assert held.extrapolation_ratio > 1
