"""A ladder over a trainer that the test writes: what is done is not done again, what is killed goes on."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from cdslm_eval.cli.ladder import _fit as fit_table
from cdslm_eval.core.audio import write_flac
from cdslm_eval.core.errors import UsageError
from cdslm_eval.ladder import LadderRun, read_plan, train
from cdslm_eval.ladder.plan import Fit
from cdslm_eval.plugin.host import Host

ROOT = Path(__file__).parents[2]

# a "trainer" whose loss follows a law, and which notes every start and every step, so that resuming can be seen
TRAINER = """
import json, os, pathlib, sys, time
size, budget, run = float(sys.argv[1]), float(sys.argv[2]), pathlib.Path(sys.argv[3])
run.mkdir(parents=True, exist_ok=True)
(run / "pid").write_text(str(os.getpid()))
hold = pathlib.Path(__file__).with_name("hold")
with (run / "starts").open("a") as file:
    file.write("x")
steps = run / "steps"
done = len(steps.read_text()) if steps.exists() else 0
for step in range(done, 10):
    while step >= 3 and hold.exists():
        time.sleep(0.02)
    with steps.open("a") as file:
        file.write("x")
tokens = budget / (6 * size)
loss = 1.0 + 5 * size**-0.3 + 7 * tokens**-0.4
(run / "result.json").write_text(
    json.dumps({"parameters": size, "tokens": tokens, "flops": budget, "val_loss": loss})
)
"""

PLAN = """
name = "test"
[paths]
here = "."
[[prepare]]
name = "shards"
command = "{python} -c 'import pathlib, sys; pathlib.Path(sys.argv[1]).mkdir(parents=True)' {{out}}"
[[systems]]
name = "law"
train = "{python} {{here}}/trainer.py {{size}} {{budget}} {{run}}"
generator = "babble:{{here}}"
sizes = [100, 400]
budgets = [1e6]
[generate]
count = 3
seconds = 1.0
controls = ["silence"]
[score]
metrics = ["signal"]
if_installed = ["not_installed_anywhere"]
"""


@pytest.fixture
def plan(tmp_path):
    def write(**changes):
        (tmp_path / "trainer.py").write_text(textwrap.dedent(TRAINER))
        text = PLAN.format(python=sys.executable).replace("babble:{here}", "silence")
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "plan.toml"
        path.write_text(text)
        return path

    return write


def run_ladder(plan, *more, check=True):
    command = [sys.executable, "-m", "cdslm_eval", "ladder", str(plan), "--jobs", "1", *more]
    command += ["--out", str(plan.parent / "out")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done


def table(path):
    return list(csv.DictReader((path.parent / "out" / "runs.csv").read_text().splitlines()))


def test_a_ladder_gives_one_row_per_model_and_does_nothing_twice(plan):
    path = plan()
    first = run_ladder(path)
    rows = table(path)
    assert {row["run"] for row in rows} == {"law-100-1e+06", "law-400-1e+06"}
    for row in rows:
        n, d = float(row["N"]), float(row["D"])
        assert float(row["val_loss"]) == pytest.approx(1.0 + 5 * n**-0.3 + 7 * d**-0.4, rel=1e-12)
        assert float(row["duration"]) == pytest.approx(1.0, abs=0.01)
    assert "not_installed_anywhere is left out: not installed" in first.stderr
    again = run_ladder(path)
    assert table(path) == rows
    assert "train" not in again.stderr
    assert [p.read_text() for p in (path.parent / "out").glob("runs/*/run/starts")] == ["x"] * 2
    dry = run_ladder(path, "--dry-run").stdout.splitlines()
    steps = [line.strip() for line in dry if re.match(r" *(done|to do) ", line)]
    made = [step for step in steps if re.search(r" (prepare|train|generate) ", step)]
    assert len(made) == 6
    assert all(step.startswith("done") for step in made)
    assert any(step.startswith("to do  score signal") for step in steps)
    assert "measured on 2 runs" in dry[-2]


def wait_until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_running(pid):
    """Return whether a process runs; one that ended and was not yet collected by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_killed_ladder_takes_its_trainer_with_it_and_goes_on_where_it_was(plan):
    path = plan()
    hold = path.with_name("hold")
    hold.touch()  # the first trainer waits at its third step, so that no clock decides where it is killed
    command = [sys.executable, "-m", "cdslm_eval", "ladder", str(path), "--out", str(path.parent / "out")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)})
    runs = path.parent / "out" / "runs"
    wait_until(lambda: any(len(p.read_text()) >= 3 for p in runs.glob("*/run/steps")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    (pid,) = (int(p.read_text()) for p in runs.glob("*/run/pid"))
    wait_until(lambda: not is_running(pid))
    hold.unlink()
    assert sum(len(p.read_text()) for p in runs.glob("*/run/steps")) == 3
    run_ladder(path)
    assert sorted(len(p.read_text()) for p in runs.glob("*/run/steps")) == [10] * 2
    assert sorted(p.read_text() for p in runs.glob("*/run/starts")) == ["x", "xx"]


def test_a_new_budget_trains_only_what_is_new(plan):
    run_ladder(plan())
    path = plan(**{"budgets = [1e6]": "budgets = [1e6, 9e6]"})
    done = run_ladder(path)
    assert done.stderr.count("train law") == 2
    assert len(table(path)) == 4


def test_a_training_that_fails_is_named_with_its_log_and_stops_no_other(plan):
    path = plan(**{"400": '"fault"'})
    done = run_ladder(path, check=False)
    assert done.returncode == 3
    assert "1 of 2 models are not in the table" in done.stderr
    (log,) = (path.parent / "out").glob("runs/law-fault*/train.log")
    assert f"exit code 1; its output is in {log}" in done.stderr
    assert "could not convert string to float: 'fault'" in log.read_text()
    assert [row["run"] for row in table(path)] == ["law-100-1e+06"]


def test_a_ladder_of_which_nothing_can_be_trained_says_why(plan):
    done = run_ladder(plan(**{"trainer.py {size}": "no_such_trainer.py {size}"}), check=False)
    assert done.returncode == 3
    assert "no model was trained" in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sizes =", "sises =", "Did you mean 'sizes'?"),
        ("{run}", "{runn}", "Did you mean 'run'?"),
        ("budgets = [1e6]", "budgets = [0]", "budgets are FLOPs"),
        ('name = "test"', "name = ", "not TOML"),
        ("[[systems]]", "[[systms]]", "systems"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused_before_anything_runs(plan, old, new, message):
    path = plan(**{old: new})
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        read_plan(path)
    assert not (path.parent / "out").exists()


def test_places_are_relative_to_the_plan_and_can_be_replaced(plan, tmp_path):
    path = plan()
    assert read_plan(path).paths["here"] == str(tmp_path)
    assert read_plan(path, {"here": "/somewhere"}).paths["here"] == "/somewhere"
    with pytest.raises(UsageError, match="Did you mean 'here'"):
        read_plan(path, {"heer": "/somewhere"})


def test_columns_of_prompts_and_reference_can_be_passed_over(plan, tmp_path):
    write_flac(tmp_path / "a.flac", np.full(8000, 0.1, np.float32), 8000)
    (tmp_path / "m.csv").write_text("path,mood\na.flac,glad\n")
    changes = {"[generate]": '[generate]\nprompts = "{here}/m.csv"', "[score]": '[score]\nreference = "{here}/m.csv"'}
    strict = LadderRun(read_plan(plan(**changes)), tmp_path / "out", Host(), print)
    for use in (strict.reference, strict.generate_controls):
        with pytest.raises(UsageError, match="--ignore-columns mood"):
            use()
    meant = {key: f'{value}\nignore_columns = ["mo*"]' for key, value in changes.items()}
    ladder = LadderRun(read_plan(plan(**meant)), tmp_path / "out", Host(), print)
    assert [source.key for source in ladder.reference().sources] == ["a"]
    assert [len(clips) for clips in ladder.generate_controls()] == [3]
    # what is not read changes no clip, so the folders of controls stay
    assert ladder.control_folder("silence") == strict.control_folder("silence")


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "ladders").glob("*.toml")), ids=lambda path: path.name)
def test_shipped_plans_are_plans(path):
    assert read_plan(path).systems


SECOND = f"""
[[systems]]
name = "other"
train = "{sys.executable} {{here}}/trainer.py {{size}} {{budget}} {{run}} 0"
generator = "silence"
sizes = [1000]
budgets = [1e6]
"""


def with_second(path, old="", new=""):
    assert old in SECOND
    second = SECOND.replace(old, new) if old else SECOND
    text = path.read_text().replace("[generate]", second + "[generate]")
    # the fit gets a column that is absent, so that it ends at once
    path.write_text(text + '[[fit]]\nmetric = "val_loss"\narguments = "--no-such-option"\n')
    return path


def test_losses_of_two_systems_are_fitted_each_alone(plan):
    done = run_ladder(with_second(path := plan()))
    rows = table(path)
    assert [row["system"] for row in rows].count("other") == 1
    lines = [line for line in done.stdout.splitlines() if line.startswith("fit of")]
    assert [line.partition(":")[0] for line in lines] == ["fit of val_loss, law", "fit of val_loss, other"]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (sys.executable, "no-such-trainer", "there is no command 'no-such-trainer'"),
        ('"silence"', '"mute"', "the generator 'mute' is not installed"),
    ],
)
def test_a_system_that_is_not_installed_is_known_before_anything_is_trained(plan, old, new, why):
    path = with_second(plan(), old, new)
    refused = run_ladder(path, check=False)
    assert refused.returncode == 2
    assert why in refused.stderr
    assert "if_installed = true" in refused.stderr
    assert not (path.parent / "out").exists()
    path.write_text(path.read_text().replace('name = "other"', 'name = "other"\nif_installed = true'))
    dry = run_ladder(path, "--dry-run")
    assert "system other is left out" in dry.stderr
    assert "law-100" in dry.stdout
    assert "other" not in dry.stdout


def test_json_has_the_table_and_the_scores(plan):
    result = json.loads(run_ladder(plan(), "--json", "-").stdout.partition("\ntable:")[0])
    assert len(result["runs"]) == 2
    assert {estimate["system"] for estimate in result["scores"]["estimates"]} >= {"law-100-1e+06", "silence"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes = [100, 400]": "sizes = [100, 100]"}, "a value stands there twice"),
        ({"budgets = [1e6]": "budgets = [1e6]\nby_size = { batch = [8] }"}, "1 values for 2 sizes"),
        ({"{budget}": "{budgets}", "budgets = [1e6]": "budgets = [1e6]\nby_budget = { b = [8] }"}, "differ by budget"),
        ({"{size} ": "{size} {device} "}, "nothing fills {device}"),
        ({"budgets = [1e6]": 'budgets = [1e6]\nout_of_bounds = "skip"'}, "out_of_bounds"),
    ],
)
def test_placeholders_of_sizes_budgets_and_devices_must_fit(plan, change, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        read_plan(plan(**change))


def ladder_of(path, out="out"):
    return LadderRun(read_plan(path), path.parent / out, Host(pinned=()), print)


def test_values_by_size_and_seeds_reach_the_command(plan):
    path = plan(**{"budgets = [1e6]": "budgets = [1e6]\nseeds = [0, 7]\nby_size = { batch = [8, 16] }"})
    path.write_text(path.read_text().replace("{run}", "{run} {batch} {seed}"))
    run = ladder_of(path)
    words = {training.name: run.train_command(training, "RUN")[-2:] for training in run.trainings}
    assert words == {
        "law-100-1e+06-seed0": ["8", "0"],
        "law-100-1e+06-seed7": ["8", "7"],
        "law-400-1e+06-seed0": ["16", "0"],
        "law-400-1e+06-seed7": ["16", "7"],
    }


BRANCHED = """
import json, pathlib, sys
*budgets, run = sys.argv[1:]
budgets = [float(word.removeprefix("--flops=")) for word in budgets if word.startswith("--flops=")]
run = pathlib.Path(run)
results = []
for budget in sorted(budgets):
    # whole steps of 1000 FLOPs: what is trained is not quite the budget
    flops = round(budget / 1000) * 1000
    folder = f"branches/{flops}"
    results.append({"parameters": 5, "tokens": 9, "flops": flops, "val_loss": 1 / flops, "folder": folder})
    (run / folder).mkdir(parents=True, exist_ok=True)
*shorter, longest = results
(run / "result.json").write_text(json.dumps({**longest, "branches": shorter}))
"""


def branched(plan, budgets="[2.6e3, 9e3, 1.2e4]"):
    path = plan(**{"{size} {budget} {run}": "--flops={budgets} {run}", "[1e6]": budgets, "[100, 400]": "[5]"})
    (path.parent / "trainer.py").write_text(BRANCHED)
    return path


def test_one_run_with_branches_serves_all_budgets(plan):
    run = ladder_of(branched(plan))
    (outcome,) = train(run)
    assert [model.point.name for model in outcome.trained] == ["law-5-2.6e+03", "law-5-9e+03", "law-5-1.2e+04"]
    assert [model.result["flops"] for model in outcome.trained] == [3000, 9000, 12000]
    folder = run.run_folder(outcome.training)
    assert [model.folder for model in outcome.trained] == [folder / "branches/3000", folder / "branches/9000", folder]
    assert len({run.clips_folder(model.point) for model in outcome.trained}) == 3


def test_budgets_that_are_one_branch_are_refused(plan):
    (outcome,) = train(ladder_of(branched(plan, "[2.6e3, 2.7e3, 9e3]")))
    assert "the budgets 2600 and 2700 are the same run of 3000 FLOPs" in outcome.error


def test_several_devices_train_side_by_side_each_one_at_a_time(plan):
    """Each trainer holds its device's lock until both devices were held: one after the other would never end."""
    trainer = """
        import json, pathlib, sys, time
        device, budget, run = sys.argv[1], float(sys.argv[2]), pathlib.Path(sys.argv[3])
        here = pathlib.Path(__file__).parent
        lock = here / f"{device}.lock"
        lock.mkdir()
        (here / f"{device}.seen").touch()
        end = time.monotonic() + 120
        while len(list(here.glob("*.seen"))) < 2:
            assert time.monotonic() < end
            time.sleep(0.01)
        run.mkdir(parents=True)
        lock.rmdir()
        (run / "result.json").write_text(json.dumps({"parameters": 1, "tokens": 1, "flops": budget, "val_loss": 1}))
    """
    path = plan(
        **{"{size} {budget}": "{device} {budget}", "budgets = [1e6]": "budgets = [1e6, 2e6]", "[100, 400]": "[1]"}
    )
    path.write_text(path.read_text().replace('name = "test"', 'name = "test"\ndevices = ["d0", "d1"]'))
    (path.parent / "trainer.py").write_text(textwrap.dedent(trainer))
    outcomes = list(train(ladder_of(path)))
    assert [outcome.error for outcome in outcomes] == ["", ""]
    assert {model.point.budget for outcome in outcomes for model in outcome.trained} == {1e6, 2e6}


def test_a_held_out_budget_is_predicted_and_not_fitted(tmp_path):
    """The table is that of a ladder; its law is exact, and the fit names how many rows it saw."""
    rows = ["run,system,budget,seed,N,D,C,val_loss"]
    for budget in (1e15, 3e15, 1e16, 3e16, 1e17):
        for factor in (0.25, 0.5, 1, 2, 4):
            n = 0.05 * budget**0.5 * factor
            d = budget / 6 / n
            loss = 1.7 + 400 * n**-0.34 + 410 * d**-0.28
            rows.append(f"law-{n:.3g}-{budget:.3g},law,{budget!r},0,{n!r},{d!r},{budget!r},{loss!r}")
    (tmp_path / "runs.csv").write_text("\n".join(rows) + "\n")
    line = fit_table(tmp_path / "runs.csv", "law", Fit(metric="val_loss", held_out_from=1e17), (), tmp_path / "fit")
    assert "over 20 rows" in line
    assert (tmp_path / "fit" / "law" / "val_loss" / "fit.json").is_file()
    none = fit_table(tmp_path / "runs.csv", "law", Fit(metric="val_loss", held_out_from=3e15), (), tmp_path / "none")
    assert "NO LAW" in none
    assert "5 usable train rows" in none


def test_a_model_that_cannot_be_generated_from_keeps_its_row_without_metrics(plan):
    """A fit of the loss that lacked the models that train worst would be one of chosen models."""
    path = plan(**{'generator = "silence"': 'generator = "samples:{run}/clips"'})
    trainer = path.with_name("trainer.py")
    trainer.write_text(
        trainer.read_text()
        + textwrap.dedent(
            """
            import wave
            (run / "clips").mkdir()
            if size == 400:
                (run / "clips" / "a.wav").write_bytes(b"RIFF")
            else:
                with wave.open(str(run / "clips" / "a.wav"), "wb") as file:
                    file.setparams((1, 2, 16000, 0, "NONE", ""))
                    file.writeframes(bytes(range(250)) * 128)
            """
        )
    )
    done = run_ladder(path, check=False)
    assert done.returncode == 3, done.stderr
    assert "test: 1 of 2 have no clips, and no metric in the table; the same command tries them again" in done.stderr
    assert "law-400-1e+06: " in done.stderr
    rows = {row["run"]: row for row in table(path)}
    assert rows.keys() == {"law-100-1e+06", "law-400-1e+06"}
    row = rows["law-400-1e+06"]
    n, d = float(row["N"]), float(row["D"])
    assert (n, d) == pytest.approx((400, 1e6 / 6 / 400), rel=1e-12)
    assert float(row["val_loss"]) == pytest.approx(1.0 + 5 * n**-0.3 + 7 * d**-0.4, rel=1e-12)
    assert row["duration"] == ""
    assert float(rows["law-100-1e+06"]["duration"]) == 1.0
    assert f"table: {path.parent / 'out' / 'runs.csv'}" in done.stdout


@pytest.mark.parametrize(("arguments", "exponent"), [("", 1.2), ("--compute kND", 1.0), ("--compute=kND", 1.0)])
def test_budgets_of_a_fit_are_those_that_training_counted(tmp_path, arguments, exponent):
    """C of these trainers is 3 N^1.2 D: 6 N D would draw a budget's curve beside the budget's own rows."""
    rows = ["run,system,budget,seed,N,D,C,val_loss"]
    for n in (1e6, 3e6, 1e7, 3e7):
        for d in (1e8, 3e8, 1e9):
            c, loss = 3 * n**1.2 * d, 1.7 + 400 * n**-0.34 + 410 * d**-0.28
            rows.append(f"law-{n:.3g}-{d:.3g},law,{c!r},0,{n!r},{d!r},{c!r},{loss!r}")
    (tmp_path / "runs.csv").write_text("\n".join(rows) + "\n")
    fit_table(tmp_path / "runs.csv", "law", Fit(metric="val_loss", arguments=arguments), (), tmp_path / "fit")
    fit = json.loads((tmp_path / "fit" / "law" / "val_loss" / "fit.json").read_text())
    # N* goes as C^(beta / (p beta + q alpha))
    expected = 0.28 / (exponent * 0.28 + 0.34)
    assert fit["exponents"]["N_exponent"]["value"] == pytest.approx(expected, rel=0.01)


def test_a_metric_is_fitted_through_the_loss_with_a_figure_of_both(tmp_path):
    rows = ["run,system,budget,seed,N,D,C,val_loss,pjsd_1"]
    for n in (1e6, 3e6, 1e7, 3e7):
        for d in (1e8, 3e8, 1e9):
            loss = 1.7 + 400 * n**-0.34 + 410 * d**-0.28
            rows.append(f"a-{n:.3g}-{d:.3g},a,{6 * n * d!r},0,{n!r},{d!r},{6 * n * d!r},{loss!r},{0.1 * (loss - 1)!r}")
    (tmp_path / "runs.csv").write_text("\n".join(rows) + "\n")
    fit = Fit(metric="pjsd_1", loss="val_loss", arguments="--replicates 0 --figure ladder")
    line = fit_table(tmp_path / "runs.csv", "a", fit, (), tmp_path / "fit")
    assert line.startswith("fit of pjsd_1, a: pjsd_1: ")
    assert (tmp_path / "fit" / "a" / "pjsd_1" / "ladder.svg").is_file()
