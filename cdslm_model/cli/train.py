"""`cdslm train`: from prepared speech to a checkpoint, resumable at any moment."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import typer

from cdslm_model.cli import train_options as options

if TYPE_CHECKING:
    from pathlib import Path

    from cdslm_model.net.config import Config
    from cdslm_model.train.run import Order

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="train", no_args_is_help=True)(train)


def train(
    data: options.Data,
    out: options.Out,
    depth: options.Depth,
    valid: options.Valid = None,
    target_flops: options.TargetFlops = None,
    tokens: options.Tokens = None,
    steps: options.Steps = None,
    context_seconds: options.ContextSeconds = 10.0,
    continuation_seconds: options.ContinuationSeconds = 30.0,
    join_speakers: options.JoinSpeakers = False,
    patch: options.Patch = 1,
    schedule: options.Schedule = "cosine",
    target: options.Target = "v",
    zero_terminal_snr: options.ZeroTerminalSnr = True,
    gamma: options.Gamma = 5.0,
    weight_floor: options.WeightFloor = 0.05,
    batch_size: options.BatchSize = 16,
    accumulate: options.Accumulate = 1,
    lr: options.Lr = 1e-3,
    weight_decay: options.WeightDecay = 0.03,
    warmup_steps: options.WarmupSteps = 100,
    decay_share: options.DecayShare = 0.2,
    ema: options.Ema = 0.999,
    clip_norm: options.ClipNorm = 1.0,
    seed: options.Seed = 0,
    valid_windows: options.ValidWindows = 64,
    valid_every: options.ValidEvery = 250,
    save_every: options.SaveEvery = 250,
    vocoder: options.Vocoder = "griffin-lim",
    precision: options.Precision = "auto",
    device: options.Device = "auto",
    compile_network: options.CompileNetwork = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Train; stopped at any moment, the same command goes on bit for bit (on a CPU).

    Several lengths, such as --target-flops 1e15 --target-flops 1e16, share one run up to where each decays.
    """
    given = dict(locals())
    from cdslm_model.sample.diffusion import Process
    from cdslm_model.train.lineage import Length, find_splits
    from cdslm_model.train.run import Order
    from cdslm_model.train.settings import Settings

    lengths = Length.all_of({"flops": target_flops, "tokens": tokens, "steps": steps})
    train_on, held_out = find_splits(data, valid)
    # The options that are settings bear the settings' names
    named = {field.name: given[field.name] for field in dataclasses.fields(Settings) if field.name in given}
    settings = Settings(
        config=_config(depth, patch, context_seconds, continuation_seconds),
        process=Process(schedule, target, zero_terminal_snr, gamma, weight_floor),
        **named,
    )
    order = Order(settings=settings, data=train_on, valid=held_out, out=out, lengths=lengths, device=device)
    result = _run(dataclasses.replace(order, compile=compile_network, quiet=quiet))
    if int(os.environ.get("RANK", "0")) == 0:
        _show(result, out, as_json)


def _config(depth: int, patch: int, context_seconds: float, continuation_seconds: float) -> Config:
    from cdslm_model.data.mel import MelSpec
    from cdslm_model.net.config import Config

    context, continuation = (
        round(seconds * MelSpec().frame_rate) for seconds in (context_seconds, continuation_seconds)
    )
    return Config.from_depth(depth, patch=patch, context_frames=context, continuation_frames=continuation)


def _run(order: Order) -> dict[str, Any]:
    from cdslm_model.train.run import train as run
    from cdslm_model.train.stopping import Interrupted

    try:
        return run(order)
    except Interrupted as request:
        typer.echo(f"cdslm: stopped at a checkpoint in {order.out}; the same command goes on from there", err=True)
        sys.exit(128 + request.number)


def _show(result: dict[str, object], out: Path, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result, indent=1))
        return
    branches = result["branches"]
    for one in [*(branches if isinstance(branches, list) else []), result]:
        typer.echo(
            f"{out / str(one.get('folder', ''))}: validation loss {one['val_loss']:.5f} (best constant "
            f"{one['constant_loss']:.5f}) after {one['steps']} steps; N {one['parameters']:.4g}, "
            f"D {one['tokens']:.4g}, C {one['flops']:.4g} FLOPs"
        )
