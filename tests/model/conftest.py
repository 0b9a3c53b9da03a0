"""What the model's tests share: a small corpus that speaks in formants, prepared, and a run on it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from cdslm_eval.core.verbosity import VERBOSITY

try:
    import torch
except ImportError:
    torch = None

# A native crash prints the Python stack of every thread
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONFAULTHANDLER": "1"}
LENGTH = ("--context-seconds", "0.25", "--continuation-seconds", "0.5")
SMALL = ("--depth", "1", "--batch-size", "4", "--valid-windows", "8", "--lr", "2e-3", "--ema", "0.9", *LENGTH)


class Skipped(pytest.Module):
    """A test module that cannot be imported here."""

    def collect(self):
        pytest.skip("the extra `model` is not installed", allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    """Skip, with the reason, what needs torch: the rest of the package is tested without it."""
    return Skipped.from_parent(parent, path=module_path) if torch is None else None


def cdslm(*arguments: str | Path, **options) -> subprocess.CompletedProcess[str]:
    """Run the real command line."""
    command = [sys.executable, "-m", "cdslm_model.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False, **options)


@dataclass(frozen=True)
class Finished:
    """What a command came to in this process."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def inside(capsys, monkeypatch):
    """Return a function that runs the command line in this process, which saves the seconds of importing torch."""

    def run(*arguments: str | Path) -> Finished:
        from cdslm_model.cli import main

        monkeypatch.setattr(sys, "argv", ["cdslm", *map(str, arguments)])
        # --quiet reaches other processes by the environment, and is not to reach the next test
        monkeypatch.setenv(VERBOSITY, "")
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        return Finished(code, captured.out, captured.err)

    return run


def vowels(rng: np.random.Generator, seconds: float, rate_hz: int = 16_000) -> np.ndarray:
    """Return a drone whose two formants wander: something with structure in time and frequency to learn."""
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    wave = np.zeros(len(t))
    for low, high in ((300, 900), (900, 2500)):
        knots = rng.uniform(low, high, int(seconds * 4) + 2)
        pitch = np.interp(t, np.linspace(0, seconds, len(knots)), knots)
        wave += np.sin(2 * np.pi * np.cumsum(pitch) / rate_hz)
    return (0.1 * wave + 0.003 * rng.standard_normal(len(t))).astype(np.float32)


@pytest.fixture(autouse=True)
def one_thread():
    """Small networks are fastest on one thread, and tests run side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """Return a directory with train and valid splits of different clips."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("valid", 6)):
        (folder / split).mkdir()
        for number in range(count):
            sf.write(folder / split / f"{number:02d}.wav", vowels(rng, rng.uniform(1.5, 3.0)), 16_000)
    return folder


@pytest.fixture(scope="session")
def shards(corpus, tmp_path_factory) -> Path:
    """Return the corpus prepared through the command line."""
    folder = tmp_path_factory.mktemp("shards")
    done = cdslm("prepare", corpus, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def trained(shards, tmp_path_factory) -> Path:
    """Return a short run, trained through the command line without a break."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    done = cdslm("train", "--data", shards, "--out", folder, *SMALL, "--steps", "40", "--save-every", "10")
    assert done.returncode == 0, done.stderr
    return folder
