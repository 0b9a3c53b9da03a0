"""`cdslm train --plan` announces what training then does."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from model.conftest import SMALL  # noqa: E402 - torch may be absent

STEPS = ("--steps", "40", "--save-every", "10")


def test_the_plan_agrees_with_the_run(inside, shards, trained, tmp_path):
    done = inside("train", "--data", shards, "--out", tmp_path / "none", *SMALL, *STEPS, "--plan")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "none").exists()
    plan = json.loads(done.stdout)
    result = json.loads((trained / "result.json").read_text())
    names = ("parameters", "tokens", "flops", "six_nd", "steps", "epochs", "unique_tokens", "training_flops")
    assert {name: plan[name] for name in names} == {name: result[name] for name in names}
    size = sum(path.stat().st_size for path in (trained / "checkpoints").rglob("*") if path.is_file())
    assert plan["bytes"] == pytest.approx(size, rel=0.02)
    # 40 steps x 4 windows x 60 frames, over the frames of clips that hold a window: all are over 1.5 s
    from cdslm_model.data.windows import Shards

    assert plan["epochs"] == pytest.approx(40 * 4 * 60 / Shards(shards / "train").frames)


def test_a_plan_needs_no_prepared_speech(inside, tmp_path):
    done = inside("train", "--data", tmp_path / "later", "--out", tmp_path / "x", *SMALL, *STEPS, "--plan")
    plan = json.loads(done.stdout)
    assert plan["epochs"] is None
    assert plan["parameters"] > 0


def test_branches_count_only_the_steps_that_they_do_not_share(inside, shards, tmp_path):
    """The branch of 20 steps leaves the run of 40 where its own decay starts, at step 16; none with another warm-up."""
    plans, two = [], ("--steps", "20", "--steps", "40")
    for lengths in (("--steps", "40"), (*two, "--warmup-steps", "2"), (*two, "--warmup-steps", "4")):
        done = inside("train", "--data", shards, "--out", tmp_path / "none", *SMALL, *lengths, "--plan")
        assert done.returncode == 0, done.stderr
        plans.append(json.loads(done.stdout))
    alone, branched, apart = plans
    assert alone["training_flops"] == alone["flops"] == branched["flops"]
    assert branched["training_flops"] == pytest.approx(alone["flops"] * (40 + 4) / 40)
    assert apart["training_flops"] == pytest.approx(alone["flops"] * (40 + 20) / 40)
    shorter, longer = branched["branches"]
    assert longer == {name: value for name, value in branched.items() if name != "branches"}
    assert (shorter["steps"], shorter["training_flops"]) == (20, alone["flops"] / 2)
    assert longer["epochs"] == pytest.approx(2 * shorter["epochs"])
    # 40 steps of 4 windows of 60 frames at 80 a second; one evaluation is a third of a step of one window
    assert longer["speech_hours"] == pytest.approx(40 * 4 * 60 / 80 / 3600)
    assert longer["evaluation_flops"] == pytest.approx(alone["flops"] / 40 / 4 / 3)


@pytest.mark.parametrize("sampler", ["ddim", "heun", "dpm-solver-2m"])
@pytest.mark.parametrize("guidance", [0.0, 1.0, 1.5])
def test_a_generator_states_how_often_its_sampler_evaluates_the_network(sampler, guidance):
    from cdslm_model.diffusion import Process
    from cdslm_model.plugin.generator import CdslmGenerator, CdslmOptions
    from cdslm_model.sample.sampling import find_sampler, guided, times

    calls = []
    network = lambda conditions: lambda x, time: calls.append(1) or torch.zeros_like(x)  # noqa: E731
    context, process = torch.zeros(1, 3, 2), Process()
    predict = guided(network, (context,), (context,), guidance, one_batch=False)
    find_sampler(sampler)(predict, torch.ones(1, 4, 2), times(process, 5), process)
    options = CdslmOptions(checkpoint="run", sampler=sampler, steps=5, guidance=guidance)
    assert CdslmGenerator(options).evaluations() == len(calls)
