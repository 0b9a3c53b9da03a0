"""A small suite with sidecar phones: one gate that passes, one that fails, one undecided."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

GATES = """
[[gates]]
name = "long enough"
gate = "duration.high > 0.2"  # every clip lasts as long, so that there is no interval
systems = ["near"]

[[gates]]
name = "like speech"
gate = "pjsd_1.corrected < 0.01"
systems = ["far"]

[[gates]]
name = "as loud"
gate = "level >= baseline"
systems = ["near"]
baseline = "far"
"""


@pytest.fixture
def suite_file(tone_set, tmp_path):
    """Return a function that writes the suite; its three sets are made once."""
    tone_set("real", 24), tone_set("near", 24, 1), tone_set("far", 24, 2, skew=-1.0)

    def write(gates: str = GATES, head: str = "", systems: str = "", name: str = "suite.toml"):
        path = tmp_path / name
        path.write_text(
            f'name = "small"\nrecognizer = "sidecar"\n{head}\n[references.real]\npath = "real"\n'
            f'[systems.near]\npath = "near"\n[systems.far]\npath = "far"\n{systems}\n'
            f"[metrics.pjsd]\n[metrics.signal]\n{gates}"
        )
        return path

    return write


@pytest.fixture
def cli(tmp_path):
    """Return a function that calls the real command line in the test's folder."""

    def call(*arguments, code=0):
        environment = {**os.environ, "CDSLM_EVAL_STORE": str(tmp_path / "store.cdslm"), "CDSLM_EVAL_PLUGINS": ""}
        done = subprocess.run(
            [sys.executable, "-m", "cdslm_eval", *map(str, arguments)],
            env=environment, capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return call
