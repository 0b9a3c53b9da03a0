"""Fits of published runs against published numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cdslm_eval.scaling import LawSpec, bootstrap, fit_law, fit_power_law, predict, profile, refit, residuals
from cdslm_eval.scaling.table import RunTable

# Besiroglu et al., arXiv 2404.10102: the exact optimum of their objective, and their table
HUBER = {"E": 1.8172181, "alpha": 0.34731050, "beta": 0.36717243}
HUBER_COEFFICIENTS = {"A": 477.825868, "B": 2143.417363}
LAD = {"A": 482.00572, "B": 2085.43420, "E": 1.81686, "alpha": 0.34781, "beta": 0.36585}
STANDARD_ERRORS = {"E": 0.0259, "alpha": 0.0146, "beta": 0.0203}


@pytest.fixture(scope="module")
def chinchilla(shared_data):
    path = shared_data / "scaling/chinchilla_epoch/svg_extracted_data.csv"
    return RunTable.read(path).excluding("highest:loss:5")


@pytest.fixture(scope="module")
def huber(chinchilla):
    return fit_law(chinchilla, "loss")


def assert_published(fit):
    for name, value in HUBER.items():
        assert fit.parameters[name] == pytest.approx(value, abs=1e-6)
    for name, value in HUBER_COEFFICIENTS.items():
        assert fit.parameters[name] == pytest.approx(value, rel=1e-5)


def test_the_huber_fit_is_the_published_optimum(chinchilla, huber):
    assert len(chinchilla) == 240
    assert len(chinchilla.excluded) == 5
    assert_published(huber)
    assert huber.objective <= 0.00101827402
    assert huber.trusted
    assert "Huber (delta 0.001)" in huber.headline


def test_any_start_finds_the_same_optimum(chinchilla):
    rng = np.random.default_rng(3)
    starts = [
        {
            "E": rng.uniform(0.1, 2.4),
            "A": np.exp(rng.uniform(0, 12)),
            "B": np.exp(rng.uniform(0, 14)),
            "alpha": rng.uniform(0.05, 1.2),
            "beta": rng.uniform(0.05, 1.2),
        }
        for _ in range(40)
    ]
    for start in starts:
        assert_published(fit_law(chinchilla, "loss", starts=[start]))


@pytest.mark.parametrize("change", ["duplicated", "scaled"])
def test_duplicates_and_scale_change_no_optimum(chinchilla, change):
    tables = {
        "duplicated": lambda: chinchilla.select(np.tile(np.arange(240), 2)),
        "scaled": lambda: replace(chinchilla, weight=np.full(240, 1 / 240)),
    }
    assert_published(fit_law(tables[change](), "loss"))


def test_least_absolute_deviations_are_told_apart_and_exact(chinchilla):
    fit = fit_law(chinchilla, "loss", LawSpec(estimator="lad"))
    for name, value in LAD.items():
        assert fit.parameters[name] == pytest.approx(value, rel=2e-5)
    # at a vertex as many residuals are 0 as there are parameters
    assert np.sum(np.abs(residuals(fit)) < 1e-12) == 5
    assert "least absolute deviations" in fit.headline


def test_bootstrap_standard_errors_and_the_sign_of_the_ratio(huber):
    draws = bootstrap(huber, replicates=1000, seed=0)
    assert draws.converged.all()
    for name, value in STANDARD_ERRORS.items():
        assert draws.standard_error(name) == pytest.approx(value, rel=0.15)
    low, high = draws.ratio_exponent()
    assert low < 0 < high


def test_each_replicate_is_the_optimum_of_its_sample(huber):
    draws = bootstrap(huber, replicates=20, seed=5)
    weights = np.random.default_rng(5).standard_exponential((20, 240))
    for i in (0, 7, 19):
        alone = fit_law(replace(huber.table, weight=weights[i] / weights[i].mean()), "loss")
        assert draws.parameters["alpha"][i] == pytest.approx(alone.parameters["alpha"], abs=1e-6)


@pytest.mark.parametrize(("hparams", "exponent"), [("base", 0.571495), ("tuned", 0.496895)])
def test_exponents_of_published_optima(shared_data, hparams, exponent):
    table = RunTable.read(shared_data / "scaling/porian/isoflop_points.csv").only(f"hparams={hparams}")
    _, first = np.unique(table.C, return_index=True)
    law = fit_power_law(table.C[first], table.metric("n_star_published")[first], table.metric("n_star_logstd")[first])
    assert law.exponent == pytest.approx(exponent, abs=1e-6)
    assert law.interval[0] < exponent < law.interval[1]


def test_profile_and_sandwich_agree_with_the_bootstrap(huber):
    draws = bootstrap(huber, replicates=400, seed=1)
    for name in ("E", "alpha", "beta"):
        along = profile(huber, name)
        low, high = draws.interval(name)
        assert along.interval[1] - along.interval[0] == pytest.approx(high - low, rel=0.55)
        assert along.interval[0] < huber.parameters[name] < along.interval[1]
    sandwich = predict(huber, 7e9, 1.4e12)
    percentile = predict(huber, 7e9, 1.4e12, draws=draws)
    width = percentile.confidence[1] - percentile.confidence[0]
    assert sandwich.confidence[1] - sandwich.confidence[0] == pytest.approx(width, rel=0.4)
    assert percentile.prediction[0] < percentile.confidence[0] < percentile.confidence[1] < percentile.prediction[1]


def test_rows_of_one_run_are_resampled_together(huber):
    twice = huber.table.select(np.tile(np.arange(240), 2))
    doubled = refit(huber, twice)
    assert any(flag.name == "duplicates" for flag in doubled.flags)
    by_run = bootstrap(doubled, by="run", replicates=300).standard_error("E")
    by_row = bootstrap(doubled, by="row", replicates=300).standard_error("E")
    assert by_run == pytest.approx(bootstrap(huber, replicates=300).standard_error("E"), rel=0.2)
    assert by_row < 0.85 * by_run
