"""Lengths that steps draw: balanced, a function of the step, counted exactly, and what the network then gets."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from model.conftest import SMALL  # noqa: E402 - torch may be absent

from cdslm_model.errors import ModelError  # noqa: E402
from cdslm_model.net import flops  # noqa: E402
from cdslm_model.net.config import Config  # noqa: E402
from cdslm_model.train import trainer  # noqa: E402
from cdslm_model.train.lengths import length_pairs, step_lengths  # noqa: E402
from cdslm_model.train.objective import Batch  # noqa: E402
from cdslm_model.train.planning import per_step  # noqa: E402
from cdslm_model.train.settings import Settings  # noqa: E402

CONFIG = Config.from_depth(1, context_frames=20, continuation_frames=40)
BUCKETS = {"context_buckets": (0, 10, 20), "continuation_buckets": (16, 40)}


def test_a_cycle_has_each_pair_once_and_costs_what_is_counted():
    settings = Settings(config=CONFIG, batch_size=4, **BUCKETS)
    drawn = [step_lengths(settings, step) for step in range(12)]
    assert sorted(drawn[:6]) == sorted(drawn[6:]) == sorted(length_pairs(settings))
    assert drawn[:6] != drawn[6:]
    costs = per_step(settings)
    assert 6 * costs["flops"] == pytest.approx(sum(4 * flops.training(CONFIG, *pair).total for pair in drawn[:6]))
    assert 6 * costs["tokens"] == sum(4 * sum(pair) for pair in drawn[:6])
    assert per_step(Settings(config=CONFIG))["tokens"] == 16 * 60
    assert Settings.from_dict(json.loads(json.dumps(settings.as_dict()))) == settings


def test_frames_around_the_join_are_left():
    values = torch.arange(60.0)[None, :, None]
    batch = Batch(values[:, :20], values[:, 20:], values[:, 20:] + 100, torch.zeros(1))
    cut = batch.cut(3, 2)
    assert cut.context.flatten().tolist() == [17, 18, 19]
    assert [cut.clean.flatten().tolist(), cut.noise.flatten().tolist()] == [[20, 21], [120, 121]]
    assert batch.cut(0, 40).context.shape == (1, 0, 1)


@pytest.mark.parametrize("buckets", [{"context_buckets": (10,)}, {"continuation_buckets": (0, 40)}])
def test_lengths_that_no_step_can_have_are_refused(buckets):
    with pytest.raises(ModelError, match="among them"):
        Settings(config=CONFIG, **buckets).check()


def test_the_command_trains_on_the_drawn_lengths(inside, shards, tmp_path, monkeypatch):
    shapes, plain = [], trainer.losses

    def noted(network, process, batch, *rest):
        shapes.append((batch.context.shape[1], batch.clean.shape[1]))
        return plain(network, process, batch, *rest)

    monkeypatch.setattr(trainer, "losses", noted)
    options = ("--context-buckets", "0.125", "--continuation-buckets", "0.2", "--static-context", "--no-probe")
    done = inside("train", "--data", shards, "--out", tmp_path / "run", *SMALL, "--steps", "4", *options)
    assert done.returncode == 0, done.stderr
    assert sorted(shapes[:4]) == [(10, 16), (10, 40), (20, 16), (20, 40)]
    assert set(shapes[4:]) == {(20, 40)}, "validation is at the whole lengths"
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["tokens"] == 4 * (26 + 50 + 36 + 60)
