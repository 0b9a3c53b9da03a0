"""The scripts of docs/examples run from the first line to the last, as a reader pastes them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "docs" / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs(path, tmp_path):
    pytest.importorskip("phonemizer", reason="the extra `speech` is not installed")
    environment = {**os.environ, "CDSLM_EVAL_STORE": str(tmp_path / "s.cdslm"), "CDSLM_EVAL_PLUGINS": ""}
    done = subprocess.run(
        [sys.executable, path], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "pjsd_1 proportional" in done.stdout
