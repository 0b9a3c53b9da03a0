"""Curvature of isoFLOPs against laws with known exponents: growth, widths, and whether budgets and law agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling import Law, LawSpec, Plan, bootstrap, fit_isoflops, fit_law, simulate
from cdslm_eval.scaling.curvature import curvature

LAW = Law.of("chinchilla", E=1.8, A=400.0, B=3000.0, alpha=0.32, beta=0.40)
PLAN = Plan(tuple(np.geomspace(1e18, 1e21, 8)), sizes=5, width=16)
# kappa = alpha beta (L* - E), and L* - E goes as C^-(alpha beta / (alpha + beta))
EXPONENT = -0.32 * 0.40 / 0.72
SPEC = LawSpec(estimator="least_squares")


def bent(table, replicates=200, epsilons=((0.01, True),)):
    fit = fit_law(table, "loss", SPEC)
    draws = bootstrap(fit, replicates=replicates) if replicates else None
    return curvature(fit_isoflops(table, "loss", replicates=500), fit, draws, epsilons)


def test_kappa_and_widths_of_an_exact_table_go_as_the_closed_form():
    actual = bent(simulate(LAW, PLAN, 1e-6), replicates=0)
    assert actual.law.exponent == pytest.approx(EXPONENT, abs=1e-4)
    assert actual.budgets.exponent == pytest.approx(EXPONENT, abs=0.02)
    near = LAW.near_optimal(np.array([1e18, 1e21]), 0.01, relative=True)
    (law, own) = actual.widths
    assert (law.source, own.source) == ("law", "budgets")
    for name in ("N", "D"):
        low, high = getattr(near, f"{name}_low"), getattr(near, f"{name}_high")
        orders = np.log10((high - low)[1] / (high - low)[0])
        assert getattr(law, name).orders == pytest.approx(orders, abs=1e-3)
        assert getattr(own, name).orders == pytest.approx(orders, abs=0.1)
    assert law.ratio.orders == pytest.approx(np.diff(np.log10(np.exp(near.width)))[0], abs=1e-3)


def test_ends_beyond_the_sampled_sizes_are_counted():
    table = simulate(LAW, Plan((1e18, 1e19, 1e20, 1e21), 5, width=4), 1e-6)
    isoflops = fit_isoflops(table, "loss", replicates=50)
    for share in (0.001, 0.01, 0.03):
        near = LAW.near_optimal(np.array([budget.C for budget in isoflops.optima]), share, relative=True)
        sizes = [table.N[budget.rows] for budget in isoflops.optima]
        truth = sum(
            int(low < N.min()) + int(high > N.max())
            for low, high, N in zip(near.N_low, near.N_high, sizes, strict=True)
        )
        assert isoflops.ends_beyond(share, relative=True) == (truth, 8)
        (width,) = curvature(isoflops, None, None, [(share, True)]).widths
        assert (f"{truth} of 8 ends lie beyond the sampled sizes" in width.sentence(1e18, 1e21)) == (truth > 0)
    assert [isoflops.ends_beyond(share, relative=True)[0] for share in (0.001, 0.01, 0.03)] == [0, 4, 8]


def test_a_falling_curvature_is_called_so_and_true_laws_do_not_disagree():
    results = [bent(simulate(LAW, PLAN, 0.003, seed)) for seed in range(30)]
    covered = sum(r.budgets.interval[0] <= EXPONENT <= r.budgets.interval[1] for r in results)
    # of 30 at 95 %, fewer than 24 has a chance of 0.0006
    assert covered >= 24
    assert sum(r.label == "falls" for r in results) >= 24
    assert sum(bool(r.flags) for r in results) <= 3
    assert any("kappa goes as C^-0.1" in sentence for sentence in results[0].sentences)


def test_budgets_that_are_more_curved_than_the_law_are_flagged():
    table = simulate(LAW, PLAN, 0.001, seed=1)
    best = LAW.optimum(table.C).N
    # twice the curvature, which a sum of powers of N and D can only have by other exponents
    steeper = table.metric("loss") + 0.5 * LAW.kappa(table.C) * np.log(table.N / best) ** 2
    fit = fit_law(table, "loss", SPEC)
    isoflops = fit_isoflops(replace(table, metrics={"loss": steeper}), "loss", replicates=500)
    actual = curvature(isoflops, fit, None, ())
    (flag,) = actual.flags
    assert flag.name == "curvature_disagrees"
    assert actual.excess == pytest.approx(1.0, abs=0.25)
    assert len(actual.outside) >= 6


def test_growth_of_wide_ranges_is_not_that_of_the_budgets_that_happen_to_reach():
    """Within 5 % the ranges are up to 150 times wide, and the models here only 6 times."""
    near = LAW.near_optimal(np.array([1e18, 1e21]), 0.05, relative=True)
    truth = float(np.diff(near.width)[0]) / np.log(1e3)
    errors = []
    for seed in range(12):
        table = simulate(LAW, replace(PLAN, sizes=7, width=6), 0.003, seed)
        own = curvature(fit_isoflops(table, "loss", replicates=100), None, None, ((0.05, True),))
        errors.append(own.widths[0].ratio.exponent - truth)
        assert own.unknown == ()
    # without the budgets whose range is widest the mean error is -.065; the standard error of this mean is .016
    assert abs(np.mean(errors)) < 0.045
    bent = curvature(fit_isoflops(table, "loss", degree=2, replicates=100), None, None, ((0.05, True), (0.001, True)))
    (sentence,) = bent.unknown
    assert sentence.startswith("the curves of ")
    assert sentence in bent.sentences
    assert [width.within for width in bent.widths] == ["0.1 % of L*"]


def test_one_budget_shows_no_growth():
    with pytest.raises(UsageError, match="fewer than two budgets"):
        curvature(fit_isoflops(simulate(LAW, replace(PLAN, budgets=(1e19,)), 0.001), "loss"), None, None, ())
