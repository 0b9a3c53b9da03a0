"""The costs of a ladder are those that its trainers announce and leave, and hours follow from a rate."""

from __future__ import annotations

import json
import math
import sys
import textwrap

import pytest

from cdslm_eval.core.errors import EvalError, UsageError
from cdslm_eval.ladder import LadderRun, read_plan
from cdslm_eval.ladder.costs import StepCost, cost_grid, measured_rate, step_costs
from cdslm_eval.ladder.planned import check_bounds, leave_out
from cdslm_eval.plugin.host import Host

PLAN = """
name = "test"
[[systems]]
name = "toy"
train = "{python} {trainer} {{size}} {{budget}} {{run}}"
{option}
generator = "noise"
sizes = [10, 20]
budgets = [3.6e15]
[generate]
count = 10
seconds = 2.0
[[fit]]
metric = "val_loss"
"""
TRAINER = """
import json, sys
assert sys.argv[-1] == "--plan", "this must not train"
size, budget = float(sys.argv[1]), float(sys.argv[2])
facts = {"parameters": size, "flops": budget, "steps": 7, "epochs": None, "bytes": 16 * size, "rate_hz": 8000}
print(json.dumps(facts))
"""


@pytest.fixture
def ladder(tmp_path):
    def make(option='plan_option = "--plan"', trainer=TRAINER):
        (tmp_path / "trainer.py").write_text(textwrap.dedent(trainer))
        text = PLAN.format(python=sys.executable, trainer=tmp_path / "trainer.py", option=option)
        (tmp_path / "plan.toml").write_text(text)
        return LadderRun(read_plan(tmp_path / "plan.toml"), tmp_path / "out", Host(pinned=()), print)

    return make


def test_what_a_trainer_announces_is_summed_over_what_is_left(ladder):
    run = ladder()
    costs = step_costs(run)
    assert [cost.step.partition(" ")[0] for cost in costs] == ["train", "generate", "train", "generate", "score", "fit"]
    assert not run.out.exists()
    first = costs[0]
    assert (first.parameters, first.steps, first.bytes) == (10, 7, 160)
    assert math.isnan(first.epochs)
    assert costs[1].bytes == 10 * 2.0 * 8000 * 2
    assert first.minutes(1e12) == pytest.approx(60)
    *_, last = cost_grid(costs, 1e12, "--tflops").rows
    assert last[1:] == ("left to do", "", "7.2e+15", "", "", "120", "640 kB")
    # one that is done costs nothing more
    folder = run.run_folder(run.trainings[0])
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps({"flops": 3.6e15}))
    *_, last = cost_grid(step_costs(run), 1e12, "--tflops").rows
    assert last[6] == "60"


def test_without_an_announcement_the_budget_is_what_is_known(ladder):
    first = step_costs(ladder(option=""))[0]
    assert first.flops == 3.6e15
    assert math.isnan(first.parameters)


def test_the_rate_is_that_of_finished_runs_trained_in_one_go(ladder):
    run = ladder()
    assert math.isnan(measured_rate(run)[0])
    assert "name a rate with --tflops" in cost_grid(step_costs(run), math.nan, "").notes[0]
    for training, seconds in zip(run.trainings, (10, 30), strict=True):
        folder = run.run_folder(training)
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps({"flops": 2e15}))
        (folder.parent / "train.json").write_text(json.dumps({"seconds": seconds}))
    assert measured_rate(run) == (1e14, 2)
    (folder.parent / "train.json").unlink()
    assert measured_rate(run) == (2e14, 1)


@pytest.mark.parametrize(
    ("trainer", "why"), [("print('no json')", "must print JSON"), ("raise SystemExit('gone')", "gone")]
)
def test_a_plan_that_cannot_be_read_is_an_error(ladder, trainer, why):
    with pytest.raises(EvalError, match=why):
        step_costs(ladder(trainer=trainer))


BOUNDED = """
import json, sys
assert sys.argv[-1] == "--plan", "this must not train"
size, budget = float(sys.argv[1]), float(sys.argv[2])
print(json.dumps({"parameters": size, "flops": budget, "steps": 8000 / size, "epochs": 30 / size, "bytes": 1}))
"""


def test_models_of_too_few_steps_or_too_many_epochs_are_refused_or_left_out(ladder):
    """Size 10: 800 steps, 3 epochs; size 20: 400 steps, 1.5 epochs."""
    with pytest.raises(UsageError, match=r"1 models are no evidence .*: toy-20-3.6e\+15 \(400 steps, under 500\)"):
        check_bounds(ladder(trainer=BOUNDED))
    option = 'plan_option = "--plan"\nmax_epochs = 2\nout_of_bounds = "omit"\nmin_steps = 300'
    run = ladder(option, BOUNDED)
    check_bounds(run)
    assert [training.points[0].size for training in run.trainings] == [20]
    check_bounds(run := ladder(option.replace("omit", "train"), BOUNDED))
    assert len(run.trainings) == 2
    notes = cost_grid(step_costs(run), 1e12, "--tflops").notes
    assert "train toy-10-3.6e+15: 3 epochs, over 2." in notes
    with pytest.raises(UsageError, match="no model is left"):
        check_bounds(ladder(option.replace("300", "900"), BOUNDED))


def test_what_a_training_command_does_not_report_is_noted_as_unchecked(ladder, tmp_path):
    notes = []
    ladder(trainer=BOUNDED.replace('"epochs": 30 / size', '"epochs": None').replace("8000", "80000"))
    check_bounds(LadderRun(read_plan(tmp_path / "plan.toml"), tmp_path / "out", Host(pinned=()), notes.append))
    assert notes == ["toy: its training command reports no epochs, and none is checked"]


def test_branches_cost_what_they_add_to_the_shorter_ones(ladder, tmp_path):
    trainer = """
    import json, sys
    budgets = [float(word[4:]) for word in sys.argv if word.startswith("--f=")]
    print(json.dumps({"flops": max(budgets), "training_flops": sum(budgets) * 0.8, "steps": 1000}))
    """
    run = ladder(trainer=trainer)
    text = (tmp_path / "plan.toml").read_text().replace("{budget}", "--f={budgets}").replace("[3.6e15]", "[1e15, 2e15]")
    (tmp_path / "plan.toml").write_text(text.replace("sizes = [10, 20]", "sizes = [10]"))
    run = LadderRun(read_plan(tmp_path / "plan.toml"), tmp_path / "out", Host(pinned=()), print)
    costs = [cost for cost in step_costs(run) if cost.step.startswith("train")]
    assert [cost.flops for cost in costs] == pytest.approx([0.8e15, 1.6e15])


STATED = """
import json, sys
budgets = [float(word[4:]) for word in sys.argv if word.startswith("--f=")]
window = {"evaluation_flops": 1e12, "evaluation_seconds": 1.5}
branches = [
    {"flops": budget, "training_flops": 2 * budget, "bytes": 10, "speech_hours": budget / 1e15, **window}
    for budget in budgets
]
print(json.dumps({**branches[-1], "branches": branches}))
"""


def test_what_a_plan_states_and_what_generation_takes_are_counted(ladder, tmp_path):
    """Two windows of 1.5 s make a clip of 2 s; epochs are hours drawn over hours stated."""
    ladder(trainer=STATED)
    text = (tmp_path / "plan.toml").read_text().replace("{budget}", "--f={budgets} {shards}")
    text = text.replace("[3.6e15]", "[1e15, 4e15]\nminutes = 3\nmin_steps = 0\nmax_epochs = 3").replace(
        "[10, 20]", "[1]"
    )
    text = text.replace('"noise"', '"silence:rate_hz={rate}"')
    text = text.replace("count = 10", 'count = 10\nminutes = 1\ncontrols = ["noise"]')
    step = '[[prepare]]\nname = "shards"\ncommand = "make {out}"\nminutes = 5\ngigabytes = 2\nspeech_hours = 2\n'
    text = text.replace("[[systems]]", step + "[[systems]]").replace("[[fit]]", "[score]\nminutes = 7\n[[fit]]")
    (tmp_path / "plan.toml").write_text(text.replace("[generate]", "[generate]\naxes = { rate = [8000, 16000] }"))
    run = LadderRun(read_plan(tmp_path / "plan.toml"), tmp_path / "out", Host(pinned=()), print)
    costs = {cost.step: cost for cost in step_costs(run)}
    assert costs["prepare shards"].bytes == 2e9
    minutes = {step: cost.minutes(1e15 / 60) for step, cost in costs.items()}
    expected = {"prepare shards": 5, "train toy-1-1e+15": 2 + 3, "train toy-1-4e+15": 8 - 2}
    expected |= {f"generate toy-1-{budget}-rate{rate}": 1.02 for budget in ("1e+15", "4e+15") for rate in (8000, 16000)}
    expected |= {"generate noise": 1, "score pjsd, signal": 7}
    assert {step: value for step, value in minutes.items() if math.isfinite(value)} == pytest.approx(expected)
    assert [cost.epochs for step, cost in costs.items() if step.startswith("train")] == [0.5, 2.0]
    *_, last = cost_grid(list(costs.values()), 1e15 / 60, "the plan's").rows
    assert float(last[6]) == pytest.approx(sum(expected.values()), abs=0.1)
    # a rate measured over whole training commands has the 3 minutes of their start in it
    *_, last = cost_grid(list(costs.values()), 1e15 / 60, "measured", is_measured=True).rows
    assert float(last[6]) == pytest.approx(sum(expected.values()) - 3, abs=0.1)
    # a model of 2 epochs is left out of one that allows one, and the sum with it
    text = (tmp_path / "plan.toml").read_text().replace("max_epochs = 3", 'max_epochs = 1\nout_of_bounds = "omit"')
    (tmp_path / "plan.toml").write_text(text)
    run = LadderRun(read_plan(tmp_path / "plan.toml"), tmp_path / "out", Host(pinned=()), print)
    omitted, _ = leave_out(run)
    assert omitted == {"toy-1-4e+15": "2 epochs, over 1"}
    assert not run.out.exists()


def test_a_step_of_a_system_that_is_not_installed_is_left_out(ladder, tmp_path):
    ladder()
    step = '[[prepare]]\nname = "units"\nif_installed = true\ncommand = "not-here {out}"\n'
    text = (tmp_path / "plan.toml").read_text().replace("[[systems]]", step + "[[systems]]")
    (tmp_path / "plan.toml").write_text(text)
    run = LadderRun(read_plan(tmp_path / "plan.toml"), tmp_path / "out", Host(pinned=()), print)
    assert run.preparations() == []
    # what needs it cannot be trained
    (tmp_path / "plan.toml").write_text(text.replace("{size}", "{size} {units}"))
    with pytest.raises(UsageError, match="system toy: there is no command for the step units"):
        LadderRun(read_plan(tmp_path / "plan.toml"), tmp_path / "out", Host(pinned=()), print)


def test_what_is_stated_counts_where_flops_are_not_known():
    cost = StepCost(step="train a", done=False, start_minutes=3.0)
    assert cost.minutes(1e12) == 3
    assert math.isnan(cost.minutes(1e12, is_measured=True))
    assert math.isnan(StepCost(step="train a", done=False).minutes(1e12))
