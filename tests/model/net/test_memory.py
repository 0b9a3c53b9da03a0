"""The plan of a step's memory, against what autograd keeps."""

from __future__ import annotations

import json

import pytest
import torch

from cdslm_model.errors import ModelError
from cdslm_model.net.attention import KERNELS, Kernel, fastest_kernel
from cdslm_model.net.config import Config
from cdslm_model.net.memory import activation_bytes, demand, recomputed_blocks, state_bytes
from cdslm_model.net.mmdit import MMDiT
from cdslm_model.net.parametrization import initialise

WINDOWS = 2


def kept_bytes(config, recompute, half):
    """Return the bytes of the storages that a forward pass saves, without those of the weights."""
    model = MMDiT(config)
    initialise(model, config, 0)
    model.recompute = recompute
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    streams = [torch.randn(WINDOWS, frames, 80) for frames in (config.context_frames, config.continuation_frames)]
    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=half):
        model(streams, torch.rand(WINDOWS))
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("recompute", [0, 2])
def test_planned_activations_are_those_that_autograd_keeps(half, recompute):
    shapes = [Config(depth=depth, width=256, context_frames=100, continuation_frames=200) for depth in (3, 5)]
    dtype = torch.bfloat16 if half else torch.float32
    planned, kept = (
        [measure(shape) for shape in shapes]
        for measure in (
            lambda shape: activation_bytes(shape, WINDOWS, dtype, recompute),
            lambda shape: kept_bytes(shape, recompute, half),
        )
    )
    # the difference of two depths: what is kept outside the blocks is not planned for, nor is it much
    assert planned[1] - planned[0] == pytest.approx(kept[1] - kept[0], rel=0.1)


def test_as_few_blocks_are_recomputed_as_memory_needs():
    config = Config.from_depth(12)
    free = 141e9
    counts = [recomputed_blocks(config, windows, torch.bfloat16, free) for windows in (8, 16, 32)]
    assert counts == sorted(counts)
    assert counts[0] == 0 < counts[-1] < 12
    needed = [
        state_bytes(config, torch.bfloat16) + activation_bytes(config, 32, torch.bfloat16, counts[-1] - less)
        for less in (0, 1)
    ]
    assert needed[0] <= 0.9 * free < needed[1]
    with pytest.raises(ModelError, match="20 GiB are free; a smaller --batch-size"):
        recomputed_blocks(config, 32, torch.bfloat16, 20 * 2**30)


def test_the_fastest_kernel_that_runs_here_is_chosen_and_the_reasons_against_others_are_recorded():
    """On a CPU only torch's own flash attention exists of these; its time is made up."""
    device = torch.device("cpu")
    assert fastest_kernel((1, 8, 2, 64), device, torch.float32) == Kernel()

    def timed(call):
        call()
        return 1.0

    kernel = fastest_kernel((1, 8, 2, 64), device, torch.float32, timed)
    assert kernel.name == "flash-2"
    assert set(kernel.milliseconds) | set(kernel.failures) == set(KERNELS)
    assert kernel.failures["flash-3"]
    assert "No viable backend" in kernel.failures["efficient"]
    heads = [torch.zeros(1, 2, 8, 64) for _ in range(3)]
    with kernel.active(), pytest.raises(RuntimeError, match="No available kernel"):
        # while it is active nothing but flash attention runs, which takes no dropout on a CPU
        torch.nn.functional.scaled_dot_product_attention(*heads, dropout_p=0.5)


@pytest.mark.parametrize(("gib", "gpus"), [(24, 1), (30, 1), (80, 1), (24, 8)])
def test_the_most_windows_fit_and_one_more_does_not(gib, gpus):
    """Against the plan of a run: what it would recompute for these windows, and its refusal of one more."""
    config = Config.from_depth(12, context_frames=24_000, continuation_frames=4_800)
    own = demand(config, torch.bfloat16, gib * 2**30, gpus)
    assert own.tokens == 28_800
    assert own.activation_bytes == 12 * 80 * 28_800 * 1536
    if own.windows:
        assert recomputed_blocks(config, own.windows, torch.bfloat16, gib * 2**30, gpus) == 12
        assert own.recomputed == recomputed_blocks(config, 1, torch.bfloat16, gib * 2**30, gpus)
    else:
        assert own.recomputed is None
    with pytest.raises(ModelError, match="all activations recomputed"):
        recomputed_blocks(config, own.windows + 1, torch.bfloat16, gib * 2**30, gpus)


def test_memory_is_printed_for_each_patch(inside):
    done = inside("memory", "--depth", "12", "--context-seconds", "300", "--continuation-seconds", "60")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0][:2] == ["1e+09", "parameters"]
    assert [line[:2] for line in lines[2:4]] == [["1", "28800"], ["2", "14400"]]
    assert lines[2][2:] == ["20.50", "39.55", "0", "of", "12", "12"]
    rows = json.loads(inside("memory", "--depth", "12", "--gpu-gib", "20", "--json").stdout)
    assert [row["patch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert {(row["recomputed"], row["windows"]) for row in rows} == {(None, 0)}
    assert "no room" in inside("memory", "--depth", "12", "--gpu-gib", "20").stdout
