"""The probe on speech and predictions whose explained variance is known, and through the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from cdslm_model.checkpoint import find_checkpoint  # noqa: E402 - torch may be absent
from cdslm_model.data.windows import Shards, Windows  # noqa: E402
from cdslm_model.guess import CONTEXT_FRAMES, FirstGuess  # noqa: E402
from cdslm_model.sample import probe as module  # noqa: E402
from cdslm_model.sample.probe import probe, ridge_prediction  # noqa: E402


def test_explained_variance_of_known_predictions():
    """Truth explains all, the mean nothing, and truth with noise of half its variance explains half."""
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(4000, 2, 3, generator=generator) + 5
    assert module._explained(real, real) == pytest.approx([1, 1])
    assert module._explained(real.mean(0).expand_as(real), real) == pytest.approx([0, 0], abs=1e-6)
    noisy = real + 0.5**0.5 * torch.randn(real.shape, generator=generator)
    assert module._explained(noisy, real) == pytest.approx([0.5, 0.5], abs=0.03)


def test_a_lead_over_the_ridge_has_the_standard_error_that_repetition_shows():
    """The spread of the lead over many sets of windows is the standard error that one set states."""
    generator = torch.Generator().manual_seed(2)

    def lead():
        real = torch.randn(200, 1, 3, generator=generator)
        # both miss a window by the same, and one by a little more
        hard = torch.randn(200, 1, 1, generator=generator)
        return module._over_ridge(
            real + 0.3 * hard, real + 0.3 * hard + 0.2 * torch.randn(real.shape, generator=generator), real
        )

    leads = [lead() for _ in range(300)]
    values = torch.tensor([one["over_ridge"][0] for one in leads])
    assert float(values.mean()) == pytest.approx(0.2**2, abs=0.002)
    stated = sum(one["over_ridge_se"][0] for one in leads) / len(leads)
    assert stated == pytest.approx(float(values.std()), rel=0.15)


def test_ridge_reaches_the_limit_of_an_autoregressive_process():
    """For x_t = .9 x_t-1 + e, no prediction of frame f explains more than .9^(2 (f + 1)) of its variance."""
    generator = torch.Generator().manual_seed(1)
    frames = [torch.randn(4000, 2, generator=generator)]
    for _ in range(23):
        frames.append(0.9 * frames[-1] + 0.19**0.5 * torch.randn(4000, 2, generator=generator))
    speech = torch.stack(frames, 1)
    context, clean = speech[:, :16], speech[:, 16:]
    predicted = ridge_prediction((context[:2000], clean[:2000]), context[2000:], [0, 1, 4])
    explained = module._explained(predicted, clean[2000:, [0, 1, 4]])
    assert explained == pytest.approx([0.9**2, 0.9**4, 0.9**10], abs=0.03)


def test_a_run_is_probed_at_its_end_and_by_its_own_command(inside, shards, trained):
    stored = json.loads((trained / "result.json").read_text())["probe"]
    assert stored["frames"] == [0, 1, 4, 8, 20]
    assert stored["windows"] == 8
    done = inside("probe", trained, "--data", shards, "--windows", "8", "--device", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert again["explained_variance"] == pytest.approx(stored["explained_variance"], abs=1e-4)
    assert again["ridge"] == pytest.approx(stored["ridge"], abs=1e-6)
    assert len(again["noise_deciles"]) == len(again["noise_deciles_se"]) == 10
    assert again["join_jump"] == pytest.approx(again["join_jump_deviations"] / again["real_jump_deviations"])
    shown = inside("probe", trained, "--data", shards, "--windows", "8", "--device", "cpu").stdout
    assert "join jump" in shown
    assert "ridge" in shown
    assert f"guess  {again['guess'][0]:6.3f}" in shown
    held, guess = Shards(shards / "valid"), FirstGuess.stored(find_checkpoint(trained))
    spread = [Windows(held, 20, 40, True).window((index + 0.5) / 8) for index in range(8)]
    normalize = Shards(shards / "train").normalizer().normalize
    context, clean = (normalize(torch.stack(part)).double().numpy() for part in zip(*spread, strict=True))
    past = context[:, -CONTEXT_FRAMES:].reshape(8, -1)
    mean = (past @ guess.inputs.numpy() @ guess.outputs.numpy()).reshape(8, 24, -1) + guess.offset.numpy()
    own = [
        1 - np.square(mean - clean[:, :24])[:, f].sum() / np.square(clean - clean.mean(0))[:, f].sum()
        for f in range(24)
    ]
    assert again["guess"] == pytest.approx([own[frame] for frame in again["frames"]], abs=1e-4)
    lead = [own - regression for own, regression in zip(again["explained_variance"], again["ridge"], strict=True)]
    assert again["over_ridge"] == pytest.approx(lead, abs=1e-9)
    assert f"difference  {again['over_ridge'][0]:+6.3f}" in shown
    assert f"std. error  {again['over_ridge_se'][0]:6.3f}" in shown


def test_a_network_that_copies_its_context_passes_and_another_context_costs(trained, shards, monkeypatch):
    """At time 1 the target of v is -x0: a network that returns minus its last context frame is a known predictor."""
    from cdslm_model.sample.continuation import Continuer

    monkeypatch.setattr(
        Continuer, "predict", lambda self, contexts, noisy, time: -contexts[:, -1:].expand_as(noisy).clone()
    )
    result = probe(trained, shards / "train", shards / "valid", 64, "cpu")
    assert result["explained_variance"][0] > 0.3
    assert result["explained_variance"][0] > result["explained_variance"][-1]
    assert result["other_context_gain"] > 2 * result["other_context_gain_se"] > 0
