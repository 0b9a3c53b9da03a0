"""Recipes and the terms of the objective that they set."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from model.conftest import SMALL  # noqa: E402 - torch may be absent

from cdslm_model.data.windows import Shards, Windows  # noqa: E402
from cdslm_model.diffusion import Process  # noqa: E402
from cdslm_model.net.config import Config  # noqa: E402
from cdslm_model.net.mmdit import MMDiT  # noqa: E402
from cdslm_model.net.parametrization import initialise  # noqa: E402
from cdslm_model.train.objective import Batch, losses, training_batch  # noqa: E402


def test_the_paper_stays_a_named_option_and_each_value_can_be_set_alone(inside, shards, tmp_path):
    def settings(*options):
        folder = tmp_path / str(len(options))
        done = inside("train", "--data", shards, "--out", folder, *SMALL, "--steps", "1", "--no-probe", *options)
        assert done.returncode == 0, done.stderr
        facts = json.loads((folder / "checkpoints" / "step-000000001" / "checkpoint.json").read_text())["settings"]
        names = ("guess_frames", "end_share", "onset_weight", "attention_bias")
        return (*(facts[name] for name in names), facts["process"]["weight_floor"], facts["config"]["rotary_base"])

    assert settings() == (24, 0.1, 0.0, 1.0, 0.05, 10_000.0)
    assert settings("--recipe", "paper") == (0, 0.0, 0.0, 0.0, 0.05, 10_000.0)
    assert settings("--recipe", "paper", "--onset-weight", "3") == (0, 0.0, 3.0, 0.0, 0.05, 10_000.0)
    refused = inside("train", "--data", shards, "--out", tmp_path / "x", *SMALL, "--steps", "1", "--recipe", "mine")
    assert "use --recipe continue or paper" in refused.stderr


def test_a_share_of_the_times_is_pure_noise_and_the_others_are_even(shards):
    held = Shards(shards / "train")
    windows = Windows(held, 20, 40)
    times = torch.cat([training_batch(windows, 0, step, range(20), 20, 0.25).time for step in range(10)])
    assert (times == 1).double().mean() == pytest.approx(0.25, abs=0.05)
    others = times[times < 1].sort().values
    torch.testing.assert_close(others, torch.linspace(0, 1, len(others), dtype=torch.float64), rtol=0, atol=0.06)


def test_the_onset_counts_as_stated_and_without_it_the_mean_over_frames_stays():
    """An error of 1 in one frame costs 1 / frames, and 1 + w exp(-f / 8) times that with an onset weight."""
    process, frames = Process(), 40
    clean, noise = torch.zeros(1, frames, 4), torch.zeros(1, frames, 4)
    batch = Batch(torch.zeros(1, 8, 4), clean, noise, torch.tensor([0.5], dtype=torch.float64))
    weight = process.weight(batch.time).item()
    for frame in (0, 16):
        wrong = torch.zeros(1, frames, 4)
        wrong[:, frame] = 1

        def network(streams, time, wrong=wrong):
            return wrong

        plain = losses(network, process, batch).item()
        assert plain == pytest.approx(weight / frames)
        onset = losses(network, process, batch, 5.0).item()
        assert onset == pytest.approx(plain * (1 + 5 * 2.718281828 ** (-frame / 8)), rel=1e-5)


def test_biases_of_queries_and_keys_make_fresh_attention_prefer_near_tokens():
    """What a token attends to falls with its distance from the start, which a network without them must learn."""
    config = Config.from_depth(1, context_frames=40, continuation_frames=40, rotary_base=300.0)
    near = {}
    for bias in (0.0, 1.0):
        model = MMDiT(config)
        initialise(model, config, 0, attention_bias=bias)
        stream = model.blocks[0].streams[1]
        tokens = torch.randn(1, 40, config.width, generator=torch.Generator().manual_seed(1))
        qkv = stream.project(tokens, torch.zeros(1), torch.zeros(1))
        from cdslm_model.net.rotary import RotaryEmbedding, joint_qkv

        query, key, _ = joint_qkv(
            [qkv], [stream.norm_scales], RotaryEmbedding(torch.arange(40), 64, torch.float32, 300.0)
        )
        attention = (torch.einsum("bqhd,bkhd->bhqk", query, key) / 8).softmax(-1).mean((0, 1))
        distance = (torch.arange(40)[:, None] - torch.arange(40)).abs()
        near[bias] = attention[distance <= 2].sum().item() / 40
    assert near[1.0] > 1.5 * near[0.0]
