"""The tutorial's metric is built around the ONNX file that the tutorial writes, and passes the tests in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

ROOT = Path(__file__).parents[2]


def test_the_metric_of_the_tutorial_passes_its_own_tests(tmp_path):
    page = (ROOT / "docs" / "writing-a-metric-with-a-model.md").read_text()
    network, metric, tests = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    package = tmp_path / "cdslm_eval_brightness"
    package.mkdir()
    (package / "__init__.py").write_text(metric)
    (tmp_path / "test_cdslm_eval_brightness.py").write_text(tests)
    subprocess.run([sys.executable, "-c", network], cwd=package, check=True, capture_output=True)
    assert (package / "brightness.onnx").stat().st_size < 2000
    path = os.pathsep.join(filter(None, [str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path}, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    # three tones known by hand, and the kit
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 20
