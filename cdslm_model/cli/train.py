"""`cdslm train`: train a model on prepared speech, resumable at any moment."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import TYPE_CHECKING

import typer

from cdslm_model.cli import options
from cdslm_model.cli.shared import named_settings, run_until_stopped
from cdslm_model.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from cdslm_model.net.config import Config

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
    context_buckets: options.ContextBuckets = None,
    continuation_buckets: options.ContinuationBuckets = None,
    join_speakers: options.JoinSpeakers = False,
    mix: options.Mix = None,
    patch: options.Patch = 1,
    head_dim: options.HeadDim = 64,
    schedule: options.Schedule = "cosine",
    target: options.Target = "v",
    zero_terminal_snr: options.ZeroTerminalSnr = True,
    gamma: options.Gamma = 5.0,
    recipe: options.Recipe = "continue",
    weight_floor: options.WeightFloor = None,
    end_share: options.EndShare = None,
    onset_weight: options.OnsetWeight = None,
    attention_bias: options.AttentionBias = None,
    guess_frames: options.GuessFrames = None,
    rotary_base: options.RotaryBase = None,
    static_context: options.StaticContext = False,
    batch_size: options.BatchSize = 16,
    accumulate: options.Accumulate = 1,
    lr: options.Lr = 1e-3,
    weight_decay: options.WeightDecay = 0.03,
    warmup_steps: options.WarmupSteps = 100,
    decay_share: options.DecayShare = 0.2,
    ema: options.Ema = 0.9999,
    ema_share: options.EmaShare = 0.05,
    clip_norm: options.ClipNorm = 1.0,
    seed: options.Seed = 0,
    valid_windows: options.ValidWindows = 512,
    valid_every: options.ValidEvery = 250,
    save_every: options.SaveEvery = 250,
    save_minutes: options.SaveMinutes = None,
    probe: options.Probe = True,
    vocoder: options.Vocoder = "griffin-lim",
    precision: options.Precision = "auto",
    device: options.Device = "auto",
    compile_network: options.CompileNetwork = None,
    recompute: options.Recompute = None,
    shard_group: options.ShardGroup = None,
    plan: options.Plan = False,
    as_json: options.AsJson = False,
) -> None:
    """Train a model; interrupted at any moment, the same command resumes, bit for bit on a CPU.

    Several lengths, such as --target-flops 1e15 --target-flops 1e16, share one run up to where each decays.
    """
    values = dict(locals())
    from cdslm_model.data.windows import read_spec
    from cdslm_model.diffusion import Process
    from cdslm_model.plugin.verbosity import is_quiet
    from cdslm_model.sample.probe import probe as run_probe
    from cdslm_model.sample.vocoder import find_vocoder
    from cdslm_model.train.jobs import Length, find_splits
    from cdslm_model.train.planning import planned
    from cdslm_model.train.recipes import find_recipe
    from cdslm_model.train.run import TrainingJob
    from cdslm_model.train.run import train as run
    from cdslm_model.train.settings import Settings

    lengths = Length.from_options({"flops": target_flops, "tokens": tokens, "steps": steps})
    train_on, held_out = (_split_to_be(data), data) if plan else find_splits(data, valid)
    # Before the run, so that it does not end with log-mels that no vocoder can turn into samples
    if not plan:
        find_vocoder(vocoder, read_spec(train_on))
    chosen = dataclasses.asdict(find_recipe(recipe))
    chosen |= {name: values[name] for name in chosen if values[name] is not None}
    config = _config(
        depth, patch, context_seconds, continuation_seconds, chosen["rotary_base"], static_context, head_dim
    )
    buckets = {
        "context_buckets": _buckets(context_buckets, config.context_frames),
        "continuation_buckets": _buckets(continuation_buckets, config.continuation_frames),
    }
    settings = Settings(
        process=Process(schedule, target, zero_terminal_snr, gamma, chosen["weight_floor"]),
        **named_settings(Settings, {**values, **chosen, **buckets, "config": config, "mix": _mix(mix or [])}),
    )
    job = TrainingJob(
        settings=settings,
        data=train_on,
        valid=held_out,
        out=out,
        lengths=lengths,
        device=device,
        quiet=is_quiet(),
        compile=compile_network,
        recompute=recompute,
        shard_group=shard_group,
        probe=(lambda saved: run_probe(saved, train_on, held_out, min(128, max(2, valid_windows)), device))
        if probe
        else None,
    )
    if plan:
        typer.echo(json.dumps(planned(job), indent=1))
        return
    result = run_until_stopped(run, job, "cdslm")
    if int(os.environ.get("RANK", "0")) == 0:
        _show(result, out, as_json)


def _mix(texts: list[str]) -> tuple[tuple[str, float], ...]:
    """Return sources and weights of SOURCE=WEIGHT."""
    pairs = []
    for text in texts:
        source, sign, weight = text.rpartition("=")
        try:
            pairs.append((source, float(weight)))
        except ValueError:
            sign = ""
        if not sign or not source:
            raise ModelError(f"--mix {text!r}: a source and its weight, such as studio=0.7")
    return tuple(pairs)


def _split_to_be(data: Path) -> Path:
    """Return the folder to train on; it need not be prepared yet."""
    return data / "train" if (data / "train").is_dir() else data


def _config(
    depth: int,
    patch: int,
    context_seconds: float,
    continuation_seconds: float,
    rotary_base: float,
    static_context: bool,
    head_dim: int,
) -> Config:
    from cdslm_model.data.mel import MelSpec
    from cdslm_model.net.config import Config

    context, continuation = (
        round(seconds * MelSpec().frame_rate) for seconds in (context_seconds, continuation_seconds)
    )
    return Config.from_depth(
        depth,
        patch=patch,
        context_frames=context,
        continuation_frames=continuation,
        rotary_base=rotary_base,
        head_dim=head_dim,
        static_context=static_context,
    )


def _buckets(seconds: list[float] | None, whole: int) -> tuple[int, ...]:
    """Return lengths in frames, the whole one among them; none where there are no shorter ones."""
    from cdslm_model.data.mel import MelSpec

    frames = {round(own * MelSpec().frame_rate) for own in seconds or ()}
    return tuple(sorted(frames | {whole})) if frames else ()


def _show(result: dict[str, object], out: Path, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result, indent=1))
        return
    branches = result["branches"]
    for run in [*(branches if isinstance(branches, list) else []), result]:
        typer.echo(
            f"{out / str(run.get('folder', ''))}: validation loss {run['val_loss']:.5f} (best constant "
            f"{run['constant_loss']:.5f}) after {run['steps']} steps; N {run['parameters']:.4g}, "
            f"D {run['tokens']:.4g}, C {run['flops']:.4g} FLOPs"
        )
