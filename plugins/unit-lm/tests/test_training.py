"""Training through the real command line: what it learns, stopped, killed, badly used, and what it costs."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402 - torch may be absent
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from cdslm_model import checkpoint  # noqa: E402

STEPS = ("--steps", "120")


def result(folder):
    return json.loads((folder / "result.json").read_text())


def losses(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def assert_same(one, other):
    first, second = checkpoint.find_checkpoint(one), checkpoint.find_checkpoint(other)
    assert first.step == second.step
    for name in ("weights", "optimizer", "units"):
        mine, theirs = first.tensors(name), second.tensors(name)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine), f"{name} differ"


def start(*arguments):
    command = [sys.executable, "-m", "cdslm_eval_unit_lm.cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_learns_which_unit_follows_which(trained):
    done = result(trained)
    # knowing no past costs the entropy of the units; of four tones in a fixed order, little is left to be guessed
    assert done["constant_loss"] > np.log(4)
    assert done["val_loss"] < 0.5 * done["constant_loss"]
    assert done["tokens"] == 120 * 8 * 20  # 1 s at 20 units a second
    assert done["val_loss_nats_per_second"] == pytest.approx(20 * done["val_loss"])
    assert list(losses(trained)) == list(range(1, 121))
    weights = checkpoint.find_checkpoint(trained).tensors("weights")
    assert done["parameters"] == sum(weight.numel() for weight in weights.values())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_ended_at_any_moment_the_same_command_goes_on_bit_for_bit(unit_lm, shards, short, trained, tmp_path, number):
    folder = tmp_path / "cut"
    command = ("train", "--data", shards, "--out", folder, *short, *STEPS)
    process = start(*command)
    wait_for((folder / "checkpoints" / "step-000000020").is_dir)
    process.send_signal(number)
    _, message = process.communicate(timeout=300)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert not (folder / "result.json").exists()
    if number == signal.SIGTERM:
        assert "stopped at a checkpoint" in message
    assert unit_lm(*command).returncode == 0
    assert result(folder) == result(trained)
    assert losses(folder) == losses(trained)
    assert_same(folder, trained)


def test_a_run_that_goes_on_does_not_hear_the_speech_again(unit_lm, shards, short, trained, tmp_path, monkeypatch):
    from cdslm_eval_unit_lm.features import LogMelFeatures

    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    shutil.rmtree(folder / "checkpoints" / "step-000000120")
    (folder / "units-valid.safetensors").write_bytes(b"half of one")
    calls = []
    original = LogMelFeatures.__call__
    monkeypatch.setattr(LogMelFeatures, "__call__", lambda self, speech: calls.append(1) or original(self, speech))
    assert unit_lm("train", "--data", shards, "--out", folder, *short, *STEPS).returncode == 0
    assert len(calls) == 5, "those of valid alone, whose file was damaged"
    assert_same(folder, trained)


def test_a_finished_run_is_left_alone(unit_lm, shards, short, trained):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*.*") if path.name != ".lock"}
    done = unit_lm("train", "--data", shards, "--out", trained, *short, *STEPS, "--json")
    assert json.loads(done.stdout) == result(trained)
    assert before == {path: path.stat().st_mtime_ns for path in trained.rglob("*.*") if path.name != ".lock"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((*STEPS, "--lr", "0.01"), "trained with lr 0.003, not 0.01"),
        ((*STEPS, "--units", "13"), "trained with units 12, not 13"),
        ((*STEPS, "--run-length"), "trained with run_length False, not True"),
        (("--steps", "500"), "no part of a run of 500 steps"),
        (("--steps", "60"), "no part of a run of 60 steps"),
        ((*STEPS, "--valid", "TRAIN", "--data", "VALID"), "other speech"),
        ((), "a run needs a length"),
        ((*STEPS, "--tokens", "1e4"), "one length a run"),
    ],
)
def test_another_order_for_the_same_folder_is_refused(unit_lm, shards, short, trained, more, message):
    places = {"TRAIN": shards / "train", "VALID": shards / "valid"}
    more = [str(places.get(word, word)) for word in more]
    done = unit_lm("train", "--data", shards, "--out", trained, *short, *more)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert done.stderr.splitlines()[-1].startswith("unit-lm: ")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--valid", "TRAIN"), "share 11 clips"),
        (("--data", "TRAIN"), "--valid SHARDS"),
        (("--context-seconds", "60"), "no clip is as long as a window"),
        (("--units", "5000"), "cannot make 5000 clusters"),
        (("--family", "lama"), "no family 'lama'. Known: llama, gpt2"),
        (("--vocoder", "grifin-lim"), "Did you mean 'griffin-lim'?"),
        (("--encoder", "TRAIN"), "no model.safetensors"),
    ],
)
def test_what_cannot_be_trained_is_reported_in_one_sentence(unit_lm, shards, short, tmp_path, more, message):
    more = [str(shards / "train") if word == "TRAIN" else word for word in more]
    done = unit_lm("train", "--data", shards, "--out", tmp_path / "run", *short, "--steps", "3", *more)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_a_second_trainer_is_refused(unit_lm, shards, short, tmp_path):
    command = ("train", "--data", shards, "--out", tmp_path / "run", *short, "--steps", "100000")
    first = start(*command)
    try:
        wait_for((tmp_path / "run" / "log.jsonl").is_file)
        second = unit_lm(*command)
        assert second.returncode == 2
        assert f"another trainer (process {first.pid})" in second.stderr
    finally:
        first.kill()
        first.communicate()


def test_a_loss_that_is_no_number_names_the_last_good_checkpoint(unit_lm, shards, short, tmp_path):
    wild = ("--lr", "1e18", "--steps", "400", "--save-every", "1", "--warmup-steps", "0", "--clip-norm", "1e30")
    done = unit_lm("train", "--data", shards, "--out", tmp_path / "run", *short, *wild)
    assert done.returncode == 3
    assert "is not a number" in done.stderr
    last = checkpoint.last_checkpoint(tmp_path / "run")
    assert str(last.folder) in done.stderr
    assert all(tensor.isfinite().all() for tensor in last.tensors("weights").values()), "the good one is kept"


def test_no_room_on_disk_keeps_the_last_checkpoint(unit_lm, shards, short, trained, tmp_path):
    folder = tmp_path / "run"
    checkpoint_name = "step-000000100"
    shutil.copytree(trained / "checkpoints" / checkpoint_name, folder / "checkpoints" / checkpoint_name)
    # A file size limit is the disk that fills up while the weights are written
    limited = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000));"
        "from cdslm_eval_unit_lm.cli import main; main()"
    )
    command = ["train", "--data", str(shards), "--out", str(folder), *short, *STEPS]
    done = subprocess.run([sys.executable, "-c", limited, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "no space for the checkpoint of step 120" in done.stderr
    assert checkpoint_name in done.stderr
    assert [path.name for path in (folder / "checkpoints").iterdir()] == [checkpoint_name]
    assert unit_lm(*command).returncode == 0
    assert_same(folder, trained)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_flops_and_parameters_are_those_that_torch_counts(family):
    from cdslm_eval_unit_lm.language import build, forward_flops, lm_config

    config = lm_config(family, size=2, units=100, length=120)
    model = build(config)
    ids = torch.randint(0, 100, (3, 120), generator=torch.Generator().manual_seed(0))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        logits = model(ids, use_cache=False).logits
        forward = counter.get_total_flops()
        logits.square().sum().backward()
    assert forward == pytest.approx(3 * forward_flops(config, 120), rel=0.01)
    assert counter.get_total_flops() == pytest.approx(3 * 3 * forward_flops(config, 120), rel=0.01)
    # two layers of width d = 256: four matrices of attention and a perceptron of 8 d^2, or its like
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(
        2 * 12 * 256**2 + 2 * 101 * 256, rel=0.03
    )


def test_budgets_in_flops_tokens_and_steps_agree(unit_lm, shards, short, trained, tmp_path):
    per_step = result(trained)["flops"] / 120
    for name, length in (("flops", ("--target-flops", str(6 * per_step))), ("tokens", ("--tokens", str(6 * 8 * 20)))):
        done = unit_lm("train", "--data", shards, "--out", tmp_path / name, *short, *length, "--json")
        assert json.loads(done.stdout)["steps"] == 6, done.stderr


def test_the_plan_announces_what_training_does(unit_lm, trained, short, tmp_path):
    common = ("train", "--data", tmp_path / "later", "--out", tmp_path / "none", *short, *STEPS, "--plan")
    plan, done = json.loads(unit_lm(*common).stdout), result(trained)
    assert not (tmp_path / "none").exists()
    names = ("parameters", "tokens", "flops", "six_nd", "steps")
    assert {name: plan[name] for name in names} == {name: done[name] for name in names}
    size = sum(path.stat().st_size for path in (trained / "checkpoints").rglob("*") if path.is_file())
    assert plan["bytes"] == pytest.approx(size, rel=0.05)
    # a plan may come before the units do, and does not hide that
    early = unit_lm(*common, "--units-from", tmp_path / "unknown")
    assert json.loads(early.stdout) == plan
    assert "unknown is not there yet: units are taken to be those of this command" in early.stderr.replace("\n", " ")
    # how many tokens a second has is known after clustering only
    unknown = json.loads(unit_lm(*common, "--run-length").stdout)
    assert unknown["parameters"] == plan["parameters"]
    assert unknown["flops"] is None
