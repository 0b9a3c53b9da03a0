"""`--executor`: each command runs where it is told to, and names what it cannot use before it measures."""

from __future__ import annotations

import json
import shlex

import pytest
from typer.testing import CliRunner

from cdslm_eval.cli import app
from cdslm_eval.core.errors import UsageError

EXECUTOR = '''
from pathlib import Path

from cdslm_eval.plugin.contract import Options
from cdslm_eval.plugin.execution import Executor, Finished, Produced


class Where(Options):
    note: Path


class Noting(Executor):
    """Works in the process of the command, and writes down for whom."""

    name = "noting"
    Options = Where

    def run(self, worker, next_task, jobs):
        with self.options.note.open("a") as file:
            file.write(f"{type(worker).__name__} {jobs}\\n")
        with worker.open() as work:
            while (task := next_task()) is not None:
                yield from (Produced(task.ident, value) for value in work(task.payload))
                yield Finished(task.ident)
'''
SUITE = """
name = "nightly"
recognizer = "sidecar"
[systems.a]
path = "a"
[metrics.signal]
[run]
executor = "local"
"""


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.setenv("CDSLM_EVAL_STORE", str(tmp_path / "store.cdslm"))
    monkeypatch.setenv("CDSLM_EVAL_PLUGINS", "")
    monkeypatch.chdir(tmp_path)

    def run(line):
        return CliRunner().invoke(app, shlex.split(line))

    return run


def test_each_command_runs_on_the_executor_that_is_named(call, tmp_path, tone_set):
    tone_set("a", 3)
    tone_set("b", 3, 1)
    (tmp_path / "where.py").write_text(EXECUTOR)
    (tmp_path / "suite.toml").write_text(SUITE)
    note = tmp_path / "note.txt"
    used = []
    for command in (
        "score a -m signal --jobs 1",
        "compare a b -m signal --jobs 1",
        "run suite.toml --jobs 1",
    ):
        note.unlink(missing_ok=True)
        (tmp_path / "store.cdslm").unlink(missing_ok=True)
        done = call(f"{command} --executor where.py:Noting:note={note}")
        assert done.exit_code == 0, (command, done.output, done.exception)
        used.append(note.read_text().splitlines())
    # the suite looks for copies among its files first
    assert used == [["Worker 1"], ["Worker 1"], ["_Decoder 1", "Worker 1"]]


def test_an_executor_that_is_not_there_is_named_with_the_nearest_and_its_plugin(call, tone_set):
    tone_set("a", 2)
    for command in ("score a -m signal", "compare a a -m signal"):
        with pytest.raises(UsageError, match=r"'locl'.*Did you mean 'local'"):
            raise call(f"{command} --executor locl").exception
    with pytest.raises(UsageError, match=r"ray is in cdslm-eval-ray. Install: pip install"):
        raise call("score a -m signal --executor ray:cpus=2").exception
    with pytest.raises(UsageError, match="memory_gb"):
        raise call("score a -m signal --executor local:memory=2").exception


def test_a_memory_limit_is_an_option_of_local(call, tone_set):
    tone_set("a", 2)
    assert call("score a -m signal --jobs 1 --executor local --memory-limit 4").exit_code == 0
    with pytest.raises(UsageError, match="--memory-limit is for the executor 'local'; 'ray' has none"):
        raise call("score a -m signal --executor ray --memory-limit 4").exception


def test_executors_are_listed(call):
    (local,) = json.loads(call("executors --json").output)
    assert (local["name"], local["options"]) == ("local", {"memory_gb": None})
    assert any(entry["what"] == "executor local" for entry in json.loads(call("doctor --json").output))
