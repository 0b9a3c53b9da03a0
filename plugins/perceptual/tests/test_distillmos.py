"""Distill-MOS against the package's own network on ten clips, degradations, and the contract."""

from __future__ import annotations

import sys
import types
from importlib.util import find_spec

import numpy as np
import pytest
from cdslm_eval_perceptual import distillmos
from cdslm_eval_perceptual.distillmos import DistillMosMetric

from cdslm_eval.core.audio import Clip
from cdslm_eval.core.errors import EvalError
from cdslm_eval.testing import check_metric
from cdslm_eval.testing.clips import spoken

torch = pytest.importorskip("torch")
if find_spec("distillmos") is None:
    pytest.skip("distillmos is not installed", allow_module_level=True)


def measured(clips):
    metric = DistillMosMetric()
    with metric.open("cpu"):
        rows = metric.measure([Clip(key=str(n), samples=clip, rate_hz=16_000) for n, clip in enumerate(clips)])
        return [row["mos"] for row in rows]


def ten_clips():
    """Return five voices, and the same with noise; the last lasts several segments."""
    rng = np.random.default_rng(0)
    voices = [clip.reference.samples for clip in spoken()]
    voices[-1] = np.tile(voices[-1], 7)[: 16_000 * 13]
    return [*voices, *((voice + 0.02 * rng.standard_normal(len(voice))).astype(np.float32) for voice in voices)]


def test_scores_are_those_of_the_package(monkeypatch):
    if find_spec("xls_r_sqa") is None:
        pytest.skip("xls-r-sqa, the other half of the published network, is not installed")
    # torchaudio only reads files there
    monkeypatch.setitem(sys.modules, "torchaudio", types.ModuleType("torchaudio"))
    from distillmos import ConvTransformerSQAModel

    network = ConvTransformerSQAModel().eval()
    clips = ten_clips()
    with torch.no_grad():
        expected = [network(torch.from_numpy(clip)[None]).item() for clip in clips]
    np.testing.assert_allclose(measured(clips), expected, atol=1e-3)


def test_strong_noise_costs_quality_and_level_does_not():
    clean = spoken()[1].reference.samples
    noise = np.random.default_rng(0).standard_normal(len(clean)).astype(np.float32)
    base, quiet, noisy = measured([clean, 0.1 * clean, clean + 0.1 * noise])
    assert quiet == pytest.approx(base, abs=1e-3)
    assert base > noisy + 0.5


def test_other_weights_are_refused(monkeypatch):
    monkeypatch.setattr(distillmos, "_SHA256", "0" * 64)
    with pytest.raises(EvalError, match="SHA-256"), DistillMosMetric().open("cpu"):
        pass


@pytest.mark.parametrize("check", check_metric(DistillMosMetric), ids=str)
def test_the_contract(check):
    check()
