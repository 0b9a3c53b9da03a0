"""What tests of the package and of its plugins share: where the development data lies, small sets of audio."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import settings

ROOT = Path(__file__).parents[1]

# how long an example takes depends on what else the machine does
settings.register_profile("without a clock", deadline=None)
settings.load_profile("without a clock")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the development data beside the repository."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the development data (../shared/data) is not on this machine")
    return folder


@pytest.fixture
def tone_set(tmp_path):
    """Return a function that writes a directory of tones with `.phones` sidecars."""

    def make(name: str, clips: int, rng_seed: int = 0, phones: str = "abcdefgh", length: int = 40, skew: float = 1.0):
        folder = tmp_path / name
        folder.mkdir()
        rng = np.random.default_rng(rng_seed)
        weights = np.arange(1, len(phones) + 1) ** -skew
        for number in range(clips):
            t = np.arange(4000) / 8000
            pitch = 200 + 10 * number + rng.integers(5)
            wave = 0.3 * np.sin(2 * np.pi * pitch * t) + 0.01 * rng.standard_normal(4000)
            sf.write(folder / f"c{number:02d}.wav", wave.astype(np.float32), 8000)
            spoken = rng.choice(list(phones), length, p=weights / weights.sum())
            (folder / f"c{number:02d}.phones").write_text(" ".join(spoken))
        return folder

    return make
