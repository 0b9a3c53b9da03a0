"""Each law on a table of known truth, its gradient against differences, and published constants where they exist."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cdslm_eval.scaling import LawSpec, bootstrap, fit_law
from cdslm_eval.scaling.law import get_form
from cdslm_eval.scaling.table import RunTable

laws = pytest.importorskip("cdslm_eval_laws", reason="not installed: pip install ./plugins/laws")

BUDGETS = np.geomspace(1e17, 1e21, 9)
TRUTHS = {
    "broken": {"E": 0.5, "b": 60.0, "c0": 0.08, "c1": 0.15, "d1": 1e19, "f1": 0.3},
    "shifted": {"E": 1.7, "A": 406.0, "M": 5e7, "alpha": 0.36, "B": 2100.0, "beta": 0.37},
    # Muennighoff et al., arXiv 2305.16264, appendix A: the constants of their fit
    "repetition": {"E": 1.87, "A": 521.0, "alpha": 0.353, "B": 1488.0, "beta": 0.353, "R": 15.387756},
    "moe": {"E": 1.6, "A": 400.0, "alpha": 0.34, "tau": 0.3, "B": 1800.0, "beta": 0.36},
    "loss-to-loss": {"E": 1.1, "K": 0.8, "E0": 1.5, "kappa": 1.2},
}
TESTED = {
    "broken": {"c0": 0.1, "c1": 0.1, "d1": 0.6},
    "shifted": {"alpha": 0.05, "beta": 0.05, "M": 0.5},
    "repetition": {"alpha": 0.05, "beta": 0.05, "R": 0.1},
    "moe": {"alpha": 0.05, "beta": 0.05, "tau": 0.1},
    "loss-to-loss": {"E0": 0.05, "kappa": 0.1},
}


def rows(name, noise=1e-4, seed=0):
    """Return a table drawn from the law: budgets, sizes, epochs, sparsities."""
    rng, form, truth = np.random.default_rng(seed), get_form(name), TRUTHS[name]
    out = []
    for C in BUDGETS:
        for factor in np.geomspace(0.2, 5, 6):
            for share in (1, 4, 20) if name in {"repetition", "moe"} else (1,):
                N = 0.09 * C**0.5 * factor
                D = C / 6 / N
                row = {"N": N, "D": D, "C": C, "unique_tokens": D / share, "N_total": N * share}
                if name == "loss-to-loss":
                    row["loss"] = 1.8 + 480 * N**-0.35 + 2100 * D**-0.37
                x = {column: np.array([row[column]]) for column in form.columns}
                p = {key: np.array([value]) for key, value in truth.items() if key != "E"}
                value = truth["E"] + float(form.predict(p, x)[0])
                out.append({**row, "measured": value * math.exp(noise * rng.standard_normal())})
    return RunTable.from_records(out)


@pytest.mark.parametrize("name", list(TRUTHS))
def test_a_known_truth_comes_back(name):
    fit = fit_law(rows(name), "measured", LawSpec(form=name, estimator="least_squares"))
    for parameter, tolerance in TESTED[name].items():
        assert fit.parameters[parameter] == pytest.approx(TRUTHS[name][parameter], rel=tolerance), parameter
    assert math.sqrt(2 * fit.objective / fit.n_rows) < 2e-4


@pytest.mark.parametrize("name", [*TRUTHS, "broken:breaks=3,of=D"])
def test_gradients_are_those_of_differences(name):
    form, rng = get_form(name), np.random.default_rng(1)
    truth = {k: v for k, v in TRUTHS[name.partition(":")[0]].items() if k != "E"}
    truth |= {"c2": -0.05, "d2": 1e11, "f2": 0.5, "c3": 0.1, "d3": 1e10, "f3": 0.2} if ":" in name else {}
    p = {key: np.array([[value]]) for key, value in truth.items()}
    x = {column: np.exp(rng.uniform(21, 25, 7)) for column in form.columns}
    x |= {"loss": rng.uniform(2, 4, 7)} if "loss" in form.columns else {}
    slopes = form.gradient(p, x)
    assert set(slopes) == set(form.parameters) == set(form.bounds())
    for key in form.parameters:
        step = 1e-6 * abs(truth[key])
        up, down = ({**p, key: p[key] + side * step} for side in (1, -1))
        expected = (form.predict(up, x) - form.predict(down, x)) / (2 * step)
        np.testing.assert_allclose(np.broadcast_to(slopes[key], expected.shape), expected, rtol=2e-4, atol=1e-9)


def test_repeated_data_is_worth_what_was_published():
    # up to four epochs are almost as good as new data; in the end it is worth 1 + R times the unique tokens
    worth = laws.columns.effective_tokens
    assert float(worth(4.0, 1.0, 15.387756)) / 4 > 0.92
    assert float(worth(1e6, 1.0, 15.387756)) == pytest.approx(16.387756)
    # after R repetitions a further token is worth 1/e of a new one
    slope = (float(worth(16.387757, 1.0, 15.387756)) - float(worth(16.387755, 1.0, 15.387756))) / 2e-6
    assert slope == pytest.approx(math.exp(-1), rel=1e-4)
    # tokens that were not reached are not worth anything
    assert float(worth(1.0, 5.0, 15.387756)) == 1.0


def test_a_law_of_repetition_beats_one_that_counts_repeated_tokens_as_new():
    table = rows("repetition", 2e-3)
    repeated = fit_law(table, "measured", LawSpec(form="repetition"))
    plain = fit_law(table, "measured", LawSpec(form="chinchilla"))
    assert plain.objective > 3 * repeated.objective
    # each interval holds the truth 19 times in 20: three misses of six are one chance in 450
    hits = 0
    for seed in range(6):
        fit = fit_law(rows("repetition", 2e-3, seed), "measured", LawSpec(form="repetition"))
        low, high = bootstrap(fit, replicates=100).interval("R")
        hits += low < 15.387756 < high
    assert hits >= 4


def test_a_shifted_law_has_optima_and_others_with_further_columns_have_none():
    fit = fit_law(rows("shifted"), "measured", LawSpec(form="shifted"))
    best = fit.law.optimum(1e20)
    grid = np.geomspace(1e8, 1e11, 20_001)
    values = fit.law.predict(grid, 1e20 / 6 / grid)
    assert float(best.N) == pytest.approx(grid[np.argmin(values)], rel=1e-3)
    assert not fit_law(rows("moe"), "measured", LawSpec(form="moe")).law.has_optimum


def test_a_break_is_found_where_a_power_law_misses():
    table = rows("broken", 1e-3)
    broken = fit_law(table, "measured", LawSpec(form="broken"))
    power = fit_law(table, "measured", LawSpec(form="power"))
    assert power.objective > 2 * broken.objective
    assert any(flag.name.startswith("misfit") for flag in power.flags)


def test_options_are_checked():
    from cdslm_eval.core.errors import UsageError

    for spec in ("broken:breaks=9", "broken:of=L", "shifted:M=1"):
        with pytest.raises(UsageError):
            get_form(spec)
    assert get_form("moe:total=all").columns == ("N", "D", "all")


def test_a_floor_above_the_data_ends_no_search(shared_data):
    # a search may try an E0 above some losses; these rows once ended it
    table = RunTable.read(shared_data / "scaling" / "gadre" / "rpj.csv")
    fit = fit_law(table, "loss_c4_val", LawSpec(form="loss-to-loss:of=err_avg"))
    assert fit.parameters["E0"] < fit.table.metric("err_avg").min()
    assert fit.objective < 1e-3
