"""Derivatives against differences, optima against general-purpose solvers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from cdslm_eval.builtin.laws import cdslm_laws
from cdslm_eval.scaling.axis import Axis, Identity, make_axis
from cdslm_eval.scaling.law import Law, get_form
from cdslm_eval.scaling.maps import MAPS, Line
from cdslm_eval.scaling.objective import make_estimator
from cdslm_eval.scaling.problem import law_problem
from cdslm_eval.scaling.simulate import Plan, simulate
from cdslm_eval.scaling.solver import minimise
from cdslm_eval.scaling.staged import Fused

PLAN = Plan((1e18, 1e19, 1e20, 1e21), sizes=5)
LAW = Law.of("chinchilla", E=1.8, A=400.0, B=3000.0, alpha=0.33, beta=0.38)
LINKS = {"log": None, "identity": None, "logit": (0.0, 9.0)}


def problem_of(form, link):
    table = simulate(LAW, PLAN, 0.01, seed=1)
    y = table.metric("loss")
    axis = make_axis(link, y, "lower", LINKS[link])
    return law_problem(get_form(form), axis, table, axis.orient(y)), axis.target(y)


def assert_derivatives(problem, theta):
    points = problem.points(theta)
    weights = np.random.default_rng(0).normal(size=points.z.shape)
    hessian = points.hessian(weights)
    for j in range(theta.shape[1]):
        step = np.zeros(theta.shape[1])
        step[j] = 1e-5
        up, down = problem.points(theta + step), problem.points(theta - step)
        slope = (up.z - down.z) / 2e-5
        bend = np.einsum("sn,snp->sp", weights, (up.jacobian - down.jacobian) / 2e-5)
        assert points.jacobian[..., j] == pytest.approx(slope, rel=1e-6, abs=1e-6)
        assert hessian[:, j] == pytest.approx(bend, rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("form", [form.name for form in cdslm_laws()])
@pytest.mark.parametrize("link", LINKS)
def test_derivatives_of_every_form_and_link(form, link):
    problem, _ = problem_of(form, link)
    u = np.exp(np.linspace(0.7, 1.2, problem.x.shape[1]))
    theta = problem.seeds(u, np.ones(len(u)), 6)
    theta = theta + np.random.default_rng(2).normal(0, 0.01, theta.shape)
    assert_derivatives(problem, theta[np.isfinite(problem.predict(theta)).all(axis=1)])


def mapped(name, link="logit"):
    """Return a kind of map over losses of a falling share, with starting points moved off their optimum."""
    loss = np.linspace(1.9, 3.4, 24)
    share = 0.9 / (1 + np.exp(1.7 * (loss - 2.6))) + 0.03
    axis = make_axis(link, share, "higher", (0.0, 1.0))
    kind = MAPS[name](loss, axis.orient(share), axis)
    theta = kind.starts(loss, axis.orient(share), np.ones(24))[:2]
    if name == "spline":
        return kind, loss, theta
    theta = theta + np.random.default_rng(3).normal(0, 0.01, theta.shape)
    # off the bounds too: beyond them a link has no value, and at them differences have but one side
    return kind, loss, np.clip(theta, kind.low + 0.01, kind.high - 0.01)


@pytest.mark.parametrize("name", MAPS)
def test_derivatives_of_every_map(name):
    kind, loss, theta = mapped(name)
    assert_derivatives(kind.problem(loss), theta)
    here, up, down = (kind.slopes(theta, loss + step) for step in (0.0, 1e-6, -1e-6))
    assert here.by_loss == pytest.approx((up.z - down.z) / 2e-6, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("keep_loss", [True, False])
@pytest.mark.parametrize("name", ["line", "exponential", "bounded-sigmoid"])
def test_derivatives_of_the_fused_problem(name, keep_loss):
    problem, _ = problem_of("chinchilla", "log")
    kind, _, theta = mapped(name)
    rows = (np.arange(12) if keep_loss else np.arange(0), np.arange(5, 20))
    fused = Fused(problem, kind, rows, (0.01, 0.2), keep_loss=keep_loss)
    law = np.array([[0.5, -1.0, 0.3, -0.8, 0.4]])
    assert_derivatives(fused, np.concatenate([law, theta[:1]], axis=1))


@pytest.mark.parametrize(("name", "delta"), [("huber", 0.005), ("least_squares", 1.0)])
def test_no_general_solver_finds_a_better_optimum(name, delta):
    problem, target = problem_of("chinchilla", "log")
    estimator = make_estimator(name, delta)
    start = problem.seeds(np.exp(target), np.ones(len(target)), 8)
    solution = minimise(problem, estimator, target, np.ones(len(target)), start)
    best = solution.objective.min()

    def objective(theta):
        return float(estimator.cost(problem.predict(theta[None])[0] - target).sum()) * 1e4

    for theta in start[:4]:
        other = minimize(objective, theta, method="Nelder-Mead", options={"maxiter": 8000, "xatol": 1e-9})
        assert other.fun >= best * 1e4 * (1 - 1e-6)
    near = minimize(objective, solution.theta[np.argmin(solution.objective)], method="Nelder-Mead")
    assert near.fun >= best * 1e4 * (1 - 1e-9)


def test_least_absolute_deviations_against_a_linear_program():
    rng = np.random.default_rng(4)
    for _ in range(20):
        x = rng.normal(size=15)
        y = 1.0 + 2.0 * x + rng.standard_t(2, 15)
        weight = rng.integers(0, 4, 15).astype(float)
        problem = Line(x, y, Axis(Identity())).problem(x)
        start = np.array([[float(np.median(y)), 0.0]])
        solution = minimise(problem, make_estimator("lad"), y, weight, start)
        # min w (p + q) subject to columns theta + p - q = y
        eye = np.eye(15)
        program = linprog(
            np.concatenate([np.zeros(2), weight, weight]),
            A_eq=np.hstack([np.column_stack([np.ones(15), x]), eye, -eye]),
            b_eq=y,
            bounds=[(None, None)] * 2 + [(0, None)] * 30,
        )
        assert solution.objective[0] == pytest.approx(program.fun, rel=1e-9, abs=1e-12)
        assert solution.converged[0]


def test_members_of_a_batch_do_not_see_each_other():
    problem, target = problem_of("chinchilla", "log")
    weights = np.random.default_rng(0).multinomial(len(target), np.full(len(target), 1 / len(target)), 6).astype(float)
    start = problem.seeds(np.exp(target), np.ones(len(target)), 6)
    estimator = make_estimator("least_squares")
    together = minimise(problem, estimator, target, weights, start)
    for i in range(6):
        alone = minimise(problem, estimator, target, weights[i : i + 1], start[i : i + 1])
        assert alone.objective[0] == pytest.approx(together.objective[i], rel=1e-9)
