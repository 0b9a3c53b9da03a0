"""Several processes under `torchrun`: the curve of one, ended in any way, gone on with by any number."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from model.conftest import ENVIRONMENT, SMALL  # noqa: E402 - torch may be absent

from cdslm_model import checkpoint  # noqa: E402

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
TORCHRUN += ("--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0")
PROGRAM = ("-m", "cdslm_model.cli")
STEPS = ("--steps", "40", "--save-every", "5", "--device", "cpu")


def begin(launcher, shards, folder, *more, program=PROGRAM):
    command = [*launcher, *program, "train", "--data", str(shards), "--out", str(folder)]
    command += [*SMALL, *STEPS, *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


def wait_for(condition, process, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.01)


def losses(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def assert_same_curve(folder, trained):
    alone, together = losses(trained), losses(folder)
    assert list(alone) == list(together)
    # sums in another order; the first frames are divided by the little that the guess leaves of them
    assert max(abs(alone[step] - together[step]) for step in alone) < 1e-4
    values = [json.loads((run / "result.json").read_text())["val_loss"] for run in (folder, trained)]
    assert values[0] == pytest.approx(values[1], abs=1e-5)


def test_two_replicas_follow_the_curve_of_one_process(shards, trained, tmp_path):
    """With recomputed activations, and a checkpoint whenever both agree that it is time; sharded ones follow below."""
    more = ("--shard-group", "1", "--recompute", "1", "--save-minutes", "0")
    process = begin(TORCHRUN, shards, tmp_path / "two", *more)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert_same_curve(tmp_path / "two", trained)


def test_processes_with_unequal_shares_of_the_validation_windows_end_together(shards, tmp_path):
    """Seven windows, one a pass: the second process has a pass less, in which the first would wait for its shards."""
    odd = ("--valid-windows", "7", "--batch-size", "2", "--no-probe")
    results = []
    for name, launcher in (("two", TORCHRUN), ("one", (sys.executable,))):
        process = begin(launcher, shards, tmp_path / name, *odd)
        try:
            _, errors = process.communicate(timeout=300)
        finally:
            process.kill()
        assert process.returncode == 0, errors
        results.append(json.loads((tmp_path / name / "result.json").read_text()))
    for name in ("val_loss", "val_loss_se"):
        assert results[0][name] == pytest.approx(results[1][name], abs=1e-5)


def test_a_finished_process_of_several_leaves_the_threads_of_torch_alone(tmp_path):
    """Gloo's threads outlive the process group, and the interpreter's teardown under them can abort."""
    program = tmp_path / "program.py"
    program.write_text(
        "import atexit, typer\n"
        "from cdslm_model.cli import run_app\n"
        "atexit.register(print, 'torn down')\n"
        "app = typer.Typer()\n"
        "@app.command()\n"
        "def work(code: int) -> None:\n"
        "    print('done')\n"
        "    raise SystemExit(code)\n"
        "run_app(app, 'program')\n"
    )
    for size, printed in (("2", "done\n"), ("1", "done\ntorn down\n")):
        for code in (0, 5):
            environment = {**ENVIRONMENT, "WORLD_SIZE": size}
            command = [sys.executable, str(program), str(code)]
            ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            assert (ended.stdout, ended.returncode) == (printed, code), ended.stderr


SLOW = """
import time
from cdslm_model import checkpoint
from cdslm_model.cli import main
plain = checkpoint.publish
checkpoint.publish = lambda *arguments, **options: time.sleep(1) or plain(*arguments, **options)
main()
"""


def children(process):
    return [int(number) for number in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def test_ended_in_any_way_any_number_of_processes_goes_on(inside, shards, trained, tmp_path):
    """Two processes, one of them killed; then one, terminated; then two, terminated; then one to the end.

    Both of the two get the signal, as from a batch system, and the checkpoint takes longer to write than torchrun
    takes to signal the first again once the second has left.
    """
    folder = tmp_path / "run"
    process = begin(TORCHRUN, shards, folder)
    wait_for((folder / "checkpoints" / "step-000000005").is_dir, process)
    os.kill(children(process)[-1], signal.SIGKILL)
    _, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    slow = tmp_path / "slow.py"
    slow.write_text(SLOW)
    for launcher, program in (((sys.executable,), PROGRAM), (TORCHRUN, (str(slow),))):
        assert not (folder / "result.json").exists()
        before, opened = checkpoint.find_checkpoint(folder).step, (folder / "log.jsonl").stat().st_ino
        process = begin(launcher, shards, folder, program=program)
        # The log is replaced when training continues
        wait_for(lambda old=opened: (folder / "log.jsonl").stat().st_ino != old, process)
        for number in children(process) or [process.pid]:
            os.kill(number, signal.SIGTERM)
        _, errors = process.communicate(timeout=300)
        assert process.returncode != 0
        assert "stopped at a checkpoint" in errors
        assert before < checkpoint.find_checkpoint(folder).step < 40
    done = inside("train", "--data", shards, "--out", folder, *SMALL, *STEPS)
    assert done.returncode == 0, done.stderr
    assert_same_curve(folder, trained)


def test_no_room_for_a_checkpoint_ends_every_process(shards, trained, tmp_path):
    """The first process alone writes; the others, in the midst of handing over their parts, end with its reason.

    Whichever ends before torchrun ends the other: the reason is printed.
    """
    folder = tmp_path / "run"
    keep = shutil.ignore_patterns("step-000000040", "result.json", "tensorboard")
    shutil.copytree(trained, folder, ignore=keep)
    limited = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000));"
        "from torch.distributed.run import main; main()"
    )
    process = begin((sys.executable, "-c", limited, *TORCHRUN[3:]), shards, folder)
    _, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    assert f"{folder}: no space for the checkpoint of step 35" in errors, errors
    assert checkpoint.find_checkpoint(folder).step == 30
