"""Goodness of fit: laws that are true pass, laws that are wrong are named, and verdicts rest on those that fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cdslm_eval.scaling import Law, LawSpec, Plan, fit_law, judge, simulate
from cdslm_eval.scaling.adequacy import declared_noise, runs_test
from cdslm_eval.scaling.fit import robust_fit

LAW = Law.of("chinchilla", E=1.8, A=400.0, B=3000.0, alpha=0.32, beta=0.40)
PLAN = Plan(tuple(np.geomspace(1e18, 1e21, 8)), sizes=5, width=16)
TABLE = simulate(LAW, PLAN, 0.0)
# how a mean opinion score may come near its limit of 3.6: with compute at two speeds, and with size and data apart
SATURATING = {
    "slow": 3.6 - 0.8 * (TABLE.C / 1e18) ** -0.5,
    "fast": 3.6 - 0.8 / (TABLE.C / 1e18),
    "exponential": 3.6 - 0.8 * np.exp(-2 * np.log10(TABLE.C / 1e18)),
    "size and data": 3.6 - 0.4 * (TABLE.N / TABLE.N.min()) ** -1.2 - 0.4 * (TABLE.D / TABLE.D.min()) ** -1.2,
}
RISING = LawSpec(link="identity", better="higher")


def noisy(values, noise, seed):
    drawn = values + noise * np.random.default_rng(seed).standard_normal(len(values))
    return replace(TABLE, metrics={"mos": drawn})


def names(fit):
    return {flag.name for flag in fit.flags}


def test_a_true_law_is_trusted():
    flagged = [seed for seed in range(40) if not fit_law(simulate(LAW, PLAN, 0.003, seed), "loss").trusted]
    # a chance of 0.001 each
    assert len(flagged) <= 1


def test_a_law_of_another_form_is_not_trusted():
    for seed in range(3):
        fit = robust_fit(noisy(SATURATING["slow"], 0.02, seed), "mos", RISING)
        assert "misfit_trend" in names(fit)
        assert not fit.trusted
        assert fit_law(noisy(SATURATING["slow"], 0.02, seed), "mos", replace(RISING, form="power")).trusted


def test_repeats_show_a_misfit_that_no_trend_does():
    table = simulate(LAW, replace(PLAN, repeats=3), 0.001, seed=1)
    bump = 0.02 * np.repeat(np.random.default_rng(3).standard_normal(len(table) // 3), 3)
    wrong = replace(table, metrics={"loss": table.metric("loss") * (1 + bump)})
    assert "misfit_repeats" in names(fit_law(wrong, "loss"))
    assert "misfit_repeats" not in names(fit_law(table, "loss"))


def test_chi_square_of_noise_is_its_degrees_of_freedom():
    r = 0.3 * np.random.default_rng(0).standard_normal(4000)
    statistic, free, p = declared_noise(r, np.ones(4000), 0.3, 5)
    assert free == 3995
    assert statistic / free == pytest.approx(1, abs=0.06)
    assert p > 0.01
    assert declared_noise(r, np.ones(4000), 0.2, 5)[2] < 1e-9


def test_few_runs_of_one_sign_are_no_chance():
    assert runs_test(np.repeat([1.0, -1.0, 1.0], 10)) < 1e-4
    assert runs_test(np.random.default_rng(0).standard_normal(60)) > 0.01


@pytest.mark.parametrize("shape", SATURATING)
def test_saturation_is_recognized_and_its_limit_is_not_called_reachable(shape):
    verdicts = [
        judge(noisy(SATURATING[shape], 0.02, seed), "mos", RISING, noise=0.02, baseline=3.6, replicates=200)
        for seed in range(5)
    ]
    assert sum(verdict.label == "saturates" for verdict in verdicts) >= 3
    assert sum(verdict.reach.label == "reachable" for verdict in verdicts) <= 1


def test_forms_that_miss_the_noise_are_named_and_not_used():
    verdict = judge(noisy(SATURATING["slow"], 0.02, 1), "mos", RISING, noise=0.02, replicates=200)
    forms = {opinion.form: opinion for opinion in verdict.forms}
    assert verdict.fit.form == "power"
    assert forms["power"].chi2 < 2
    assert forms["chinchilla"].chi2 > 5
    assert not forms["chinchilla"].adequate
    assert any("chinchilla is not used" in sentence for sentence in verdict.evidence)


def test_a_wrong_factor_of_compute_doubts_budgets_alone():
    off = replace(simulate(LAW, PLAN, 0.003, 0), derived="")
    off = replace(off, C=off.C * 2.5)
    fit = fit_law(off, "loss")
    assert fit.trusted
    assert any(flag.name == "compute_mismatch" and flag.doubt and flag.scope == "budget" for flag in fit.flags)
