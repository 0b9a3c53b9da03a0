"""Training through the real command line: stopped, killed, spread over processes, branched, and badly used."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from model.conftest import ENVIRONMENT, LENGTH, SMALL, cdslm  # noqa: E402 - torch may be absent

from cdslm_model import checkpoint  # noqa: E402
from cdslm_model.errors import CheckpointError, ModelError  # noqa: E402
from cdslm_model.train.schedule import WarmupStableDecay  # noqa: E402

# 3 [24 d^2 (L Tg + (L-1) Tc) + 6 d^2 Tc + 4 d n^2 L + 2 (12 L - 4) d^2 + 160 d (n + Tg) + 2 (1024 d + 4 d^2)] at
# d = 128, L = 1, Tc = 20, Tg = 40
WINDOW_FLOPS = 3 * (
    24 * 128**2 * 40 + 6 * 128**2 * 20 + 4 * 128 * 60**2 + 16 * 128**2 + 160 * 128 * 100 + 2 * (1024 * 128 + 4 * 128**2)
)
STEPS = ("--steps", "40", "--save-every", "10")


def result(folder):
    return json.loads((folder / "result.json").read_text())


def log(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def assert_same_checkpoint(one, other):
    for name in ("weights", "ema", "optimizer", "guess"):
        first, second = (checkpoint.find_checkpoint(folder).tensors(name) for folder in (one, other))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first), f"{name} differ"


def start(*arguments):
    command = [sys.executable, "-m", "cdslm_model.cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("share", ["0", "1"])
def test_a_branch_without_a_decay_or_with_nothing_else_has_a_checkpoint_of_its_own(inside, shards, tmp_path, share):
    lengths = ("--steps", "2", "--steps", "4")
    for folder, steps in (("both", lengths), ("alone", lengths[:2])):
        command = ("train", "--data", shards, "--out", tmp_path / folder, *SMALL, *steps, "--decay-share", share)
        assert inside(*command).returncode == 0
    branch = tmp_path / "both" / result(tmp_path / "both")["branches"][0]["folder"]
    assert_same_checkpoint(branch, tmp_path / "alone")
    assert result(branch)["val_loss"] == result(tmp_path / "alone")["val_loss"]


def test_learns_more_than_a_constant(trained):
    done = result(trained)
    assert done["val_loss"] < 0.98 * done["constant_loss"], (
        "40 steps are few, and the constant knows the mean of these very windows"
    )
    assert done["flops"] == 40 * 4 * WINDOW_FLOPS
    assert (done["parameters"], done["tokens"]) == (597_584, 40 * 4 * 60)
    assert len(log(trained)) == 40
    assert not (trained / "checkpoints" / "step-000000010").exists(), "only the last two are kept"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_ended_at_any_moment_the_same_command_goes_on_bit_for_bit(shards, trained, tmp_path, number):
    folder = tmp_path / "cut"
    command = ("train", "--data", shards, "--out", folder, *SMALL, *STEPS)
    process = start(*command)
    wait_for((folder / "checkpoints" / "step-000000010").is_dir)
    process.send_signal(number)
    _, message = process.communicate(timeout=300)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    if number != signal.SIGKILL:
        assert "stopped at a checkpoint" in message
    assert not (folder / "result.json").exists()
    assert cdslm(*command).returncode == 0
    assert result(folder)["val_loss"] == result(trained)["val_loss"]
    assert log(folder) == log(trained)
    assert_same_checkpoint(folder, trained)


def test_a_finished_run_is_left_alone(inside, shards, trained):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.name != ".lock" and path.is_file()}
    done = inside("train", "--data", shards, "--out", trained, *SMALL, *STEPS, "--json")
    assert json.loads(done.stdout) == result(trained)
    after = {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.name != ".lock" and path.is_file()}
    assert before == after


def test_pieces_of_a_step_give_the_same_curve(inside, shards, trained, tmp_path):
    done = inside("train", "--data", shards, "--out", tmp_path / "pieces", *SMALL, *STEPS, "--accumulate", "2")
    assert done.returncode == 0, done.stderr
    alone, pieces = log(trained), log(tmp_path / "pieces")
    assert max(abs(alone[step] - pieces[step]) for step in alone) < 1e-4


def test_one_run_serves_several_lengths(inside, shards, tmp_path):
    """A branch is, bit for bit, what a run of its own length would have been."""
    options = (*SMALL, "--warmup-steps", "1")
    lengths = ("--steps", "10", "--steps", "20")
    done = inside("train", "--data", shards, "--out", tmp_path / "both", *options, *lengths, "--json")
    assert done.returncode == 0, done.stderr
    whole = json.loads(done.stdout)
    assert [branch["steps"] for branch in whole["branches"]] == [10]
    assert not (tmp_path / "both" / "branches" / "steps-000000010" / "checkpoints" / "step-000000001").exists()
    assert (tmp_path / "both" / "checkpoints" / "step-000000008").is_dir(), "the branch started from the main run"
    assert inside("train", "--data", shards, "--out", tmp_path / "alone", *options, "--steps", "10").returncode == 0
    branch = tmp_path / "both" / whole["branches"][0]["folder"]
    assert_same_checkpoint(branch, tmp_path / "alone")
    assert result(branch)["val_loss"] == result(tmp_path / "alone")["val_loss"] != whole["val_loss"]


def test_each_length_has_a_warm_up_of_its_own(inside, shards, tmp_path):
    """A length of less than ten warm-ups rises faster, and must not shorten the warm-up of the longest."""
    options = (*SMALL, "--warmup-steps", "2", "--steps", "10", "--steps", "30", "--no-probe", "--json")
    done = inside("train", "--data", shards, "--out", tmp_path / "both", *options)
    assert done.returncode == 0, done.stderr
    folders = [tmp_path / "both" / "branches" / "steps-000000010", tmp_path / "both"]
    schedules = [checkpoint.find_checkpoint(folder).facts["schedule"] for folder in folders]
    assert [schedule["warmup"] for schedule in schedules] == [1, 2]
    first = [json.loads((folder / "log.jsonl").read_text().splitlines()[1])["lr"] for folder in folders]
    assert first == pytest.approx([2e-3, 1e-3])


def test_the_three_ways_to_say_how_long_agree(inside, shards, tmp_path):
    flops = 6 * 4 * WINDOW_FLOPS
    for name, length in (("flops", ("--target-flops", str(flops))), ("tokens", ("--tokens", str(6 * 4 * 60)))):
        done = inside("train", "--data", shards, "--out", tmp_path / name, *SMALL, *length, "--json")
        assert json.loads(done.stdout)["steps"] == 6, done.stderr


@pytest.mark.parametrize(
    ("more", "message", "code"),
    [
        (("--steps", "40", "--lr", "0.01"), "trained with lr 0.002, not 0.01", 2),
        (("--steps", "40", "--seed", "1"), "trained with seed 0, not 1", 2),
        (("--steps", "80"), "no part of a run of 80 steps", 2),
        ((), "a run needs a length", 2),
    ],
)
def test_another_order_for_the_same_folder_is_refused(inside, shards, trained, more, message, code):
    done = inside("train", "--data", shards, "--out", trained, *SMALL, *more)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--valid", "TRAIN"), "share 12 clips"),
        (("--context-seconds", "60"), "no clip is as long as a window"),
        (("--target", "velocity"), "no target 'velocity'"),
        (("--data", "TRAIN"), "--valid SHARDS"),
        (("--accumulate", "3"), "does not divide"),
        (("--vocoder", "hifi"), "hifi"),
    ],
)
def test_what_cannot_be_trained_is_reported_in_one_sentence(inside, shards, tmp_path, more, message):
    more = [str(shards / "train") if word == "TRAIN" else word for word in more]
    done = inside("train", "--data", shards, "--out", tmp_path / "run", *SMALL, "--steps", "3", *more)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("cdslm: ")
    assert done.stderr.count("\n") == 1, "one sentence, no traceback"


def test_a_second_trainer_is_refused(shards, tmp_path):
    folder = tmp_path / "run"
    command = ("train", "--data", shards, "--out", folder, *SMALL, "--steps", "4000")
    first = start(*command)
    try:
        wait_for((folder / "log.jsonl").is_file)
        second = cdslm(*command)
        assert second.returncode == 2
        assert f"another trainer (process {first.pid})" in second.stderr
    finally:
        first.kill()
        first.communicate()


def test_a_loss_that_is_no_number_names_the_last_good_checkpoint(inside, shards, tmp_path):
    folder = tmp_path / "run"
    options = (*SMALL, "--steps", "400", "--save-every", "1", "--warmup-steps", "0", "--clip-norm", "1e30")
    done = inside("train", "--data", shards, "--out", folder, *options, "--lr", "1e18")
    assert done.returncode == 3
    assert "is not a number" in done.stderr
    last = checkpoint.last_checkpoint(folder)
    assert str(last.folder) in done.stderr
    assert all(tensor.isfinite().all() for tensor in last.tensors("weights").values()), "the good one is kept"


def test_no_room_on_disk_keeps_the_last_checkpoint(shards, trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained / "checkpoints" / "step-000000030", folder / "checkpoints" / "step-000000030")
    # A file size limit is the disk that fills up while the weights are written
    limited = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000));"
        "from cdslm_model.cli import main; main()"
    )
    command = [sys.executable, "-c", limited, "train", "--data", str(shards), "--out", str(folder), *SMALL, *STEPS]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 3
    assert "no space for the checkpoint of step 40" in done.stderr
    assert "step-000000030" in done.stderr
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-000000030"]
    assert cdslm("train", "--data", shards, "--out", folder, *SMALL, *STEPS).returncode == 0
    assert result(folder)["val_loss"] == result(trained)["val_loss"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: os.truncate(folder / "weights.safetensors", 1000), "weights.safetensors: truncated or altered"),
        (lambda folder: (folder / "ema.safetensors").unlink(), "ema.safetensors: cannot be read"),
        (lambda folder: altered(folder / "checkpoint.json", '"step": 40', '"step": 39'), "digest does not fit"),
        (lambda folder: altered(folder / "checkpoint.json", '"format": 1', '"format": 9'), "format 9"),
        (lambda folder: os.truncate(folder / "checkpoint.json", 100), "not JSON"),
    ],
)
def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_named(trained, tmp_path, damage, message):
    shutil.copytree(trained, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints" / "step-000000040"
    damage(folder)

    def use():
        checkpoint_found = checkpoint.find_checkpoint(tmp_path / "run")
        return [checkpoint_found.tensors(name) for name in ("weights", "ema")]

    with pytest.raises(CheckpointError, match=message) as caught:
        use()
    if "digest" in message or "safetensors" in message:
        assert "step-000000030" in str(caught.value)


def altered(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_rate_rises_stays_and_falls():
    schedule = WarmupStableDecay(steps=100, warmup=10, decay=20)
    shares = [schedule.share(step) for step in range(100)]
    assert shares[:10] == pytest.approx([n / 10 for n in range(1, 11)])
    assert set(shares[10:80]) == {1.0}
    assert all(later < earlier for earlier, later in itertools.pairwise(shares[79:]))
    assert 0 < shares[-1] < 0.03
    with pytest.raises(ModelError, match="less than one step"):
        WarmupStableDecay(steps=0, warmup=1, decay=0)


def test_window_lengths_in_seconds_are_frames(trained):
    config = checkpoint.find_checkpoint(trained).facts["settings"]["config"]
    seconds = float(LENGTH[1]), float(LENGTH[3])
    assert (config["context_frames"], config["continuation_frames"]) == tuple(round(80 * s) for s in seconds)


def test_bfloat16_learns_what_float32_learns_and_weights_stay_float32(shards, trained, tmp_path, inside):
    arguments = ("--data", shards, "--out", tmp_path / "run", *SMALL, "--steps", "40", "--device", "cpu", "--quiet")
    done = inside("train", *arguments, "--precision", "bfloat16")
    assert done.returncode == 0, done.stderr
    checkpoint_found, exact = (
        json.loads((run / "result.json").read_text())["val_loss"] for run in (tmp_path / "run", trained)
    )
    assert checkpoint_found == pytest.approx(exact, rel=0.02)
    assert checkpoint_found != exact
    weights = checkpoint.find_checkpoint(tmp_path / "run").tensors("weights")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    refused = inside("train", *arguments, "--precision", "float16")
    assert refused.returncode == 2
    assert "float16" in refused.stderr
    assert "bfloat16" in refused.stderr


def test_a_patch_that_is_wider_than_the_network_is_reported(shards, tmp_path, inside):
    arguments = ("--data", shards, *SMALL, "--steps", "1", "--device", "cpu")
    wide = inside("train", *arguments, "--out", tmp_path / "wide", "--patch", "4")
    assert "a token of 4 frames has 320 values, more than the width of 128" in wide.stderr
    assert "use a --patch of at most 1" in wide.stderr
    fits = inside("train", *arguments, "--out", tmp_path / "fits", "--patch", "1")
    assert "numbers, more than" not in fits.stderr
