"""The CI files that users copy are valid, and the commands in them take the options they use."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cdslm_eval.cli import app

ROOT = Path(__file__).parents[2]
FILES = [ROOT / ".github/workflows/release.yml", ROOT / "docs/ci/action.yml", ROOT / "docs/ci/gitlab-ci.yml"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_file_is_yaml_and_its_options_exist(path):
    assert isinstance(yaml.safe_load(path.read_text()), dict)
    for command, rest in re.findall(r"cdslm-eval (run) (.*)", path.read_text()):
        shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in shown, option


def test_the_release_builds_every_distribution():
    steps = yaml.safe_load(FILES[0].read_text())["jobs"]["build"]["steps"]
    (build,) = [step["run"] for step in steps if "build --outdir" in step.get("run", "")]
    assert ". plugins/*/" in build
    assert all((folder / "pyproject.toml").is_file() for folder in (ROOT / "plugins").glob("[!_]*/"))


GATED = """
name = "nightly"
recognizer = "sidecar"
[systems.a]
path = "a"
[metrics.signal]
[[gates]]
name = "short: under a tenth, \\n of a second"
gate = "duration.high < 0.1"
"""


@pytest.mark.parametrize("path", FILES[1:], ids=lambda path: path.name)
def test_its_script_runs_fails_on_a_gate_and_leaves_its_reports(path, tone_set, tmp_path):
    tone_set("a", 3)
    (tmp_path / "suite.toml").write_text(GATED)
    document = yaml.safe_load(path.read_text())
    steps = document["runs"]["steps"] if "runs" in document else []
    lines = [step["run"] for step in steps if "run" in step] or document["speech-quality"]["script"]
    script = "\n".join(line for line in lines if "pip install" not in line)
    script = script.replace("${{ inputs.suite }}", "suite.toml")
    program = f'cdslm-eval() {{ {shlex.quote(sys.executable)} -m cdslm_eval "$@"; }}\nset -e\n{script}'
    environment = {**os.environ, "CDSLM_EVAL_PLUGINS": "", "GITHUB_STEP_SUMMARY": str(tmp_path / "step.md")}
    done = subprocess.run(
        ["bash", "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 4, done.stderr
    junit = next(tmp_path.rglob("junit.xml")).read_text()
    assert float(re.search(r'<testsuite [^>]*time="([\d.]+)"', junit)[1]) > 0
    assert float(re.search(r'<testcase [^>]*time="([\d.]+)"', junit)[1]) > 0
    if "runs" in document:
        assert "1 of 1 gates failed" in (tmp_path / "step.md").read_text()
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("::")]
        assert line.startswith("::error file=")
        # the separators of a name that anybody wrote are escaped
        assert ",line=9,title=cdslm-eval%3A a%3A short%3A under a tenth%2C %0A of a second::" in line
