"""Both forms of a checkpoint against upstream's own inference; batches against one by one; autocast; the contract."""

from __future__ import annotations

import importlib
import json
import sys
import types

import numpy as np
import pytest
import torch
from cdslm_eval_aesthetics import Aesthetics, AestheticsOptions

from cdslm_eval.testing import METRIC_CHECKS

AXES = ("ce", "cu", "pc", "pq")


def measured(model, clips, **options):
    metric = Aesthetics(AestheticsOptions(model=str(model), **options))
    with metric.open("cpu"):
        rows = list(metric.measure(clips))
    return np.array([[row[axis] for axis in AXES] for row in rows])


@pytest.fixture(scope="module")
def upstream_rows(pt_file, clips, small_sizes):
    """What audiobox_aesthetics.infer gives; of torchaudio it needs one function, which changes nothing at 16 kHz."""
    torchaudio = types.ModuleType("torchaudio")
    torchaudio.functional = types.SimpleNamespace(resample=lambda wave, orig_freq, new_freq: wave)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torchaudio", torchaudio)
        infer = importlib.import_module("audiobox_aesthetics.infer")
        with pytest.warns(FutureWarning, match="weight_norm"):
            predictor = infer.AesPredictor(checkpoint_pth=str(pt_file))
        batch = [{"path": torch.from_numpy(clip.samples)[None], "sample_rate": 16_000} for clip in clips]
        with pytest.warns(UserWarning, match="mismatched key_padding_mask"):
            rows = predictor.forward(batch)
        sys.modules.pop("audiobox_aesthetics.infer", None)
    return np.array([[row[axis.upper()] for axis in AXES] for row in rows])


def test_it_agrees_with_upstreams_own_inference_in_both_forms(folder, pt_file, clips, upstream_rows):
    assert np.ptp(upstream_rows, axis=0).min() > 0.01  # the checkpoint separates clips
    np.testing.assert_allclose(measured(folder, clips), upstream_rows, atol=1e-4)
    np.testing.assert_allclose(measured(pt_file, clips), upstream_rows, atol=1e-4)


def test_a_batch_gives_what_clips_give_one_by_one(folder, clips):
    together = measured(folder, clips)
    alone = np.concatenate([measured(folder, [clip]) for clip in clips])
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_a_long_clip_is_the_length_weighted_mean_of_its_windows(folder, clips):
    (long,) = (clip for clip in clips if len(clip.samples) > 320_000)
    cuts = [long.samples[start : start + 160_000] for start in (0, 160_000, 320_000)]
    parts = measured(folder, [type(long)(key="p", samples=cut, rate_hz=16_000) for cut in cuts])
    mean = np.average(parts, axis=0, weights=[len(cut) for cut in cuts])
    np.testing.assert_allclose(measured(folder, [long])[0], mean, atol=1e-4)


def upstream_under_autocast(model, clip):
    """Upstream's network with autocast forced on: its own switch compares the wrong string and never does it."""
    wave, mask = torch.zeros(1, 1, 160_000), torch.zeros(1, 1, 160_000, dtype=torch.bool)
    wave[0, 0, : len(clip.samples)], mask[..., : len(clip.samples)] = torch.from_numpy(clip.samples), True
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(model, "precision", torch.bfloat16)
        patch.setattr(model, "enable_autocast", True)
        with pytest.warns(UserWarning, match="mismatched key_padding_mask"):
            scores = model({"wav": wave, "mask": mask})
    return [float(scores[axis]) * scale["std"] + scale["mean"] for axis, scale in model.target_transform.items()]


def test_autocast_switches_on_and_is_part_of_the_identity(folder, clips, upstream_model):
    metric = Aesthetics(AestheticsOptions(model=str(folder), precision="bfloat16"))
    seen = []
    with metric.open("cpu"):
        layer = metric._network._module.wavlm_model.encoder.layers[0].fc1
        layer.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
        half = np.array([[row[axis] for axis in AXES] for row in metric.measure(clips[:3])])
    assert set(seen) == {torch.bfloat16}
    # How far bfloat16 moves a score depends on the processor's kernels, and so is not asserted. What holds on each is
    # that upstream, forced into the same precision, is as near as two orders of the same 8-bit sums are: this random
    # network amplifies the last bit into a few tenths, of scores that differ by several between clips and axes.
    forced = np.array([upstream_under_autocast(upstream_model, clip) for clip in clips[:3]])
    np.testing.assert_allclose(half, forced, atol=0.5)
    plain = Aesthetics(AestheticsOptions(model=str(folder), precision="float32")).fingerprint()
    assert {name for name, fact in metric.fingerprint().items() if plain[name] != fact} == {"precision"}


def test_digests_are_part_of_the_identity(folder, pt_file):
    facts = Aesthetics(AestheticsOptions(model=str(folder))).fingerprint()
    assert {"weights", "config", "audiobox_aesthetics", "precision"} == set(facts)
    assert facts["weights"] != Aesthetics(AestheticsOptions(model=str(pt_file))).fingerprint()["weights"]


@pytest.mark.parametrize("check", METRIC_CHECKS, ids=str)
def test_the_contract(check, folder):
    check(Aesthetics(AestheticsOptions(model=str(folder))))


def test_the_configuration_is_what_upstream_writes(folder):
    """Hub and folder share one form; this one was written by upstream's save_pretrained."""
    assert set(json.loads((folder / "config.json").read_text())["target_transform"]) == {"CE", "CU", "PC", "PQ"}
