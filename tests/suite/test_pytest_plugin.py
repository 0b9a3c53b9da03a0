"""The pytest plugin: gates as items, the fixture, and nothing heavy when it is not used."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.fixture
def run_pytest(tmp_path):
    def call(*arguments):
        (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-rs", *map(str, arguments)],
            capture_output=True, text=True, check=False, cwd=tmp_path, env=None,
        )  # fmt: skip

    return call


def test_each_gate_is_an_item_with_a_readable_failure(suite_file, run_pytest, tmp_path):
    suite_file()
    done = run_pytest("--cdslm-suite", "suite.toml", "--cdslm-store", "s.cdslm", "--cdslm-jobs", "1")
    assert "2 failed, 1 passed" in done.stdout
    assert "far: pjsd_1.corrected < 0.01 does not hold" in done.stdout
    assert "near: level >= baseline is undecided" in done.stdout
    assert "Traceback" not in done.stdout
    assert "judge.py" not in done.stdout
    # lenient on what is undecided: skipped, with its reason
    suite_file(head='undecided = "pass"')
    lenient = run_pytest("--cdslm-suite", "suite.toml", "--cdslm-store", "s.cdslm", "-k", "loud")
    assert "1 skipped" in lenient.stdout
    assert "more clips would decide it" in lenient.stdout
    suite_file(gates="[[gates]]\ngate = 'pjsd_9 < 1'")
    broken = run_pytest("--cdslm-suite", "suite.toml")
    assert "line 14: gates.0.gate: no metric of the suite measures 'pjsd_9'" in broken.stdout
    assert run_pytest("--cdslm-suite", "none.toml").returncode == 4


def test_the_fixture_scores_directories(suite_file, run_pytest, tmp_path):
    suite_file()
    (tmp_path / "test_mine.py").write_text(
        "def test_mine(score):\n"
        "    result = score('near', 'far', reference='real', recognizer='sidecar')\n"
        "    assert result.estimate('duration', 'near').value == 0.5\n"
        "    assert result.estimate('pjsd_1', 'far').corrected > result.estimate('pjsd_1', 'near').corrected\n"
    )
    done = run_pytest("--cdslm-store", "s.cdslm", "--cdslm-jobs", "1", "test_mine.py")
    assert "1 passed" in done.stdout, done.stdout


def test_it_loads_nothing_when_it_is_not_used(tmp_path):
    (tmp_path / "test_empty.py").write_text("def test_nothing(): pass\n")
    code = (
        "import sys, pytest\n"
        "pytest.main(['-q', '-p', 'cdslm_eval.testing.pytest_plugin', '--co', 'test_empty.py'])\n"
        "heavy = ('cdslm_eval', 'numpy', 'scipy', 'pydantic')\n"
        "print('LOADED', sorted(m for m in sys.modules if m.split('.')[0] in heavy))\n"
    )
    environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, check=True
    )
    assert "LOADED ['cdslm_eval', 'cdslm_eval.testing', 'cdslm_eval.testing.pytest_plugin']" in done.stdout


@pytest.mark.parametrize("xdist", ["-pxdist", "-pno:xdist"])
def test_gates_are_collected_under_strict_markers_with_and_without_xdist(suite_file, run_pytest, xdist):
    suite_file()
    done = run_pytest("--strict-markers", "-Werror", xdist, "--collect-only", "-q", "--cdslm-suite", "suite.toml")
    assert done.returncode == 0, done.stdout
    assert "near: long enough" in done.stdout
