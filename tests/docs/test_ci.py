"""The commands of docs/ci.md are run as they stand, shard by shard; the suite in it is a suite."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

TEXT = (Path(__file__).parents[2] / "docs" / "ci.md").read_text()


@pytest.fixture
def workplace(tone_set, tmp_path):
    for number, name in enumerate(("real", "released", "candidate")):
        tone_set(name, 24, number)
    suite = re.search(r"```toml\n(.*?)```", TEXT, re.DOTALL)[1]
    (tmp_path / "speech.toml").write_text(suite.replace('name = "nightly"', 'name = "nightly"\nrecognizer = "sidecar"'))
    return tmp_path


def test_the_suite_keeps_the_schema():
    import tomllib

    from cdslm_eval.suite import json_schema

    jsonschema.validate(tomllib.loads(re.search(r"```toml\n(.*?)```", TEXT, re.DOTALL)[1]), json_schema())


def test_the_commands_of_the_workflow_run_as_they_stand(workplace):
    workflow = re.search(r"```yaml\n(.*?)```", TEXT, re.DOTALL)[1]
    commands = [line for line in re.findall(r"run: (.*)", workflow) if "pip install" not in line]
    commands += re.search(r"```\n(cdslm-eval record.*?)```", TEXT, re.DOTALL)[1].splitlines()
    sharded = [command for command in commands if "matrix.shard" in command]
    assert len(sharded) == 1
    script = [sharded[0].replace("${{ matrix.shard }}", str(number)) for number in (1, 2, 3)]
    script += [command for command in commands if command not in sharded]
    program = f'cdslm-eval() {{ {shlex.quote(sys.executable)} -m cdslm_eval "$@"; }}\nset -e\n' + "\n".join(script)
    environment = {**os.environ, "CDSLM_EVAL_PLUGINS": "", "GITHUB_STEP_SUMMARY": str(workplace / "step.md")}
    done = subprocess.run(
        ["bash", "-c", program], cwd=workplace, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 4), done.stderr
    assert (
        "## nightly" in (workplace / "step.md").read_text()
        if done.returncode == 0
        else (workplace / "junit.xml").is_file()
    )
