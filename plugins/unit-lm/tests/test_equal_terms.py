"""Widths under muP, averaged weights, units of a folder, epochs, and several processes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from cdslm_eval_unit_lm.codec import find_unit_checkpoint  # noqa: E402
from cdslm_eval_unit_lm.corpus import UnitWindows  # noqa: E402 - torch may be absent
from cdslm_eval_unit_lm.language import FAMILIES, build  # noqa: E402
from cdslm_eval_unit_lm.parametrization import optimizer_groups, rescale, role  # noqa: E402

WIDTHS = (64, 128, 256)


def movement(family, width, parametrization):
    """Return how far the logits move in four steps of AdamW, as a mean over tokens."""
    config = FAMILIES[family](width, 2, 33, 16)
    tokens = torch.randint(0, 32, (8, 16), generator=torch.Generator().manual_seed(1))
    model = build(config, seed=0)
    rescale(model, config, parametrization)
    optimizer = torch.optim.AdamW(optimizer_groups(model, config, parametrization, 2e-3, 0.0), betas=(0.9, 0.95))
    before = model(tokens).logits.detach()
    for _ in range(4):
        optimizer.zero_grad()
        logits = model(tokens[:, :-1]).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimizer.step()
    return float((model(tokens).logits.detach() - before).abs().mean())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_coordinate_check_an_update_moves_the_logits_alike_at_every_width(family):
    """Yang et al. 2022, section D.1: under muP the slope over width is 0; with one rate for all it is not."""
    slopes = {}
    for name in ("mup", "standard"):
        moves = [movement(family, width, name) for width in WIDTHS]
        slopes[name] = np.polyfit(np.log(WIDTHS), np.log(moves), 1)[0]
    # -0.15 and -0.16, of narrow networks; 0.90 and 0.80
    assert abs(slopes["mup"]) < 0.25, slopes
    assert slopes["standard"] > 0.6, slopes


def test_at_the_base_width_nothing_is_scaled():
    config = FAMILIES["llama"](512, 1, 17, 8)
    model, plain = build(config, seed=3), build(config, seed=3)
    rescale(model, config, "mup")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))
    groups = optimizer_groups(model, config, "mup", 1e-3, 0.1)
    assert {group["lr"] for group in groups} == {1e-3}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    roles = {role(name, parameter) for name, parameter in model.named_parameters()}
    assert roles == {"embedding", "hidden", "output", "vector"}


def test_an_epoch_holds_each_token_of_its_windows_once():
    clips = [np.arange(start, start + count) for start, count in ((0, 25), (25, 9), (34, 40))]
    windows = UnitWindows(clips, [-1, -1, -1], 10, join_speakers=False, folder="x", seconds=1.0)
    assert (windows.usable, windows.per_epoch) == (65, 6)
    for epoch in (0, 1):
        drawn = torch.cat([windows.batch(5, 2 * epoch + step, range(3), 3) for step in (0, 1)])
        assert len(drawn.unique()) == 60
    # what a process takes is its part of the batch
    assert torch.equal(windows.batch(5, 7, [2], 3)[0], windows.batch(5, 7, range(3), 3)[2])
    # joined, two clips of one speaker are one stretch of 74 tokens
    joined = UnitWindows(clips, [0, 0, 0], 10, join_speakers=True, folder="x", seconds=1.0)
    assert joined.per_epoch == 7


@pytest.fixture(scope="module")
def folder(unit_lm, shards, tmp_path_factory):
    """Return a folder of units of the tests' speech."""
    out = tmp_path_factory.mktemp("units") / "units"
    done = unit_lm("units", "--data", shards, "--out", out, "--units", "12", "--stride", "4")
    assert done.returncode == 0, done.stderr
    assert "12 units, 20 a second" in done.stdout
    return out


@pytest.fixture(scope="module")
def of_folder(unit_lm, shards, short, folder, tmp_path_factory):
    """Return a run over the units of the folder."""
    out = tmp_path_factory.mktemp("runs") / "run"
    done = unit_lm("train", "--data", shards, "--out", out, *short, "--units-from", folder, "--steps", "120")
    assert done.returncode == 0, done.stderr
    return out


def test_units_of_a_folder_make_the_run_that_clusters_itself_makes(of_folder, trained, folder):
    mine, theirs = (json.loads((run / "result.json").read_text()) for run in (of_folder, trained))
    assert mine == theirs
    assert not list(of_folder.glob("units-*"))
    weights, others = (find_unit_checkpoint(run).tensors("ema") for run in (of_folder, trained))
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    # 11 clips of 2.4 s are 48 units each, of which windows of 20 take two
    assert mine["epochs"] == pytest.approx(120 * 8 * 20 / (11 * 48))
    assert mine["unique_tokens"] == pytest.approx(11 * 48)


def test_the_folder_is_made_once_and_refuses_others(unit_lm, shards, short, folder, tmp_path):
    before = (folder / "units.safetensors").stat().st_mtime_ns
    command = ("units", "--data", shards, "--out", folder, "--stride", "4")
    assert unit_lm(*command, "--units", "12").returncode == 0
    assert (folder / "units.safetensors").stat().st_mtime_ns == before
    assert "holds units of other settings" in unit_lm(*command, "--units", "13").stderr
    base = ("train", "--data", shards, "--out", tmp_path / "run", *short, "--steps", "3", "--units-from")
    assert "has 12; leave the option out" in unit_lm(*base, folder, "--units", "13").stderr
    assert "holds no units" in unit_lm(*base, tmp_path / "none").stderr
    swapped = ("--data", shards / "valid", "--valid", shards / "train")
    assert "holds no units of" in unit_lm(*base, folder, *swapped).stderr
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    (damaged / "units.safetensors").write_bytes(b"half of it")
    assert "truncated or altered" in unit_lm(*base, damaged).stderr


def test_the_averaged_weights_are_validated_and_generate(unit_lm, shards, short, folder, tmp_path):
    """With a share of 1 the horizon of the average is the number of steps so far."""
    command = ("train", "--data", shards, *short, "--units-from", folder, "--steps", "30", "--save-every", "1")
    assert unit_lm(*command, "--out", tmp_path / "run", "--ema-share", "1").returncode == 0
    saved = find_unit_checkpoint(tmp_path / "run")
    last, before = saved, find_unit_checkpoint(saved.folder.with_name("step-000000029"))
    decay = 1 - 1 / 32
    for name, average in last.tensors("ema").items():
        expected = decay * before.tensors("ema")[name] + (1 - decay) * last.tensors("weights")[name]
        assert torch.allclose(average, expected, atol=1e-6)
    plain = unit_lm(*command, "--out", tmp_path / "plain", "--ema", "0", "--json")
    weights = find_unit_checkpoint(tmp_path / "plain")
    assert all(torch.equal(value, last.tensors("weights")[n]) for n, value in weights.tensors("weights").items())
    assert "ema.safetensors" not in weights.facts["files"]
    assert json.loads(plain.stdout)["val_loss"] != last.facts["val_loss"]


def test_two_processes_train_what_one_trains(unit_lm, shards, short, folder, tmp_path):
    """Over few steps: rounding of sums grows with every further one."""
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cdslm_eval_unit_lm.cli"]
    command = ["train", "--data", shards, *short, "--units-from", folder, "--steps", "6", "--out"]
    done = subprocess.run(
        [sys.executable, *words, *map(str, [*command, tmp_path / "both"])], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert unit_lm(*command, tmp_path / "alone").returncode == 0
    both, alone = (json.loads((tmp_path / run / "result.json").read_text()) for run in ("both", "alone"))
    assert both["val_loss"] == pytest.approx(alone["val_loss"], rel=1e-5)
    assert both["val_loss_se"] == pytest.approx(alone["val_loss_se"], rel=1e-3)
