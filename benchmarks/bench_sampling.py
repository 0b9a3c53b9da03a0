"""A guided sampling step against two plain forward passes."""

from __future__ import annotations

import time

import pytest

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from cdslm_model.diffusion import Process  # noqa: E402
from cdslm_model.net.config import Config  # noqa: E402 - torch may be absent
from cdslm_model.net.mmdit import MMDiT  # noqa: E402
from cdslm_model.net.parametrization import initialise  # noqa: E402
from cdslm_model.noise import clip_noise  # noqa: E402
from cdslm_model.sample.sampling import SAMPLERS, guided, times  # noqa: E402

BATCH, CONTEXT, FRAMES, STEPS = 2, 200, 600, 6


def test_guided_step_against_two_forward_passes(benchmark):
    """In processor time and in turn, so that what else the machine does counts for neither; the best of the turns."""
    config = Config.from_depth(2, context_frames=CONTEXT, continuation_frames=FRAMES)
    model = MMDiT(config).eval()
    initialise(model, config, torch.Generator().manual_seed(0))
    process = Process()
    noise = clip_noise(0, range(BATCH), FRAMES, 80)
    context, silence = torch.randn(BATCH, CONTEXT, 80), torch.full((BATCH, CONTEXT, 80), -3.0)
    grid = times(process, STEPS)
    predict = guided(lambda streams, time: model(streams, time.float()), (context,), (silence,), 2.0, one_batch=False)

    at_once = guided(lambda streams, time: model(streams, time.float()), (context,), (silence,), 2.0)
    nothing = guided(lambda streams, _: streams[-1], (context,), (silence,), 2.0, one_batch=False)

    def sample(with_network=predict):
        with torch.inference_mode():
            return SAMPLERS["dpm-solver-2m"](with_network, noise, grid, process)

    def passes():
        with torch.inference_mode():
            for step in range(STEPS):
                at = torch.full((BATCH,), grid[step])
                for condition in (context, silence):
                    model((condition, noise), at)

    def timed(function, *arguments):
        start = time.process_time()
        function(*arguments)
        return time.process_time() - start

    turns = [(timed(sample), timed(passes), timed(sample, nothing), timed(sample, at_once)) for _ in range(6)]
    guided_s, plain_s, alone_s, one_batch_s = (min(side) for side in zip(*turns, strict=True))
    benchmark.extra_info["guided sampling over two passes a step"] = guided_s / plain_s
    benchmark.extra_info["guided sampling in one batch over two passes a step"] = one_batch_s / plain_s
    benchmark.extra_info["the sampler without the network over two passes a step"] = alone_s / plain_s
    benchmark.pedantic(sample, rounds=2)
