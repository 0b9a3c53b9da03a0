"""Spectrograms of a set: long clips are drawn by their first minute."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile as sf

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from model.conftest import vowels  # noqa: E402 - torch may be absent

from cdslm_model.sample.pictures import draw_set  # noqa: E402


def test_of_a_long_clip_the_first_minute_is_drawn(tmp_path):
    samples = vowels(np.random.default_rng(0), 70.0, 8000)
    pictures = []
    for name, seconds in (("whole", 70), ("minute", 60), ("less", 50)):
        (tmp_path / name).mkdir()
        sf.write(tmp_path / name / "00000.flac", samples[: seconds * 8000], 8000)
        pictures.append(draw_set(tmp_path / name, 8).read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]
