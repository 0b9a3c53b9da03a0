"""Griffin-Lim in pieces: phases continue over the joins of pieces."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from model.conftest import vowels  # noqa: E402 - torch may be absent

from cdslm_model.data.mel import LogMel, MelSpec  # noqa: E402
from cdslm_model.sample import vocoder  # noqa: E402


def test_pieces_of_a_clip_join_without_a_seam(monkeypatch):
    spec = MelSpec()
    speech = torch.from_numpy(vowels(np.random.default_rng(0), 3.0, spec.rate_hz))[None]
    log_mel = LogMel(spec)
    first, resynthesise = log_mel(speech), vocoder.GriffinLim(spec, iterations=24)

    def rmse(frames):
        """Return the error of frames after the way back, in dB, within 60 dB of the loudest."""
        audible = first > first.amax() - 3
        error = 20 * (log_mel(resynthesise(first)) - first)
        return float(error[:, frames][audible[:, frames]].square().mean().sqrt())

    joins = [frame for join in (60, 120, 180) for frame in range(join - 3, join + 4)]
    whole = rmse(joins)
    monkeypatch.setattr(vocoder, "_PIECE_FRAMES", 60)
    joined = rmse(joins)
    assert joined < 2 * whole, "steady tones are the hardest case; in speech the factor is 1.05"
    # without the samples before it, a piece begins at a phase of its own
    monkeypatch.setattr(vocoder.GriffinLim, "_begun", staticmethod(lambda samples, known: samples))
    assert rmse(joins) > 2 * joined
