"""Which row moves a law, against refits of tables without it; intervals beyond the data, widened by a rollout."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling import Law, LawSpec, Plan, fit_law, roll_out, simulate
from cdslm_eval.scaling import influence as module
from cdslm_eval.scaling.frontier import Resampling, predictions
from cdslm_eval.scaling.influence import influence
from cdslm_eval.scaling.table import RunTable
from cdslm_eval.scaling.validation import widening

LAW = Law.of("chinchilla", E=1.8, A=480.0, B=3000.0, alpha=0.34, beta=0.40)
PLAN = Plan(tuple(np.geomspace(1e18, 1e21, 8)), sizes=5, width=16)


def test_the_row_that_is_named_moves_the_parameter_as_stated():
    table = simulate(LAW, PLAN, 0.003, seed=3)
    loss = table.metric("loss").copy()
    loss[7] *= 1.1
    table = replace(table, metrics={"loss": loss})
    # least squares, whose outliers have no bound on their influence
    fit = fit_law(table, "loss", LawSpec(estimator="least_squares"))
    result = influence(fit)
    assert result.line == 8
    again = fit_law(table.excluding("line=8"), "loss", LawSpec(estimator="least_squares"))
    known = {**again.parameters, "ratio_exponent": float(again.law.curve.ratio_exponent)}
    assert result.without == pytest.approx(known[result.parameter], rel=1e-6)
    assert result.flags
    assert influence(fit_law(simulate(LAW, PLAN, 0.003, seed=3), "loss")).line != 8


def test_of_many_rows_those_of_the_largest_first_order_influence_are_left_out(monkeypatch):
    table = simulate(LAW, replace(PLAN, repeats=3), 0.003, seed=1)
    loss = table.metric("loss").copy()
    loss[100] *= 1.2
    fit = fit_law(replace(table, metrics={"loss": loss}), "loss", LawSpec(estimator="least_squares"))
    whole = influence(fit)
    monkeypatch.setattr(module, "_MOST", 20)
    few = influence(fit)
    assert few.line == whole.line == 101
    assert few.refits == 20


def test_an_exact_law_has_no_row_that_moves_it():
    with pytest.raises(UsageError, match="no single row moves it"):
        influence(fit_law(simulate(LAW, PLAN, 0.0), "loss"))


def test_five_rows_of_the_published_figure_decide_its_law(shared_data):
    table = RunTable.read(shared_data / "scaling/chinchilla_epoch/svg_extracted_data.csv")
    # Besiroglu et al., arXiv 2404.10102, leave out the five highest losses
    assert influence(fit_law(table, "loss")).flags
    assert not influence(fit_law(table.excluding("highest:loss:5"), "loss")).flags


def test_intervals_beyond_the_data_are_widened_by_what_a_rollout_missed():
    true = simulate(LAW, PLAN, 0.003, seed=0)
    steps = roll_out(fit_law(true, "loss"))
    scaled = np.abs(np.concatenate([step.scaled for step in steps]))
    assert np.array_equal(scaled <= 1, np.concatenate([step.covered for step in steps]))
    # a loss that bends away from any law at large budgets
    bent = replace(true, metrics={"loss": true.metric("loss") * (1 + 0.03 * np.maximum(0, np.log10(true.C) - 19.5))})
    assert widening(roll_out(fit_law(bent, "loss"))) > 1.5 > widening(steps)
    how = Resampling(replicates=50)
    answers = [predictions(table, "loss", LawSpec(), how, budgets=[1e20, 1e22]) for table in (true, bent)]
    assert [answer.wider > 1.5 for answer in answers] == [False, True]
    inside, beyond = answers[1].optima
    own = inside.prediction[1] - inside.prediction[0]
    assert beyond.prediction[1] - beyond.prediction[0] > 1.5 * own
    assert any(flag.name == "widened" for flag in answers[1].flags)
