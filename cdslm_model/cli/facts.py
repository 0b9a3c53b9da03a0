"""`cdslm params`, `cdslm flops`, `cdslm memory`, `cdslm roundtrip`, `cdslm probe`: measurements without training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(name="params", no_args_is_help=True)(params)
    app.command(name="flops", no_args_is_help=True)(flops)
    app.command(name="memory", no_args_is_help=True)(memory)
    app.command(name="roundtrip", no_args_is_help=True)(roundtrip)
    app.command(name="probe", no_args_is_help=True)(probe)


Depth = Annotated[int, typer.Option("--depth", min=1, help="Blocks; width is 128 a block.")]
Patch = Annotated[int, typer.Option("--patch", min=1, max=6, help="Frames that make one token.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def params(depth: Depth, patch: Patch = 1, as_json: AsJson = False) -> None:
    """Print the parameter count of a depth; nothing is allocated."""
    from cdslm_model.net.config import Config

    config = Config.from_depth(depth, patch=patch)
    _show({"parameters": config.parameters(), "depth": depth, "width": config.width, "heads": config.heads}, as_json)


def flops(
    depth: Depth,
    context_frames: Annotated[int, typer.Option("--context-frames", min=0, help="Frames of context.")] = 800,
    continuation_frames: Annotated[int, typer.Option("--continuation-frames", min=1, help="Of continuation.")] = 2400,
    patch: Patch = 1,
    as_json: AsJson = False,
) -> None:
    """Print the FLOPs of one sample: forward, training (3 x forward), and 6ND."""
    from cdslm_model.net import flops as count
    from cdslm_model.net.config import Config

    shape = context_frames, continuation_frames
    config = Config.from_depth(depth, patch=patch, context_frames=shape[0], continuation_frames=shape[1])
    values = {
        "forward": count.forward(config, *shape).total,
        "training": count.training(config, *shape).total,
        "six_nd": count.six_nd(config, *shape),
    }
    _show(values, as_json)


def memory(
    depth: Depth,
    context_seconds: Annotated[float, typer.Option("--context-seconds", min=0, help="Of context.")] = 10.0,
    continuation_seconds: Annotated[float, typer.Option("--continuation-seconds", min=0.1, help="After it.")] = 30.0,
    gpu_gib: Annotated[float, typer.Option("--gpu-gib", min=1, help="Free memory of a GPU.")] = 80.0,
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="GPUs that share one copy of the weights.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Print what training in bfloat16 takes of a GPU, for each patch; calculated, and nothing is allocated.

    Blocks are recomputed in the backward pass where one window would not fit otherwise. "windows" is the most of one
    pass with all of them recomputed.
    """
    import torch

    from cdslm_model.data.mel import MelSpec
    from cdslm_model.net.config import PATCHES, Config
    from cdslm_model.net.memory import demand

    context, continuation = (round(s * MelSpec().frame_rate) for s in (context_seconds, continuation_seconds))
    rows = []
    for patch in PATCHES:
        config = Config.from_depth(depth, patch=patch, context_frames=context, continuation_frames=continuation)
        rows.append({"patch": patch, **asdict(demand(config, torch.bfloat16, gpu_gib * 2**30, gpus))})
    if as_json:
        typer.echo(json.dumps(rows))
        return
    typer.echo(f"{config.parameters():.3g} parameters on {gpus} x {gpu_gib:g} GiB")
    typer.echo("patch   tokens  state GiB  activations GiB  recomputed  windows")
    for row in rows:
        gib = [row[name] / 2**30 for name in ("state_bytes", "activation_bytes")]
        recomputed = "no room" if row["recomputed"] is None else f"{row['recomputed']} of {depth}"
        line = f"{row['patch']:>5}  {row['tokens']:>7}  {gib[0]:>9.2f}  {gib[1]:>15.2f}  {recomputed:>10}"
        typer.echo(f"{line}  {row['windows']:>7}")


def roundtrip(
    audio: Annotated[str, typer.Argument(help="Directory or manifest of real speech.")],
    vocoder: Annotated[str, typer.Option("--vocoder", help="Name of the vocoder.")] = "griffin-lim",
    count: Annotated[int, typer.Option("--count", min=1, help="How many of the clips.")] = 20,
    out: Annotated[str | None, typer.Option("--out", help="Folder for the clips that come back.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure the loss of a vocoder on real speech: the ceiling of all speech generated through it."""
    from cdslm_model.plugin.roundtrip import roundtrip as measure

    _show(measure(audio, vocoder, count, out), as_json)


def probe(
    run: Annotated[str, typer.Argument(help="A run of cdslm train, or a checkpoint in it.")],
    data: Annotated[Path, typer.Option("--data", help="Prepared speech of the run, with train and valid splits.")],
    valid: Annotated[Path | None, typer.Option("--valid", help="Held-out prepared speech.")] = None,
    windows: Annotated[int, typer.Option("--windows", min=2, help="Held-out windows.")] = 128,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure how much of its context a model uses, next to a ridge regression from the same context."""
    from cdslm_model.sample.probe import probe as measure
    from cdslm_model.sample.probe import text
    from cdslm_model.train.jobs import find_splits

    result = measure(run, *find_splits(data, valid), windows, device)
    typer.echo(json.dumps(result, indent=1) if as_json else text(result))


def _show(values: Mapping[str, float], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(values))
        return
    for name, value in values.items():
        typer.echo(f"{name:>16}  {value:.6g}" if isinstance(value, float) else f"{name:>16}  {value}")
