"""Inference-aware optimum: the published examples, and a grid over known laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling import Law, LawSpec, Plan, bootstrap, fit_law, simulate
from cdslm_eval.scaling.cost import Cost
from cdslm_eval.scaling.fit import LawFit
from cdslm_eval.scaling.frontier import Resampling, predictions
from cdslm_eval.scaling.serving import serve

# Sardana et al., arXiv 2401.00448, use the constants of Hoffmann et al.
PUBLISHED = Law.of("chinchilla", E=1.69, A=406.4, B=410.7, alpha=0.336, beta=0.283)


def fit_of(law: Law) -> LawFit:
    """Return a fit to exact values of a law, which is that law."""
    return fit_law(simulate(law, Plan((1e18, 1e19, 1e20, 1e21), 7), 0.0), "loss", LawSpec(estimator="least_squares"))


def budget_of(law: Law, N: float) -> float:
    return math.exp(brentq(lambda c: float(law.curve.log_n_optimum(math.exp(c))) - math.log(N), 30, 75))


@pytest.fixture(scope="module")
def published():
    return fit_of(PUBLISHED)


def test_the_published_examples(published):
    # a 30B model's quality with 1e13 tokens of inference: 13.6B on 2.84 times the tokens, 28 % less compute
    C = budget_of(PUBLISHED, 30e9)
    served = serve(published, None, C, 1e13, 0.95)
    assert pytest.approx(13.6e9, rel=5e-3) == served.N
    assert served.D / float(PUBLISHED.optimum(C).D) == pytest.approx(2.84, abs=0.02)
    assert served.saved == pytest.approx(0.28, abs=0.005)
    # a 13B model's with 2e12: 7B saves 1.7e22 FLOPs, 17 %
    C = budget_of(PUBLISHED, 13e9)
    served = serve(published, None, C, 2e12, 0.95)
    assert pytest.approx(7e9, rel=0.02) == served.N
    assert C + 2 * 13e9 * 2e12 - served.total == pytest.approx(1.7e22, rel=0.02)
    assert served.saved == pytest.approx(0.17, abs=0.006)


@pytest.mark.parametrize("cost", [Cost(), Cost(40.0, 0.87, 1.05)])
def test_no_model_of_a_grid_costs_less(published, cost):
    import dataclasses

    law = dataclasses.replace(published.law, cost=cost)
    fit = dataclasses.replace(published, law=law)
    C, tokens = 1e23, 5e12
    served = serve(fit, None, C, tokens, 0.95)
    p, best = law.parameters, float(law.optimum(C).loss)
    N = np.geomspace(1e8, 1e11, 100_001)
    left = best - p["E"] - p["A"] * N ** -p["alpha"]
    with np.errstate(invalid="ignore", divide="ignore"):
        D = np.where(left > 0, (left / p["B"]) ** (-1 / p["beta"]), np.inf)
        total = cost.flops(N, D) + 2 * N * tokens
    assert served.total == pytest.approx(float(total.min()), rel=1e-6)
    assert pytest.approx(float(N[np.argmin(total)]), rel=1e-2) == served.N
    assert float(law.predict(served.N, served.D)) == pytest.approx(best, rel=1e-9)


def test_nothing_served_is_the_optimum_of_training(published):
    served = serve(published, None, 1e22, 0.0, 0.95)
    best = published.law.optimum(1e22)
    assert pytest.approx(float(best.N), rel=1e-3) == served.N
    assert served.saved == pytest.approx(0.0, abs=1e-6)


def test_intervals_hold_the_truth_and_the_law_needs_an_optimum():
    truth = Law.of("chinchilla", E=1.8, A=480.0, B=2100.0, alpha=0.35, beta=0.37)
    exact = serve(fit_of(truth), None, 1e22, 1e12, 0.95)
    table = simulate(truth, Plan((1e18, 1e19, 1e20, 1e21), 7), 0.003, seed=3)
    fit = fit_law(table, "loss")
    served = serve(fit, bootstrap(fit, replicates=150), 1e22, 1e12, 0.95)
    for name in ("N", "D", "saved"):
        low, high = served.intervals[name]
        assert low < getattr(exact, name) < high
    with pytest.raises(UsageError, match="no best N"):
        serve(fit_law(table, "loss", LawSpec(form="power")), None, 1e22, 1e12, 0.95)
    done = predictions(table, "loss", LawSpec(), Resampling(replicates=0), budgets=[1e21, 1e22], serving=1e12)
    assert [model.C for model in done.served] == [1e21, 1e22]
    assert pytest.approx(served.N) == done.served[1].N
