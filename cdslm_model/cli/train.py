"""`cdslm train`: from prepared speech to a checkpoint, resumable at any moment."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="train", no_args_is_help=True)(train)


def train(
    data: Annotated[
        Path, typer.Option("--data", help="Prepared speech; its train and valid splits where it has them.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The run's folder; the same command again goes on from there.")],
    depth: Annotated[int, typer.Option("--depth", min=1, help="Blocks; width is 128 a block. 4 has 36M parameters.")],
    valid: Annotated[Path | None, typer.Option("--valid", help="Held-out prepared speech.")] = None,
    target_flops: Annotated[
        list[float] | None, typer.Option("--target-flops", help="Train for so many exact FLOPs; again for a branch.")
    ] = None,
    tokens: Annotated[list[float] | None, typer.Option("--tokens", help="Or for so many frames.")] = None,
    steps: Annotated[list[int] | None, typer.Option("--steps", help="Or for so many steps.")] = None,
    context_seconds: Annotated[float, typer.Option("--context-seconds", min=0.0, help="Context of a window.")] = 10.0,
    continuation_seconds: Annotated[
        float, typer.Option("--continuation-seconds", min=0.0125, help="Continuation of a window.")
    ] = 30.0,
    join_speakers: Annotated[
        bool, typer.Option("--join-speakers", help="Let windows run over adjacent clips of one speaker.")
    ] = False,
    patch: Annotated[int, typer.Option("--patch", min=1, max=6, help="Frames that make one token.")] = 1,
    schedule: Annotated[str, typer.Option("--schedule", help="linear, cosine, exponential or flow.")] = "cosine",
    target: Annotated[str, typer.Option("--target", help="v, epsilon, x0 or flow.")] = "v",
    zero_terminal_snr: Annotated[
        bool, typer.Option("--zero-terminal-snr/--keep-terminal-snr", help="Whether time 1 is pure noise.")
    ] = True,
    gamma: Annotated[float, typer.Option("--gamma", help="Cap of the SNR in the loss weight.")] = 5.0,
    weight_floor: Annotated[float, typer.Option("--weight-floor", help="Least loss weight in noise.")] = 0.05,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Windows a step, over all processes.")] = 16,
    accumulate: Annotated[int, typer.Option("--accumulate", min=1, help="Pieces of a step, to save memory.")] = 1,
    lr: Annotated[float, typer.Option("--lr", help="Peak learning rate at the base size.")] = 1e-3,
    weight_decay: Annotated[float, typer.Option("--weight-decay", help="At the base size.")] = 0.03,
    warmup_steps: Annotated[int, typer.Option("--warmup-steps", min=0, help="At most; a tenth of a short run.")] = 100,
    decay_share: Annotated[float, typer.Option("--decay-share", help="Share of the run with a falling rate.")] = 0.2,
    ema: Annotated[float, typer.Option("--ema", help="Decay of the averaged weights.")] = 0.999,
    clip_norm: Annotated[float, typer.Option("--clip-norm", help="Largest norm of the gradient.")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of weights, windows, noise and times.")] = 0,
    valid_windows: Annotated[int, typer.Option("--valid-windows", min=1, help="Held-out windows.")] = 64,
    valid_every: Annotated[int, typer.Option("--valid-every", min=1, help="Steps between validations.")] = 250,
    save_every: Annotated[int, typer.Option("--save-every", min=1, help="Steps between checkpoints.")] = 250,
    vocoder: Annotated[str, typer.Option("--vocoder", help="Makes samples when it generates.")] = "griffin-lim",
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    compile_network: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="Let torch compile the network (default: on a GPU).")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing while it runs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train; stopped at any moment, the same command goes on bit for bit (on a CPU).

    Several lengths, such as --target-flops 1e15 --target-flops 1e16, share one run up to where each decays.
    """
    from cdslm_model.config import Config
    from cdslm_model.diffusion import Process
    from cdslm_model.errors import ModelError
    from cdslm_model.loop import Interrupted
    from cdslm_model.mel import MelSpec
    from cdslm_model.settings import Settings
    from cdslm_model.train import Length, Order, open_splits
    from cdslm_model.train import train as run

    given = (("flops", target_flops), ("tokens", tokens), ("steps", steps))
    lengths = [Length(unit, float(amount)) for unit, amounts in given for amount in amounts or ()]
    if not lengths:
        raise ModelError("say how long to train: --target-flops, --tokens or --steps")
    train_on, held_out = open_splits(data, valid)
    rate = MelSpec().frame_rate
    frames = round(context_seconds * rate), round(continuation_seconds * rate)
    settings = Settings(
        config=Config.from_depth(depth, patch=patch, context_frames=frames[0], continuation_frames=frames[1]),
        process=Process(schedule, target, zero_terminal_snr, gamma, weight_floor),
        batch_size=batch_size,
        accumulate=accumulate,
        lr=lr,
        weight_decay=weight_decay,
        warmup_steps=warmup_steps,
        decay_share=decay_share,
        ema=ema,
        clip_norm=clip_norm,
        seed=seed,
        join_speakers=join_speakers,
        valid_windows=valid_windows,
        valid_every=valid_every,
        save_every=save_every,
        vocoder=vocoder,
    )
    order = Order(
        settings=settings,
        data=train_on,
        valid=held_out,
        out=out,
        lengths=lengths,
        device=device,
        compile=compile_network,
        quiet=quiet,
    )
    try:
        result = run(order)
    except Interrupted as request:
        typer.echo(f"cdslm: stopped at a checkpoint in {out}; the same command goes on from there", err=True)
        sys.exit(128 + request.number)
    if int(os.environ.get("RANK", "0")) == 0:
        _show(result, out, as_json)


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
