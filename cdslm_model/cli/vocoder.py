"""`cdslm vocoder train`: train the vocoder that turns this model's log-mels into samples."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

from cdslm_model.cli import options
from cdslm_model.cli.shared import named_settings, run_until_stopped

__all__ = ["add_to"]

_SPLITS = ("valid", "dev", "validation")


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(name="vocoder", help="Train a vocoder for --vocoder istft:RUN.", no_args_is_help=True)
    group.command(name="train", no_args_is_help=True)(train)
    # a lone command of a group would otherwise lose its name
    group.callback()(_group)
    app.add_typer(group)


def _group() -> None:
    """Train a vocoder, from the log-mels of this model to samples."""


def train(
    audio: Annotated[list[str], typer.Argument(help="Recorded speech, 24 kHz or more: directories or manifests.")],
    out: options.Out,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Training steps.")] = 50_000,
    valid: Annotated[
        list[str] | None, typer.Option("--valid", help="Held-out speech; default: its valid split.")
    ] = None,
    width: Annotated[int, typer.Option("--width", min=8, help="Channels of the network.")] = 256,
    blocks: Annotated[int, typer.Option("--blocks", min=1, help="Blocks of the network.")] = 7,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Excerpts a step.")] = 16,
    excerpt_frames: Annotated[int, typer.Option("--excerpt-frames", min=8, help="12.5 ms each.")] = 64,
    critic_width: Annotated[int, typer.Option("--critic-width", min=1, help="Channels of their first layer.")] = 32,
    critics_from: Annotated[
        int, typer.Option("--critics-from", min=0, help="Step from which critics teach beside spectral distances.")
    ] = 2000,
    lr: options.Lr = 5e-4,
    seed: options.Seed = 0,
    valid_every: options.ValidEvery = 1000,
    save_every: options.SaveEvery = 1000,
    precision: options.Precision = "auto",
    device: options.Device = "auto",
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Threads that decode.")] = os.cpu_count() or 1,
    as_json: options.AsJson = False,
) -> None:
    """Train a vocoder; interrupted at any moment, the same command resumes, bit for bit on a CPU."""
    values = dict(locals())
    from cdslm_model.cli.prepare import progress_line
    from cdslm_model.errors import DataError
    from cdslm_model.net.istft import IstftConfig
    from cdslm_model.plugin.recordings import recordings
    from cdslm_model.plugin.verbosity import is_quiet
    from cdslm_model.train.vocoding.run import train_vocoder
    from cdslm_model.train.vocoding.settings import VocoderJob, VocoderSettings

    splits = recordings(audio)
    held_out = recordings(valid).values() if valid else [splits[name] for name in _SPLITS if name in splits][:1]
    if not held_out:
        raise DataError(f"{', '.join(audio)}: holds no train and valid splits; name held-out speech with --valid")
    chosen = splits["train"] if "train" in splits else [clip for clips in splits.values() for clip in clips]
    config = IstftConfig(width=width, hidden=3 * width, blocks=blocks)
    job = VocoderJob(
        settings=VocoderSettings(config=config, **named_settings(VocoderSettings, values)),
        train=chosen,
        valid=[clip for clips in held_out for clip in clips],
        out=out,
        steps=steps,
        device=device,
        jobs=jobs,
        quiet=is_quiet(),
        decoding=progress_line,
    )
    result = run_until_stopped(train_vocoder, job, "cdslm")
    if as_json:
        typer.echo(json.dumps(result, indent=1))
        return
    typer.echo(
        f"{out}: log-mels of held-out speech come back within {result['val_loss']:.2f} dB (mean absolute error) after "
        f"{result['steps']} steps; use it by --vocoder istft:{out}"
    )
