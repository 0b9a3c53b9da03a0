"""The four paths of docs/paths run from the first command to the last, and leave what they promise."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("docs_paths", ROOT / "docs" / "build" / "paths.py")
paths = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(paths)


@pytest.fixture
def path_folder(tmp_path):
    """Return a function that runs a path in an empty folder and returns the folder and what was printed."""

    def run(name, **environment):
        done = paths.run(paths.SCRIPTS[name], tmp_path, environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return tmp_path, done.stdout + done.stderr

    return run


def test_every_path_has_its_row_with_the_present_number_of_commands():
    rows = dict(re.findall(r"^\| \[`([\w-]+)\.sh`\].*?\| (\d+) \|", paths.PAGE.read_text(), re.MULTILINE))
    assert rows == {name: str(paths.command_count(script)) for name, script in paths.SCRIPTS.items()}
    assert len(rows) == 4


def test_a_researcher_gets_a_page_and_a_table(path_folder):
    pytest.importorskip("phonemizer", reason="the extra `speech` is not installed")
    folder, _ = path_folder("researcher")
    result = json.loads((folder / "report" / "result.json").read_text())
    value = {estimate["system"]: estimate["value"] for estimate in result["estimates"] if estimate["name"] == "pjsd_2"}
    # phone bigrams in the proportions of the text are nearer to it than uniform phones
    assert value["ours"] < value["theirs"]
    # underscores are escaped in markdown
    assert r"pjsd\_2" in (folder / "table.md").read_text()


def test_a_plugin_author_gets_an_installed_metric(path_folder):
    _, printed = path_folder("plugin-author")
    assert re.search(r"samples +1 ", printed)  # the crest factor of silence, as its docstring states
    assert re.search(r"\d\d passed", printed)
    assert "cdslm-eval-loudness" in printed


def test_a_ci_engineer_gets_verdicts(path_folder):
    folder, printed = path_folder("ci-engineer", CDSLM_EVAL_PLUGINS="")
    assert "PASS: candidate: silence_share <= 1" in printed
    assert "no change shown against the recorded run" in printed
    assert "duration > 60 is undecided" in printed
    assert 'tests="1"' in (folder / "junit.xml").read_text()
    assert (folder / "report" / "index.html").is_file()


def test_a_modeller_gets_continuations_and_a_law(path_folder):
    pytest.importorskip("torch", reason="the extra `model` is not installed")
    pytest.importorskip("phonemizer", reason="the extra `speech` is not installed")
    folder, _ = path_folder("modeller", CDSLM_EVAL_PLUGINS="cdslm-eval:model")
    assert len(list((folder / "continuations").glob("*.flac"))) == 4
    law = json.loads((folder / "scaling" / "fit.json").read_text())["law"]
    # the table is made from this law without noise, and its parameters come back
    assert [law[name] for name in ("E", "alpha", "beta")] == pytest.approx([1.8, 0.34, 0.28], abs=1e-3)
