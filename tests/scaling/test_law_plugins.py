"""Laws of plugins: a pip-installed law is fitted from the command line; its optima agree with closed forms."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from cdslm_eval.builtin.laws import Chinchilla, Power, cdslm_laws
from cdslm_eval.core.errors import UnknownNameError, UsageError
from cdslm_eval.plugin.law import LawForm
from cdslm_eval.scaling import Law, LawSpec, Plan, fit_law, simulate
from cdslm_eval.scaling.cost import Cost
from cdslm_eval.scaling.curves import NumericCurve
from cdslm_eval.scaling.law import get_form

SHIFTED = '''
"""A law with an offset of N: parameters that are always there count, such as embeddings."""
import numpy as np
from cdslm_eval import LawForm, hookimpl

class Shifted(LawForm):
    """E + A (N + M)^-alpha + B D^-beta."""
    name = "offset"
    formula = "E + A (N + M)^-alpha + B D^-beta"
    parameters = ("A", "M", "alpha", "B", "beta")
    scales = {"A": ("N", "alpha"), "B": ("D", "beta")}
    linear = ("A", "B")

    def bounds(self):
        return {"A": (1e-3, 1e9), "M": (1e3, 1e12), "alpha": (0.01, 2), "B": (1e-3, 1e9), "beta": (0.01, 2)}

    def predict(self, p, x):
        return p["A"] * (x["N"] + p["M"]) ** -p["alpha"] + p["B"] * x["D"] ** -p["beta"]

    def gradient(self, p, x):
        size, power = x["N"] + p["M"], x["D"] ** -p["beta"]
        first = size ** -p["alpha"]
        return {
            "A": first,
            "M": -p["alpha"] * p["A"] * first / size,
            "alpha": -p["A"] * first * np.log(size),
            "B": power,
            "beta": -p["B"] * power * np.log(x["D"]),
        }

@hookimpl
def cdslm_laws():
    return [Shifted]
'''
TRUTH = {"E": 1.7, "A": 406.0, "M": 5e7, "alpha": 0.36, "B": 2100.0, "beta": 0.37}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Pip-install the plugin into a folder of its own; return the environment that sees it."""
    base = tmp_path_factory.mktemp("law")
    project, target = base / "project", base / "site"
    project.mkdir()
    (project / "cdslm_test_shifted.py").write_text(textwrap.dedent(SHIFTED))
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "cdslm-test-shifted"\nversion = "1.0"\n'
        '[project.entry-points.cdslm_eval]\nshifted = "cdslm_test_shifted"\n'
        '[tool.hatch.build.targets.wheel]\ninclude = ["cdslm_test_shifted.py"]\n'
    )
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(target)]
    subprocess.run([*pip, str(project)], check=True, capture_output=True)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(target), *filter(None, [os.environ.get("PYTHONPATH")])])}


def shifted_rows():
    rows = []
    for C in np.geomspace(1e17, 1e21, 7):
        for factor in np.geomspace(0.1, 10, 8):
            N = 0.09 * C**0.5 * factor
            D = C / 6 / N
            p = TRUTH
            loss = p["E"] + p["A"] * (N + p["M"]) ** -p["alpha"] + p["B"] * D ** -p["beta"]
            rows.append({"N": N, "D": D, "C": C, "loss": loss * (1 + 1e-4 * np.sin(12.9898 * len(rows)))})
    return rows


def test_an_installed_law_is_fitted_from_the_command_line(installed, tmp_path):
    (tmp_path / "runs.json").write_text(json.dumps(shifted_rows()))

    def cli(*arguments):
        command = [sys.executable, "-m", "cdslm_eval", *arguments]
        done = subprocess.run(command, env=installed, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    document = json.loads(cli("fit", "runs.json", "--law", "offset", "--replicates", "100", "--json", "-"))
    law = document["law"]
    assert law["form"] == "offset"
    assert law["formula"] == "E + A (N + M)^-alpha + B D^-beta"
    for name, tolerance in {"E": 0.01, "alpha": 0.05, "beta": 0.05, "M": 0.5}.items():
        assert law[name] == pytest.approx(TRUTH[name], rel=tolerance)
    low, high = document["intervals"]["alpha"]
    assert low < TRUTH["alpha"] < high
    # the best size under a budget, against a grid over the true law
    C = 1e20
    sizes = np.geomspace(1e8, 1e11, 4001)
    p = TRUTH
    values = p["E"] + p["A"] * (sizes + p["M"]) ** -p["alpha"] + p["B"] * (C / 6 / sizes) ** -p["beta"]
    (best,) = [row for row in document["optimum"] if row["C"] == C]
    assert best["N"] == pytest.approx(sizes[np.argmin(values)], rel=0.03)
    # without the offset the same rows are fitted worse
    plain = json.loads(cli("fit", "runs.json", "--replicates", "0", "--json", "-"))["law"]
    assert plain["objective"] > 2 * law["objective"]
    assert "offset(N, D; A = " in cli("fit", "runs.json", "--law", "offset", "--replicates", "0")
    text = cli("fit", "predict", "runs.json", "--law", "offset", "--C", "1e22", "--N", "7B", "--D", "1.4T")
    assert "Optima of budgets" in text


class Natural(LawForm):
    """The chinchilla law in natural units, without closed forms: what a plugin's author writes."""

    name = "natural"
    parameters = ("A", "alpha", "B", "beta")
    scales = {"A": ("N", "alpha"), "B": ("D", "beta")}  # noqa: RUF012
    linear = ("A", "B")

    def bounds(self):
        return {"A": (1e-2, 1e8), "alpha": (0.01, 2.0), "B": (1e-2, 1e8), "beta": (0.01, 2.0)}

    def predict(self, p, x):
        return Chinchilla().predict(p, x)

    def gradient(self, p, x):
        return Chinchilla().gradient(p, x)


class NaturalExact(Natural):
    """The same with its second derivatives."""

    def hessian(self, p, x):
        out = {}
        for column, c, e in Chinchilla.terms:
            power, log = x[column] ** -p[e], np.log(x[column])
            out |= {(c, e): -power * log, (e, e): p[c] * power * log**2}
        return out


LAW = Law.of("chinchilla", E=1.8, A=400.0, B=3000.0, alpha=0.33, beta=0.38)


@pytest.mark.parametrize("form", [NaturalExact(), Natural()], ids=["exact Hessian", "differences"])
def test_the_default_coordinates_have_the_derivatives_of_their_values(form):
    rng = np.random.default_rng(1)
    x, centre = rng.normal(0, 1, (2, 9)), np.array([20.0, 24.0])
    theta = np.array([[-1.0, 0.3, -0.5, 0.4], [0.2, 0.5, -1.5, 0.25]])
    weights = rng.normal(size=(2, 9))
    here = form.excess(theta, x, centre)
    bend = here.hessian(weights)
    for j in range(4):
        step = np.zeros(4)
        step[j] = 1e-5
        up, down = form.excess(theta + step, x, centre), form.excess(theta - step, x, centre)
        assert here.jacobian[..., j] == pytest.approx((up.value - down.value) / 2e-5, rel=1e-5, abs=1e-8)
        wanted = np.einsum("sn,snp->sp", weights, (up.jacobian - down.jacobian) / 2e-5)
        assert bend[:, j] == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    # the same numbers as the built-in law, whose coordinates are these
    built_in = Chinchilla().excess(theta, x, centre)
    assert here.value == pytest.approx(built_in.value, rel=1e-12)
    assert bend == pytest.approx(built_in.hessian(weights), rel=1e-6)
    assert form.search_coordinates({k: v[0] for k, v in form.natural(theta, centre).items()}, centre) == pytest.approx(
        theta[0]
    )


def test_numeric_optima_are_those_of_the_closed_forms():
    exact = LAW.curve
    p = {name: np.asarray(LAW.parameters[name]) for name in ("A", "alpha", "B", "beta")}
    numeric = NumericCurve(exact.floor, Cost(), Natural(), p)
    C = np.array([1e18, 1e20, 1e23])
    assert numeric.log_n_optimum(C) == pytest.approx(exact.log_n_optimum(C), abs=1e-6)
    assert numeric.frontier(C) == pytest.approx(exact.frontier(C), rel=1e-12)
    assert numeric.kappa(C) == pytest.approx(exact.kappa(C), rel=1e-3)
    assert numeric.reach(2.2) == pytest.approx(exact.reach(2.2), rel=1e-6)
    assert numeric.reach(1.8) == np.inf
    mine, theirs = numeric.near_optimal(C, 0.01, relative=True), exact.near_optimal(C, 0.01, relative=True)
    for end in ("N_low", "N_high", "D_low", "D_high", "epsilon"):
        assert getattr(mine, end) == pytest.approx(getattr(theirs, end), rel=1e-5)
    # a thousand laws at once, as a bootstrap has them
    many = NumericCurve(np.full((5, 1), exact.floor), Cost(), Natural(), {n: np.full((5, 1), v) for n, v in p.items()})
    assert many.log_n_optimum(C) == pytest.approx(np.tile(exact.log_n_optimum(C), (5, 1)), abs=1e-6)


def test_gradients_of_the_built_in_laws_in_natural_units():
    x = {"N": np.array([1e8, 3e9]), "D": np.array([2e9, 5e10]), "C": np.array([1e18, 1e21])}
    values = {"A": 400.0, "alpha": 0.33, "B": 3000.0, "beta": 0.38, "gamma": 0.8}
    for kind in cdslm_laws():
        form = kind()
        p = {name: np.asarray(values[name]) for name in form.parameters}
        slopes = form.gradient(p, x)
        for name in form.parameters:
            up, down = (form.predict({**p, name: p[name] * (1 + side)}, x) for side in (1e-6, -1e-6))
            assert slopes[name] == pytest.approx((up - down) / (2e-6 * p[name]), rel=1e-6)


def test_a_law_without_both_n_and_d_has_no_optimum_and_an_unknown_one_is_named():
    assert get_form("power").columns == Power.columns
    assert not Law.of("power", E=1.0, A=10.0, alpha=0.1).has_optimum
    table = simulate(LAW, Plan((1e18, 1e19, 1e20), sizes=5), 0.005)
    with pytest.raises(UnknownNameError, match="Did you mean 'chinchilla'"):
        fit_law(table, "loss", LawSpec(form="chinchila"))


class Nowhere(Natural):
    """A law without a finite value anywhere."""

    name = "nowhere"

    def predict(self, p, x):
        return super().predict(p, x) * np.nan

    def gradient(self, p, x):
        return {name: slope * np.nan for name, slope in super().gradient(p, x).items()}


def test_a_law_that_leaves_its_domain_is_an_error_and_no_crash(monkeypatch):
    monkeypatch.setattr("cdslm_eval.scaling.law.builtin.cdslm_laws", lambda: [*cdslm_laws(), Nowhere])
    get_form.cache_clear()
    with pytest.raises(UsageError, match="no finite value"):
        fit_law(simulate(LAW, Plan((1e18, 1e19, 1e20), 5), 0.003), "loss", LawSpec(form="nowhere"))
