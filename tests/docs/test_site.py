"""The documentation site builds without a broken link, and its references list what there is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("material", reason="the site's packages are installed by `make docs`")
pytest.importorskip("mkdocs_gen_files", reason="the site's packages are installed by `make docs`")

import cdslm_eval

ROOT = Path(__file__).parents[2]


def test_the_site_builds_strictly_and_its_references_are_whole(tmp_path):
    environment = {**os.environ, "DISABLE_MKDOCS_2_WARNING": "true", "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    python = (tmp_path / "reference/python.html").read_text()
    for name in cdslm_eval.__all__:
        assert name.startswith("__") or f'id="cdslm_eval.{name}"' in python, name
    commands = (tmp_path / "reference/cli.html").read_text()
    for name in ("score", "compare", "fit-law", "run", "ladder", "doctor"):
        assert f'id="cdslm-eval-{name}"' in commands, name
    assert not re.search(r'(?:src|href)="https?://(?:fonts|cdn|unpkg)', commands)
