"""`new-plugin` and the tutorials: what they give installs, keeps the contract, and is in the lists."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cdslm_eval.cli.new_plugin import Kind, new_plugin
from cdslm_eval.core.errors import UsageError

ROOT = Path(__file__).parents[2]
KINDS = {"loudness": "metric", "hum": "generator", "zero-crossings": "recognizer"}


def run(*arguments, environment=None, cwd=None, check=True):
    done = subprocess.run(
        [sys.executable, "-m", *arguments], env=environment, cwd=cwd, capture_output=True, text=True, check=False
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def install(projects, target):
    pip = ("pip", "install", "-q", "--no-deps", "--no-build-isolation", "--upgrade", "--target", str(target))
    run(*pip, *map(str, projects))
    paths = [str(target), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugins")
    for name, kind in KINDS.items():
        run(
            "cdslm_eval",
            "new-plugin",
            name,
            "--kind",
            kind,
            cwd=folder,
            environment={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    return folder


@pytest.fixture(scope="module")
def environment(written):
    return install([written / name for name in KINDS], written / "site")


def test_what_is_written_passes_its_own_tests(written, environment):
    folders = [str(written / name / "tests") for name in KINDS]
    done = run("pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", *folders, environment=environment)
    assert re.search(r"\b([4-6]\d) passed", done.stdout), done.stdout


def test_the_licence_is_the_authors_choice_and_test_names_do_not_collide(written):
    for name in KINDS:
        metadata = tomllib.loads((written / name / "pyproject.toml").read_text())["project"]
        assert "license" not in metadata
        assert "cdslm-eval[speech]" in metadata["optional-dependencies"]["test"]
        workflow = (written / name / ".github/workflows/tests.yml").read_text()
        assert "python-version: ${{ matrix.python }}" in workflow
    names = [path.name for path in written.glob("*/tests/test_*.py")]
    assert len(names) == len(set(names)) == 2 * len(KINDS)


def test_it_is_in_the_lists_and_usable(environment):
    for name, kind in KINDS.items():
        listed = {
            entry["name"]: entry
            for entry in json.loads(run("cdslm_eval", f"{kind}s", "--json", environment=environment).stdout)
        }
        assert listed[name]["owner"] == f"cdslm-eval-{name}:{name}"
        assert listed[name]["offline"] is True


def test_a_written_metric_and_generator_meet_in_one_table(environment, tmp_path):
    run(
        "cdslm_eval",
        "generate",
        "hum",
        "--count",
        "4",
        "--seconds",
        "1",
        "--out",
        str(tmp_path / "hums"),
        environment=environment,
    )
    done = run("cdslm_eval", "score", str(tmp_path / "hums"), "--metrics", "loudness", "--store", str(tmp_path / "s"),
               "--json", "-", environment=environment)  # fmt: skip
    (estimate,) = json.loads(done.stdout)["estimates"]
    assert estimate["name"] == "loudness"
    assert estimate["n_scored"] == 4
    assert -30 < estimate["value"] < 0


def test_what_is_there_is_not_written_over(written):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    again = run("cdslm_eval", "new-plugin", "hum", cwd=written, environment=environment, check=False)
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_a_name_that_cannot_be_one_gets_a_hint(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = run("cdslm_eval", "new-plugin", "My Metric", cwd=tmp_path, environment=environment, check=False)
    assert done.returncode == 2
    assert "Did you mean 'my-metric'?" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("tutorial", "name", "kind"),
    [("writing-a-metric.md", "silence", "metric"), ("writing-a-generator.md", "hum", "generator")],
)
def test_a_tutorial_ends_in_a_plugin_whose_tests_pass(tutorial, name, kind, tmp_path):
    run(
        "cdslm_eval",
        "new-plugin",
        name,
        "--kind",
        kind,
        cwd=tmp_path,
        environment={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / tutorial).read_text(), re.DOTALL)
    package = f"cdslm_eval_{name}"
    (tmp_path / name / package / "__init__.py").write_text(blocks[0])
    (tmp_path / name / "tests" / f"test_{package}.py").write_text(blocks[1])
    if len(blocks) > 2:
        (tmp_path / name / "tests" / f"test_{package}_contract.py").write_text(blocks[2])
    environment = install([tmp_path / name], tmp_path / "site")
    done = run(
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--import-mode=importlib",
        str(tmp_path / name / "tests"),
        environment=environment,
    )
    assert "failed" not in done.stdout


def test_a_name_that_is_taken_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="a metric 'pjsd' already, from cdslm-eval:metrics; choose another name"):
        new_plugin("pjsd", Kind.metric)
    assert not list(tmp_path.iterdir())
