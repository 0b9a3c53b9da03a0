"""Sampling against plain forward passes: guidance, what steps share, bfloat16; Griffin-Lim by clip and by batch.

In processor time of one thread and in turn, so that what else the machine does counts for neither side; the best of the
turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from cdslm_model.data.mel import MelSpec  # noqa: E402 - torch may be absent
from cdslm_model.diffusion import Process  # noqa: E402
from cdslm_model.net.config import Config  # noqa: E402
from cdslm_model.net.mmdit import MMDiT  # noqa: E402
from cdslm_model.net.parametrization import initialise  # noqa: E402
from cdslm_model.noise import clip_noise  # noqa: E402
from cdslm_model.sample.denoiser import Denoiser  # noqa: E402
from cdslm_model.sample.sampling import SAMPLERS, guided, times  # noqa: E402
from cdslm_model.sample.vocoder import GriffinLim  # noqa: E402

CPU = torch.device("cpu")
SIZES = {
    # depth, patch, context frames, frames, clips, steps
    "depth 2, 2.5 s + 7.5 s, 2 clips": (2, 1, 200, 600, 2, 6),
    "depth 2, patch 2, 1 s + 2 s, 8 clips": (2, 2, 80, 160, 8, 6),
    "depth 4, patch 2, 1 s + 2 s, 1 clip": (4, 2, 80, 160, 1, 6),
}


def network(size: str, dtype: torch.dtype = torch.float32) -> MMDiT:
    depth, patch, context, frames, *_ = SIZES[size]
    config = Config.from_depth(depth, patch=patch, context_frames=context, continuation_frames=frames)
    model = MMDiT(config).eval()
    initialise(model, config, 0)
    return model.to(dtype)


def whole_passes(model: MMDiT):
    """Return the network as samplers call it, each step a forward pass of its own."""
    return lambda conditions: lambda x, at: model((*conditions, x), at.float().expand(len(x)))


def in_turn(*functions: Callable[[], object], turns: int = 6) -> list[float]:
    """Return the least processor seconds of each function."""

    def timed(function: Callable[[], object]) -> float:
        start = time.process_time()
        with torch.inference_mode():
            function()
        return time.process_time() - start

    return [min(side) for side in zip(*([timed(own) for own in functions] for _ in range(turns)), strict=True)]


def test_guided_step_against_two_forward_passes(benchmark):
    size = "depth 2, 2.5 s + 7.5 s, 2 clips"
    _, _, context_frames, frames, clips, steps = SIZES[size]
    model, process = network(size), Process()
    noise = clip_noise(0, range(clips), frames, 80)
    context, silence = torch.randn(clips, context_frames, 80), torch.full((clips, context_frames, 80), -3.0)
    grid = times(process, steps)
    whole = whole_passes(model)
    predict = guided(whole, (context,), (silence,), 2.0, one_batch=False)
    at_once = guided(whole, (context,), (silence,), 2.0)
    nothing = guided(lambda _: lambda x, _: x, (context,), (silence,), 2.0, one_batch=False)

    def sample(with_network=predict):
        with torch.inference_mode():
            return SAMPLERS["dpm-solver-2m"](with_network, noise, grid, process)

    def passes():
        for step in range(steps):
            at = torch.full((clips,), grid[step])
            for condition in (context, silence):
                model((condition, noise), at)

    sides = sample, passes, lambda: sample(nothing), lambda: sample(at_once)
    guided_s, plain_s, alone_s, one_batch_s = in_turn(*sides)
    benchmark.extra_info["guided sampling over two passes a step"] = guided_s / plain_s
    benchmark.extra_info["guided sampling in one batch over two passes a step"] = one_batch_s / plain_s
    benchmark.extra_info["the sampler without the network over two passes a step"] = alone_s / plain_s
    benchmark.pedantic(sample, rounds=2)


@pytest.mark.parametrize("size", SIZES)
def test_steps_with_shared_parts_against_whole_passes(benchmark, size):
    """Before: modulations, positions and context are computed in every step, in float32."""
    _, _, context_frames, frames, clips, steps = SIZES[size]
    process = Process()
    noise = clip_noise(0, range(clips), frames, 80)
    context = torch.randn(clips, context_frames, 80, generator=torch.Generator().manual_seed(0))
    grid = times(process, steps)
    exact, half = network(size), network(size, torch.bfloat16)

    def sample(denoise):
        return SAMPLERS["dpm-solver-2m"](denoise((context,)), noise, grid, process)

    def shared(model=exact, dtype=torch.float32):
        # made anew: every sample pays for its table of modulations, as the first batch of a set does
        denoise = Denoiser(model, process, CPU, dtype)
        denoise.tabulate(grid[:-1])
        return sample(denoise)

    def before():
        return sample(whole_passes(exact))

    with torch.inference_mode():
        torch.testing.assert_close(shared(), before(), rtol=0, atol=1e-4)
    before_s, shared_s, rounded_s = in_turn(before, shared, lambda: shared(half, torch.bfloat16))
    benchmark.extra_info["size"] = size
    benchmark.extra_info["shared parts over whole passes"] = shared_s / before_s
    benchmark.extra_info["shared parts in bfloat16 over whole passes in float32"] = rounded_s / before_s
    benchmark.pedantic(torch.inference_mode()(shared), rounds=2)


def test_griffin_lim_by_batch_and_by_clip(benchmark):
    log_mels = torch.randn(4, 320, 80, generator=torch.Generator().manual_seed(0)) - 3
    vocoder = GriffinLim(MelSpec(), iterations=16)
    batch_s, clip_s = in_turn(lambda: vocoder(log_mels), lambda: [vocoder(own[None]) for own in log_mels], turns=4)
    benchmark.extra_info["4 clips of 4 s in one batch over clip by clip"] = batch_s / clip_s
    benchmark.pedantic(torch.inference_mode()(vocoder), args=(log_mels[:1],), rounds=2)
