"""Closed forms against a numeric minimiser; noise-free laws are found again; predictions cover."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling import Law, LawSpec, Plan, bootstrap, fit_law, predict, simulate
from cdslm_eval.scaling.axis import Axis, Identity, Logit
from cdslm_eval.scaling.output.text import exponent_lines
from cdslm_eval.scaling.study import Settings

EXPONENTS = st.floats(0.1, 1.2)
LAWS = st.builds(
    lambda a, b, g, amplitude, ratio, e: Law.of(
        "gamma", E=e, A=amplitude * 1e9**a, B=ratio * amplitude * 2e10**b, alpha=a, beta=b, gamma=g
    ),
    EXPONENTS,
    EXPONENTS,
    st.floats(0.5, 1.8),
    st.floats(0.1, 3.0),
    st.floats(0.2, 5.0),
    st.floats(0.0, 3.0),
)


@settings(max_examples=60, deadline=None)
@given(law=LAWS, log_c=st.floats(np.log(1e17), np.log(1e24)), epsilon=st.floats(1e-4, 0.5))
def test_closed_forms_against_a_numeric_minimiser(law, log_c, epsilon):
    C = float(np.exp(log_c))

    def value(log_n):
        return float(law.predict(np.exp(log_n), C / (law.k * np.exp(log_n))))

    fitted = law.optimum(C)
    here = float(np.log(fitted.N))
    best = minimize_scalar(value, bounds=(here - 3, here + 3), method="bounded", options={"xatol": 1e-10})
    assert fitted.loss <= best.fun * (1 + 1e-12)
    excess = float(fitted.loss) - law.parameters["E"]
    h = 1e-3
    # a minimum in the closed form: the slope vanishes, and the curvature is kappa
    slope = (value(here + h) - value(here - h)) / (2 * h)
    bend = (value(here + h) - 2 * value(here) + value(here - h)) / h**2
    assert abs(slope) < 1e-6 * excess
    assert bend == pytest.approx(float(fitted.kappa), rel=1e-4, abs=1e-8)
    assert float(fitted.ratio) == pytest.approx(float(fitted.D / fitted.N), rel=1e-12)
    assert float(fitted.N * fitted.D) * law.k == pytest.approx(C, rel=1e-9)
    near = law.near_optimal(C, epsilon)
    for edge in (near.N_low, near.N_high):
        assert float(law.predict(edge, C / (law.k * edge))) == pytest.approx(float(fitted.loss) + epsilon, rel=1e-9)
    low = brentq(lambda x: value(x) - float(fitted.loss) - epsilon, here - 60, here)
    assert float(np.log(near.N_low)) == pytest.approx(low, abs=1e-6)
    relative = law.near_optimal(C, 0.01, relative=True)
    assert float(relative.epsilon) == pytest.approx(0.01 * float(fitted.loss))


@settings(max_examples=40, deadline=None)
@given(law=LAWS, share=st.floats(0.05, 0.95))
def test_reach_is_where_the_frontier_meets_the_value(law, share):
    start = float(law.optimum(1e18).loss)
    wanted = law.parameters["E"] + share * (start - law.parameters["E"])
    C = law.reach(wanted)
    assert float(law.optimum(C).loss) == pytest.approx(wanted, rel=1e-8)
    assert law.reach(law.parameters["E"]) == np.inf


def test_the_ratio_falls_exactly_where_alpha_is_below_beta():
    C = np.array([1e19, 1e22])
    for alpha, beta in ((0.3, 0.4), (0.4, 0.3)):
        law = Law.of("chinchilla", E=1.7, A=400.0, B=900.0, alpha=alpha, beta=beta)
        falls = np.diff(law.optimum(C).ratio)[0] < 0
        assert falls == (alpha < beta)


TRUTHS = {
    "chinchilla": {"E": 1.7, "A": 406.0, "B": 2100.0, "alpha": 0.34, "beta": 0.37},
    "gamma": {"E": 1.6, "A": 2000.0, "B": 9000.0, "alpha": 0.42, "beta": 0.46, "gamma": 0.75},
    "shared": {"E": 1.8, "A": 560.0, "B": 1750.0, "alpha": 0.357},
    "power": {"E": 1.7, "A": 1600.0, "alpha": 0.165},
}


@pytest.mark.parametrize("form", TRUTHS)
@pytest.mark.parametrize("estimator", ["huber", "lad", "least_squares"])
def test_noise_free_laws_are_found_again(form, estimator):
    truth = Law.of(form, **TRUTHS[form])
    table = simulate(truth, Plan(tuple(np.geomspace(1e18, 1e22, 7)), sizes=7, width=30), 0.0)
    fitted = fit_law(table, "loss", LawSpec(form=form, estimator=estimator)).parameters
    for name, value in TRUTHS[form].items():
        assert fitted[name] == pytest.approx(value, rel=1e-6)


def test_a_metric_that_rises_is_a_law_of_its_distance_from_the_bound():
    axis = Axis(Logit(4.0), -1.0, 5.0, (1.0, 5.0))
    truth = Law.of("chinchilla", axis=axis, E=4.4, A=90.0, B=700.0, alpha=0.3, beta=0.35)
    table = simulate(truth, Plan((1e18, 1e19, 1e20, 1e21), sizes=7), 0.0, metric="mos")
    fit = fit_law(table, "mos", LawSpec(link="logit", bounds=(1, 5), better="higher"))
    assert fit.parameters["E"] == pytest.approx(4.4, abs=1e-5)
    assert float(predict(fit, 1e12, 1e14).value) < 4.4
    assert fit.law.reach(4.3) < np.inf
    assert fit.law.reach(4.5) == np.inf


def test_the_identity_link_takes_a_floor_of_any_sign():
    axis = Axis(Identity(1.0))
    truth = Law.of("chinchilla", axis=axis, E=-0.5, A=400.0, B=2100.0, alpha=0.34, beta=0.37)
    table = simulate(truth, Plan((1e18, 1e19, 1e20, 1e21), sizes=7), 0.0)
    assert fit_law(table, "loss", LawSpec(link="identity")).parameters["E"] == pytest.approx(-0.5, abs=1e-5)


def test_prediction_intervals_cover_new_runs():
    truth = Law.of("chinchilla", **TRUTHS["chinchilla"])
    plan = Plan(tuple(np.geomspace(1e18, 1e21, 6)), sizes=9)
    fit = fit_law(simulate(truth, plan, 0.01, seed=1), "loss", LawSpec(estimator="least_squares"))
    fresh = simulate(truth, Plan(plan.budgets, 9, repeats=20), 0.01, seed=2)
    low, high = predict(fit, fresh.N, fresh.D).prediction
    actual = fresh.metric("loss")
    assert 0.92 < np.mean((low <= actual) & (actual <= high)) < 0.98


def test_a_power_law_in_compute_knows_no_best_model():
    with pytest.raises(UsageError, match="has no best N"):
        Law.of("power", **TRUTHS["power"]).optimum(1e20)


def test_the_frontier_of_a_replicate_is_known_where_its_optimum_leaves_the_range_of_numbers():
    law = Law.of("chinchilla", E=1.8, A=1e-150, B=1e150, alpha=0.1, beta=0.1)
    log_n = float(law.curve.log_n_optimum(1e20))
    assert log_n < -1000
    # at the optimum both terms are equal here, and each is the root of A B (C / 6)^-0.1
    expected = 1.8 + 2 * np.sqrt(1e-150 * 1e150 * (1e20 / 6) ** -0.1)
    assert float(law.curve.frontier(1e20)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("form", "fixed"), [("chinchilla", False), ("gamma", False), ("shared", True)])
def test_only_a_form_of_one_exponent_decides_how_optima_grow(form, fixed):
    # without noise, intervals of every form are narrower than any rounding
    truth = Law.of("shared", E=1.8, A=400.0, B=3000.0, alpha=0.35)
    fit = fit_law(simulate(truth, Plan((1e18, 1e19, 1e20), 5), 0.0), "loss", LawSpec(form=form))
    draws = bootstrap(fit, replicates=10)
    lines = exponent_lines(SimpleNamespace(fit=fit, bootstrap=draws, settings=Settings()))
    assert ["whatever the data" in line for line in lines] == [fixed] * 3
