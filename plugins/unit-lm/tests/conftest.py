"""A small corpus whose units follow each other in a fixed order, prepared, and a run on it."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

RATE_HZ = 16_000
PITCHES_HZ = (200, 500, 1100, 2300)


@dataclass(frozen=True)
class Finished:
    """What a command came to."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Small networks are fastest on one thread, and tests run side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield
    torch.set_num_threads(before)


def _inside(main: Callable[[], None], *arguments: str | Path) -> Finished:
    """Run a command line in this process, which saves the seconds of importing torch."""
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["command", *map(str, arguments)]
    code = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.argv = before
    return Finished(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def unit_lm() -> Callable[..., Finished]:
    from cdslm_eval_unit_lm.cli import main

    return lambda *arguments: _inside(main, *arguments)


@pytest.fixture(scope="session")
def prepare() -> Callable[[Path], Path]:
    """Return a function that prepares a folder of clips, and returns where the shards are."""
    from cdslm_model.cli import main

    def run(folder: Path) -> Path:
        done = _inside(main, "prepare", folder, "--out", folder / "shards")
        assert done.returncode == 0, done.stderr
        return folder / "shards"

    return run


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """Return clips that step through four tones in a fixed order, each for 0.2 s, from any of them on."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    tones = [np.sin(2 * np.pi * pitch * np.arange(RATE_HZ // 5) / RATE_HZ) for pitch in PITCHES_HZ]
    for number in range(16):
        split = folder / ("valid" if number >= 11 else "train")
        split.mkdir(exist_ok=True)
        wave = np.concatenate([tones[(number + step) % 4] for step in range(12)])
        noisy = 0.1 * wave + 0.002 * rng.standard_normal(len(wave))
        sf.write(split / f"{number:02d}.wav", noisy.astype(np.float32), RATE_HZ)
    return folder


@pytest.fixture(scope="session")
def shards(corpus, prepare) -> Path:
    return prepare(corpus)


@pytest.fixture(scope="session")
def short() -> tuple[str, ...]:
    """Return the options of every run of these tests."""
    window = ("--context-seconds", "0.25", "--continuation-seconds", "0.75", "--batch-size", "8")
    small = ("--size", "1", "--units", "12", "--stride", "4", "--valid-windows", "8", "--lr", "3e-3")
    return (*small, *window, "--save-every", "20", "--device", "cpu")


@pytest.fixture(scope="session")
def trained(unit_lm, shards, short, tmp_path_factory) -> Path:
    """Return a run of 120 steps without a break."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    done = unit_lm("train", "--data", shards, "--out", folder, *short, "--steps", "120")
    assert done.returncode == 0, done.stderr
    return folder
