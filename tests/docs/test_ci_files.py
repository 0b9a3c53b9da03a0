"""The CI files that users copy are valid, and the commands in them take the options they use."""

from __future__ import annotations

import re
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
    assert all((folder / "pyproject.toml").is_file() for folder in (ROOT / "plugins").iterdir() if folder.is_dir())
