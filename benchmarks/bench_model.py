"""A training step: against plain matrix products, and against the same network of a public two-stream block.

Processor time of one thread on a CPU, the sides in turn, the best of the turns; elapsed time on a GPU.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from torch import nn  # noqa: E402 - torch may be absent

sys.path.insert(0, str(Path(__file__).parent))

from bench_gpu import Public, shards  # noqa: E402 - found by the line before

from cdslm_model.data.windows import Windows  # noqa: E402
from cdslm_model.devices import matrix_rate  # noqa: E402
from cdslm_model.net import flops  # noqa: E402
from cdslm_model.net.config import Config  # noqa: E402
from cdslm_model.net.mmdit import MMDiT  # noqa: E402
from cdslm_model.net.parametrization import initialise  # noqa: E402
from cdslm_model.train.distributed import World  # noqa: E402
from cdslm_model.train.execution import Execution  # noqa: E402
from cdslm_model.train.objective import Validation  # noqa: E402
from cdslm_model.train.schedule import WarmupStableDecay  # noqa: E402
from cdslm_model.train.settings import Settings  # noqa: E402
from cdslm_model.train.trainer import Trainer  # noqa: E402

CPU = Config.from_depth(2, context_frames=160, continuation_frames=320)
GPU = Config.from_depth(4, context_frames=800, continuation_frames=2400)
REQUIRED = 0.5, 0.35
"""Least utilisation of the CPU's float32 rate, and of the GPU's bfloat16 rate."""


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def timed(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def stepper(
    config: Config, batch: int, device: str, *, compiled: bool, precision: str = "auto"
) -> Callable[[], object]:
    """Return a function that takes one whole training step: batch, loss, gradient, clipping, AdamW, averages."""
    with tempfile.TemporaryDirectory() as folder:
        held = shards(Path(folder), 20 * (config.context_frames + config.continuation_frames))
    settings = Settings(config=config, batch_size=batch, precision=precision)
    windows = Windows(held, config.context_frames, config.continuation_frames)
    validation, world = Validation(windows, held.normalizer(), 1), World(0, 1, torch.device(device))
    execution = Execution(compile=compiled)
    trainer = Trainer(settings, world, windows, held.normalizer(), validation, execution)
    steps = trainer.advance(WarmupStableDecay(10_000, 10, 10), 10_000)
    return lambda: next(steps)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_step_on_a_processor_against_its_matrix_products(benchmark, precision):
    batch = 4
    step = stepper(CPU, batch, "cpu", compiled=False, precision=precision)
    dtype = getattr(torch, precision)
    size = 1024
    left, right = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    step()
    turns = [(timed(step), timed(lambda: left @ right)) for _ in range(10)]
    step_s, product_s = (min(side) for side in zip(*turns, strict=True))
    work = batch * flops.training(CPU, CPU.context_frames, CPU.continuation_frames).total
    rate = 2 * size**3 / product_s
    benchmark.extra_info["matrix GFLOP/s"] = rate / 1e9
    benchmark.extra_info["utilisation by exact FLOPs"] = work / step_s / rate
    benchmark.pedantic(step, rounds=3)
    if precision == "float32":
        assert work / step_s / rate > REQUIRED[0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_step_on_a_gpu_against_its_matrix_products(benchmark):
    batch = 32
    step = stepper(GPU, batch, "cuda", compiled=True)
    for _ in range(5):
        step()
    benchmark.pedantic(step, rounds=20)
    work = batch * flops.training(GPU, GPU.context_frames, GPU.continuation_frames).total
    rate = matrix_rate(torch.device("cuda"), torch.bfloat16)
    benchmark.extra_info["matrix TFLOP/s"] = rate / 1e12
    benchmark.extra_info["utilisation by exact FLOPs"] = work / benchmark.stats["min"] / rate
    assert work / benchmark.stats["min"] / rate > REQUIRED[1]


@pytest.mark.parametrize("depth", [2, 4])
def test_step_against_the_same_network_of_a_public_block(benchmark, depth):
    """With one optimizer for both, and each as it comes: a public training loop takes AdamW's default."""
    attention = pytest.importorskip("diffusers.models.attention", reason="the extra `bench` is not installed")
    config = Config.from_depth(depth, context_frames=160, continuation_frames=320)
    batch = 8 // depth
    ours, public = MMDiT(config), Public(config, attention.JointTransformerBlock)
    initialise(ours, config, 0)
    assert sum(parameter.numel() for parameter in public.parameters()) == config.parameters()
    streams = torch.randn(batch, 160, 80), torch.randn(batch, 320, 80)
    at = torch.rand(batch)

    def stepping(network: nn.Module, fused: bool) -> Callable[[], None]:
        optimizer = torch.optim.AdamW(network.parameters(), fused=fused)

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            network(streams, at).square().mean().backward()
            optimizer.step()

        step()
        return step

    sides = stepping(ours, True), stepping(public, True), stepping(public, False)
    turns = [[timed(side) for side in sides] for _ in range(16 // depth)]
    ours_s, public_s, default_s = (min(side) for side in zip(*turns, strict=True))
    benchmark.extra_info["tokens a second over the public block's"] = public_s / ours_s
    benchmark.extra_info["and with AdamW's default there"] = default_s / ours_s
    benchmark.pedantic(sides[0], rounds=2)
    assert public_s / ours_s > 1
