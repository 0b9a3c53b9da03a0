"""Every command's help has an example that runs, options in groups, completion, and names that are not cut."""

from __future__ import annotations

import os
import shlex
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import typer
from typer.testing import CliRunner

from cdslm_eval.cli import _general_first, app
from cdslm_eval.cli.examples import EXAMPLES, command_infos
from cdslm_eval.core.store import Store, default_store_path
from cdslm_eval.plugin.host import Host

SUITE = """
name = "nightly"
recognizer = "sidecar"
[systems.a]
path = "samples/model-a"
[metrics.signal]
"""
PLAN = """
name = "tiny"
[[systems]]
name = "toy"
train = "python train.py --depth {size} --flops {budget} --out {run}"
generator = "noise"
sizes = [1]
budgets = [1e12]
"""
# what an example of an evening would cost a test is made small; its command line stays as it is shown
SMALLER = {
    "fit": "--replicates 20",
    "fit downstream": "--replicates 20 --map line",
    "score": "--jobs 1 -m signal",
    "compare": "--jobs 1 -m signal",
    "run": "--jobs 1",
}
ORDER = ("score", "run", "record", "fit simulate")


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.setenv("CDSLM_EVAL_STORE", str(tmp_path / "store.cdslm"))
    monkeypatch.setenv("CDSLM_EVAL_PLUGINS", "")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)

    def run(line):
        return CliRunner().invoke(app, _general_first(shlex.split(line)))

    return run


def test_every_example_runs(call, tmp_path, tone_set):
    for name, seed in (("real", 0), ("model-a", 1), ("model-b", 2)):
        tone_set(name, 6, seed)
    (tmp_path / "samples").mkdir()
    (tmp_path / "talks").mkdir()
    sf.write(tmp_path / "talks" / "a.wav", np.zeros((8000, 2)), 8000)
    for name in ("model-a", "model-b"):
        shutil.move(tmp_path / name, tmp_path / "samples" / name)
    (tmp_path / "suite.toml").write_text(SUITE)
    (tmp_path / "plan.toml").write_text(PLAN)
    (tmp_path / "optima.csv").write_text("C,n_star\n1e18,1e7\n1e19,3.1e7\n1e20,1e8\n")
    later = [name for name in EXAMPLES if name not in ORDER]
    for name in (*ORDER, *later):
        line = EXAMPLES[name].removeprefix("cdslm-eval ")
        if name == "demo":  # a minute: `make demo` runs it
            continue
        if name == "merge":
            for part in ("part1.cdslm", "part2.cdslm"):
                shutil.copy(tmp_path / "store.cdslm", tmp_path / part)
        small = SMALLER.get(name, SMALLER.get(name.split()[0], ""))
        if "--replicates" in small and "--replicates" not in call(f"{name} --help").output:
            small = ""
        if name == "store estimate":  # the examples before it left rows of two recognizers
            with Store(default_store_path(), read_only=True) as store:
                ((ident,),) = store.query("SELECT max(identity) FROM rows WHERE identity LIKE 'signal@%'")
            small = f"--identity {ident}"
        done = call(f"{line} {small}")
        assert done.exit_code == 0, (name, done.output, done.exception)
        if name == "fit simulate":
            table = pd.read_csv(tmp_path / "runs.csv")
            table.assign(mos=5 - table["loss"]).to_csv(tmp_path / "runs.csv", index=False)


def test_every_command_shows_its_example_on_one_line_at_80_columns(call):
    names = [name for name, _ in command_infos(app)]
    assert set(names) == set(EXAMPLES)
    for name in names:
        shown = call(f"{name} --help").output
        assert EXAMPLES[name] in shown, name
        assert EXAMPLES[name].startswith(f"cdslm-eval {name} ") or EXAMPLES[name] == f"cdslm-eval {name}"


def test_long_help_groups_its_options_and_leaves_few_ungrouped(call):
    group = typer.main.get_command(app)
    for words in (("score",), ("compare",), ("run",), ("fit", "law"), ("fit", "downstream"), ("fit", "simulate")):
        command = group
        for word in words:
            command = command.commands[word]
        options = [p for p in command.params if p.param_type_name == "option" and not getattr(p, "hidden", False)]
        loose = [p.name for p in options if p.rich_help_panel in (None, "Other options")]
        # an option that no panel names is shown under the last one; more than a few would be a list again
        assert len(loose) <= 3, (words, loose)


def complete(line):
    words = line.split(" ")
    return CliRunner().invoke(
        app, env={"_ROOT_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        prog_name="root",
    ).output.split()  # fmt: skip


def test_commands_metrics_generators_and_suites_are_completed(call, tmp_path):
    (tmp_path / "speech.toml").write_text(SUITE)
    assert complete("root com") == ["compare"]
    assert complete("root score x -m pjsd,sig") == ["pjsd,signal"]
    assert complete("root score x -m pjsd,pj") == []
    assert complete("root generate bab") == ["babble"]
    assert complete("root run spe") == ["speech.toml"]
    assert complete("root score x --format l") == ["latex"]
    assert complete("root score x --recognizer pock") == ["pocketsphinx"]
    assert complete("root fit iso") == ["isoflop"]


def test_listings_keep_every_name_whole_at_80_columns(call):
    host = Host()
    for command, kind in (("metrics", "metric"), ("generators", "generator"), ("recognizers", "recognizer")):
        words = call(command).output.split()
        assert set(host.registered(kind)) <= set(words), command
    for command in ("plugins", "doctor", "generators"):
        shown = call(command).output
        assert "…" not in shown
        assert all(plugin.name in shown for plugin in host.plugins) or command != "plugins"
        assert all(len(line) <= 80 or len(line.split()) <= 2 for line in shown.splitlines()), command


def test_quiet_leaves_notes_out_and_keeps_problems_and_verbose_adds_what_is_done(call, tone_set, tmp_path, monkeypatch):
    real = tone_set("real", 3)
    (real / "bad.wav").write_text("not audio")
    line = f"score {real} -m signal --recognizer sidecar --jobs 1 --out page"
    monkeypatch.setenv("CDSLM_EVAL_VERBOSITY", "")
    plain = call(line)
    assert "report: page" in plain.stderr
    quiet = call(f"{line} -q")
    assert "report" not in quiet.stderr
    assert "over the failure budget" in quiet.stderr
    assert quiet.exit_code == 1
    assert quiet.stdout == plain.stdout
    monkeypatch.setenv("CDSLM_EVAL_VERBOSITY", "")
    assert "of them to measure" not in plain.stderr
    assert "--quiet and --verbose" in str(call(f"{line} -q -v").exception)


def test_options_of_all_commands_may_stand_anywhere():
    assert _general_first(["score", "x", "-q", "--", "-v"]) == ["-q", "score", "x", "--", "-v"]
    assert os.environ.get("CDSLM_EVAL_VERBOSITY", "") == ""
