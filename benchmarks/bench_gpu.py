"""Speed of the model on one machine, as JSON: python benchmarks/bench_gpu.py [--small] [--out FILE]

Needs torch, numpy and safetensors, and no network. It measures, with the card's name:

- steps: utilisation by exact FLOPs of the measured matrix rate, tokens a second and the share of the time in which the
  device works, of whole training steps (loader, noise, network, clipping, AdamW, averages) at depths 2, 4, 8 and 12;
- loader: windows a second that one thread reads, against what each depth takes;
- sampling: seconds of 200 continuations of 30 s at depth 4, 32 steps, with samples written;
- public block: tokens a second over the same network of diffusers' joint block, where that is installed.

`--small` is a rehearsal for a machine without a GPU: the same code at lengths that a processor can compute.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[1]))

from cdslm_model.data.mel import MelSpec, Normalizer
from cdslm_model.data.shard import Draft
from cdslm_model.data.storage import find_storage
from cdslm_model.data.windows import Shards, Windows
from cdslm_model.devices import matrix_rate, pick_device, precision
from cdslm_model.net import flops
from cdslm_model.net.attention import fastest_kernel
from cdslm_model.net.config import Config
from cdslm_model.net.memory import recomputed_blocks
from cdslm_model.net.mmdit import time_features
from cdslm_model.sample.continuation import Continuer, SamplingConfig
from cdslm_model.train.distributed import World
from cdslm_model.train.execution import Execution
from cdslm_model.train.objective import Validation, training_batch
from cdslm_model.train.schedule import WarmupStableDecay
from cdslm_model.train.settings import Settings
from cdslm_model.train.trainer import Trainer

FULL = {"depths": (2, 4, 8, 12), "batch": 32, "frames": (800, 2400), "clips": 200, "seconds": 30.0, "steps": 20}
SMALL = {"depths": (1, 2), "batch": 2, "frames": (40, 80), "clips": 2, "seconds": 1.0, "steps": 3}
SAMPLING_DEPTH, SAMPLING_STEPS = 4, 32
CLIPS_PER_BATCH = 50


def shards(folder: Path, frames: int) -> Shards:
    """Write one clip of noise of the level of speech, and open it: speed does not depend on the content."""
    draft = Draft(find_storage("float16"))
    mels = np.random.default_rng(0).normal(-3.0, 1.5, (frames, MelSpec().mels)).astype(np.float16)
    draft.add({"name": "noise", "stamp": "", "digest": "0" * 64, "speaker": None}, mels)
    draft.close(folder, 0, MelSpec())
    return Shards(folder)


def trainer(depth: int, sizes: dict[str, Any], held: Shards, device: torch.device, compiled: bool) -> Trainer:
    """Return a trainer as `cdslm train` makes it on one device."""
    context, continuation = sizes["frames"]
    config = Config.from_depth(depth, context_frames=context, continuation_frames=continuation)
    settings, windows = Settings(config=config, batch_size=sizes["batch"]), Windows(held, context, continuation)
    dtype = precision(settings.precision, device)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")
    execution = Execution(
        compile=compiled,
        recompute=recomputed_blocks(config, settings.batch_size, dtype, free),
        kernel=fastest_kernel(
            (settings.batch_size, context + continuation, config.heads, config.head_dim), device, dtype
        ),
    )
    validation = Validation(windows, held.normalizer(), 1)
    return Trainer(settings, World(0, 1, device), windows, held.normalizer(), validation, execution)


def seconds_of(call: Callable[[], object], device: torch.device) -> float:
    """Return the elapsed seconds of a call and of all that it launched."""
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def busy_share(steps: Iterator[object], count: int, device: torch.device) -> float | None:
    """Return the share of some steps' time in which a kernel runs; None without a GPU."""
    if device.type != "cuda":
        return None
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        elapsed = seconds_of(lambda: [next(steps) for _ in range(count)], device)
    # kernels of two streams may overlap: the union of their intervals, and not the sum of their times
    spans = sorted((event.time_range.start, event.time_range.end) for event in profile.events())
    busy, end = 0.0, 0.0
    for start, stop in spans:
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return busy * 1e-6 / elapsed


def measured_steps(
    sizes: dict[str, Any], held: Shards, device: torch.device, compiled: bool, rate: float
) -> list[dict[str, Any]]:
    """Return the speed of training at each depth."""
    rows = []
    for depth in sizes["depths"]:
        own = trainer(depth, sizes, held, device, compiled)
        steps = own.advance(WarmupStableDecay(1_000_000, 10, 10), 1_000_000)
        count = sizes["steps"]
        first_s = seconds_of(lambda steps=steps: next(steps), device)
        seconds_of(lambda steps=steps: [next(steps) for _ in range(3)], device)
        elapsed = seconds_of(lambda steps=steps, count=count: [next(steps) for _ in range(count)], device) / count
        work = sizes["batch"] * flops.training(own.settings.config, *sizes["frames"]).total
        rows.append(
            {
                "depth": depth,
                "parameters": own.settings.config.parameters(),
                "step_s": elapsed,
                "first_step_s": first_s,
                "utilisation": work / elapsed / rate,
                "tflops_per_s": work / elapsed / 1e12,
                "tokens_per_s": sizes["batch"] * sum(sizes["frames"]) / elapsed,
                "windows_per_s": sizes["batch"] / elapsed,
                "busy_share": busy_share(steps, count, device),
                "peak_gib": torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None,
                "execution": own.execution.as_dict(own.world),
            }
        )
        steps.close()
        # before the next one is planned: its memory is what is free
        del own, steps
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def measured_loader(sizes: dict[str, Any], held: Shards) -> dict[str, float]:
    """Return how many windows one thread reads in a second, and the processor's time of a batch."""
    windows = Windows(held, *sizes["frames"])
    training_batch(windows, 0, 0, range(sizes["batch"]), sizes["batch"])
    start, used, count = time.perf_counter(), time.process_time(), 20
    for step in range(1, count + 1):
        training_batch(windows, 0, step, range(sizes["batch"]), sizes["batch"])
    elapsed, used = time.perf_counter() - start, time.process_time() - used
    return {"windows_per_s": count * sizes["batch"] / elapsed, "cpu_s_per_batch": used / count}


def measured_sampling(sizes: dict[str, Any], held: Shards, device: torch.device, folder: Path) -> dict[str, Any]:
    """Return the seconds of continuations by a fresh model, samples written; the second call has nothing to compile."""
    own = trainer(SAMPLING_DEPTH, sizes, held, device, False)
    facts = {
        "settings": own.settings.as_dict(),
        "mel_spec": {name: getattr(held.spec, name) for name in held.spec.__dataclass_fields__},
        "normalizer": Normalizer.as_dict(held.normalizer()),
    }
    # the state of an optimizer exists after a step
    next(own.advance(WarmupStableDecay(10, 1, 1), 1))
    own.save(folder, facts, frozenset())
    own.settle()
    model = Continuer(folder, SamplingConfig(steps=SAMPLING_STEPS), str(device))
    frames = round(sizes["seconds"] * held.spec.frame_rate)
    contexts = [held.read(0, sizes["frames"][0])] * sizes["clips"]

    def generate() -> None:
        for start in range(0, sizes["clips"], CLIPS_PER_BATCH):
            numbers = range(start, min(start + CLIPS_PER_BATCH, sizes["clips"]))
            log_mels = model.continuations([contexts[number] for number in numbers], numbers, frames)
            for number, samples in zip(numbers, model.speak(torch.stack(log_mels)), strict=True):
                samples.tofile(folder / f"{number:03d}.f32")

    times = [seconds_of(generate, device) for _ in range(2)]
    return {
        "clips": sizes["clips"],
        "seconds_each": sizes["seconds"],
        "steps": SAMPLING_STEPS,
        "first_s": times[0],
        "s": times[1],
    }


class Public(nn.Module):
    """The same network of diffusers' block of Stable Diffusion 3; it knows no positions."""

    def __init__(self, config: Config, block: type[nn.Module]) -> None:
        super().__init__()
        d = config.width
        self.embed, self.out = nn.Linear(config.token_width, d), nn.Linear(d, config.token_width)
        self.time = nn.Sequential(nn.Linear(256, 4 * d), nn.SiLU(), nn.Linear(4 * d, d))
        self.blocks = nn.ModuleList(
            block(d, config.heads, config.head_dim, context_pre_only=index == config.depth - 1, qk_norm="rms_norm")
            for index in range(config.depth)
        )

    def forward(self, streams: tuple[Tensor, Tensor], at: Tensor) -> Tensor:
        """Return the output for the continuation."""
        context, generated = (self.embed(stream) for stream in streams)
        condition = self.time(time_features(at))
        for block in self.blocks:
            context, generated = block(generated, context, condition)
        velocity: Tensor = self.out(functional.layer_norm(generated, generated.shape[-1:]))
        return velocity


def measured_public(depth: int, sizes: dict[str, Any], device: torch.device, compiled: bool) -> dict[str, Any] | str:
    """Return the speed of forward and backward passes of both networks, or why there is no other."""
    try:
        from diffusers.models.attention import JointTransformerBlock
    except ImportError as error:
        return f"not measured: {error}"
    from cdslm_model.net.mmdit import MMDiT

    context, continuation = sizes["frames"]
    config = Config.from_depth(depth, context_frames=context, continuation_frames=continuation)
    streams = tuple(torch.randn(sizes["batch"], frames, config.mels, device=device) for frames in sizes["frames"])
    at = torch.rand(sizes["batch"], device=device)
    dtype, elapsed = precision("auto", device), {}
    for name, network in (("ours", MMDiT(config)), ("public", Public(config, JointTransformerBlock))):
        network.to(device)
        call = torch.compile(network, dynamic=False) if compiled else network

        def step(call: Any = call, network: nn.Module = network) -> None:
            network.zero_grad(set_to_none=True)
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                loss = call(streams, at).float().square().mean()
            loss.backward()

        step()
        elapsed[name] = min(seconds_of(step, device) for _ in range(sizes["steps"]))
    return {
        "depth": depth,
        **{f"{name}_s": value for name, value in elapsed.items()},
        "tokens_over_public": elapsed["public"] / elapsed["ours"],
    }


def main() -> None:
    """Measure, and print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="Lengths that a processor can compute.")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--out", type=Path, help="Write the JSON there too.")
    options = parser.parse_args()
    device, sizes = pick_device(options.device), SMALL if options.small else FULL
    on_gpu = device.type == "cuda"
    compiled = on_gpu and not options.no_compile
    rate = matrix_rate(device, precision("auto", device))
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if on_gpu else f"{platform.processor() or platform.machine()} CPU",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "sizes": sizes,
        "compiled": compiled,
        "matrix_tflops_per_s": rate / 1e12,
    }
    with tempfile.TemporaryDirectory() as name:
        held = shards(Path(name), 40 * sum(sizes["frames"]))
        result["steps"] = measured_steps(sizes, held, device, compiled, rate)
        result["loader"] = measured_loader(sizes, held)
        result["sampling"] = measured_sampling(sizes, held, device, Path(name) / "run")
        result["public_block"] = measured_public(sizes["depths"][-1 if options.small else 1], sizes, device, compiled)
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
