"""`cdslm params`, `cdslm flops`, `cdslm roundtrip`, `cdslm probe`: measurements without training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(name="params", no_args_is_help=True)(params)
    app.command(name="flops", no_args_is_help=True)(flops)
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
    """Print the FLOPs of one sample: forward, training (3 x forward), and and 6ND."""
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
