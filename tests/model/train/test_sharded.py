"""Checkpoints of sharded runs: each process writes and reads its own rows, whatever the number of processes."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from model.conftest import ENVIRONMENT  # noqa: E402 - torch may be absent
from safetensors.torch import load_file  # noqa: E402

from cdslm_model import checkpoint  # noqa: E402
from cdslm_model.data.windows import Shards, Windows  # noqa: E402
from cdslm_model.errors import CheckpointError  # noqa: E402
from cdslm_model.guess import FirstGuess  # noqa: E402
from cdslm_model.net.config import Config  # noqa: E402
from cdslm_model.train.distributed import World  # noqa: E402
from cdslm_model.train.guessing import fitted_guess  # noqa: E402
from cdslm_model.train.objective import Validation  # noqa: E402
from cdslm_model.train.schedule import WarmupStableDecay  # noqa: E402
from cdslm_model.train.settings import Settings  # noqa: E402
from cdslm_model.train.trainer import Trainer  # noqa: E402

PARTS = ("weights", "ema", "optimizer", "guess")
PROGRAM = """
import os, resource, signal, sys
from pathlib import Path
import torch
from torch.distributed.tensor import DTensor
from cdslm_model.checkpoint import find_checkpoint
from cdslm_model.errors import TrainingError
from cdslm_model.train.distributed import open_world
from model.train.test_sharded import make

def refused(self, **options):
    raise AssertionError(f"gathered whole: {tuple(self.shape)}")

DTensor.full_tensor = refused
folder, data = Path(sys.argv[1]), Path(sys.argv[2])
with open_world("cpu") as world:
    own = make(world, data, find_checkpoint(folder / "one"))
    own.restore(find_checkpoint(folder / "one"))
    # the folder of a write that was killed, at another step
    if world.rank == 0:
        (folder / "two" / "checkpoints" / ".step-000000001.part").mkdir(parents=True)
    own.save(folder / "two", {"val_loss": 0.5}, frozenset())
    # while it is written, training changes what was saved
    before = own.shards()
    for tensor in own._ema:
        tensor.zero_()
    own.settle()
    again = make(world, data, find_checkpoint(folder / "two"))
    again.restore(find_checkpoint(folder / "two"))
    for part, shards in again.shards().items():
        assert shards.keys() == before[part].keys()
        for name, shard in shards.items():
            assert torch.equal(shard.rows, before[part][name].rows), name
    if world.rank == 1:
        # the disk of one of them is full: no process goes on, and nothing of the checkpoint is left
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    again.save(folder / "full", {}, frozenset())
    try:
        again.settle()
    except TrainingError as error:
        # one write: what two processes print into one pipe may be mixed
        os.write(1, f"REFUSED {error}\\n".encode())
# as the command line does: the teardown of the interpreter under Gloo's threads can end in a signal
os._exit(0)
"""


def make(world, data, saved=None):
    """Return a trainer of a small network with parameters of odd shapes, with the guess of a checkpoint to resume."""
    config = Config(depth=2, width=64, context_frames=20, continuation_frames=40)
    held = Shards(data / "train")
    windows = Windows(held, 20, 40)
    settings = Settings(config=config, batch_size=2, guess_frames=24)
    guess = FirstGuess.stored(saved) if saved else fitted_guess(settings, held, held.normalizer(), world)
    return Trainer(settings, world, windows, held.normalizer(), Validation(windows, held.normalizer(), 3), guess=guess)


@pytest.fixture(scope="module")
def saved(shards, tmp_path_factory):
    """Return a folder with a checkpoint of one process and of two that resumed from it, and what these printed."""
    folder = tmp_path_factory.mktemp("sharded")
    own = make(World(0, 1, torch.device("cpu")), shards)
    list(own.advance(WarmupStableDecay(100, 1, 0), 2))
    own.save(folder / "one", {}, frozenset())
    own.settle()
    program = folder / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    command += ["--rdzv-endpoint", "localhost:0", str(program), str(folder), str(shards)]
    environment = {**ENVIRONMENT, "PYTHONPATH": ":".join(path for path in sys.path if path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_any_number_of_processes_reads_what_any_number_wrote(saved, shards):
    """One to two, two to two (in the program) and two to one, to the last bit; nothing was gathered in any of them."""
    folder, _ = saved
    one, two = (checkpoint.find_checkpoint(folder / name) for name in ("one", "two"))
    assert (one.facts["format"], two.facts["format"]) == (1, 2)
    assert two.facts["val_loss"] == 0.5
    own = make(World(0, 1, torch.device("cpu")), shards, two)
    own.restore(two)
    assert own.step == 2
    resumed = dict(own.parts())
    for part in PARTS:
        expected, whole = load_file(one.folder / f"{part}.safetensors"), two.tensors(part)
        assert expected.keys() == whole.keys() == resumed[part].keys()
        for name, tensor in expected.items():
            assert torch.equal(tensor, whole[name]), name
            assert torch.equal(tensor, resumed[part][name]), name
    assert [path.name for path in (folder / "two" / "checkpoints").iterdir()] == ["step-000000002"]


def test_each_process_writes_half_and_any_rows_are_read(saved):
    folder, _ = saved
    two = checkpoint.find_checkpoint(folder / "two")
    for part in PARTS[:3]:
        sizes = [(two.folder / f"{part}-{rank:05d}-of-00002.safetensors").stat().st_size for rank in range(2)]
        assert max(sizes) < 0.55 * sum(sizes)
    whole, checked = two.tensors("weights"), 0
    for stored in two.stored("weights"):
        tensor = whole[stored.name]
        for first, stop in ((0, 1), (len(tensor) // 2 - 1, len(tensor) // 2 + 1), (len(tensor), len(tensor))):
            assert torch.equal(stored.rows(first, stop), tensor[first:stop])
            checked += 1
    assert checked == 3 * len(whole)


def test_a_full_disk_of_one_process_ends_all(saved):
    folder, printed = saved
    lines = [line for line in printed.splitlines() if line.startswith("REFUSED")]
    assert len(lines) == 2
    assert all("no space for the checkpoint of step 2, of which weights-00001-of-00002" in line for line in lines)
    assert list((folder / "full" / "checkpoints").iterdir()) == []


@pytest.mark.parametrize("damage", ["missing", "truncated", "swapped", "index"])
def test_damage_to_a_shard_is_one_sentence(saved, tmp_path, damage):
    folder, _ = saved
    run = shutil.copytree(folder / "two", tmp_path / "run")
    place = run / "checkpoints" / "step-000000002"
    first, second = (place / f"ema-{rank:05d}-of-00002.safetensors" for rank in range(2))
    if damage == "missing":
        second.unlink()
    elif damage == "truncated":
        second.write_bytes(second.read_bytes()[:-100])
    elif damage == "swapped":
        content = first.read_bytes()
        second.replace(first)
        second.write_bytes(content)
    else:
        # with a digest that fits, as of someone who means it: an index that leads out of the folder
        facts = json.loads((place / "checkpoint.json").read_text())
        del facts["digest"]
        name = next(iter(facts["shards"]["ema"]))
        for piece in facts["shards"]["ema"][name]:
            piece[0] = f"../{place.name}/{piece[0]}"
            facts["files"][piece[0]] = hashlib.sha256((place / piece[0]).read_bytes()).hexdigest()
        (place / "checkpoint.json").write_text(json.dumps({**facts, "digest": checkpoint._digest(facts)}))
    # the other parts are whole
    opened = checkpoint.find_checkpoint(run)
    assert opened.tensors("weights")
    with pytest.raises(CheckpointError) as caught:
        opened.tensors("ema")
    assert "ema-0000" in str(caught.value)
    assert (
        "cannot be read" in str(caught.value) if damage == "missing" else "its digest does not fit" in str(caught.value)
    )
    assert "There is no checkpoint before it." in str(caught.value)
