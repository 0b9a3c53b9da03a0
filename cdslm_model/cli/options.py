"""Options of `cdslm train`, each declared once with its help; other models' commands share them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Accumulate",
    "AsJson",
    "AttentionBias",
    "BatchSize",
    "ClipNorm",
    "CompileNetwork",
    "ContextBuckets",
    "ContextSeconds",
    "ContinuationBuckets",
    "ContinuationSeconds",
    "Data",
    "DecayShare",
    "Depth",
    "Device",
    "Ema",
    "EmaShare",
    "EndShare",
    "Gamma",
    "GuessFrames",
    "HeadDim",
    "JoinSpeakers",
    "Lr",
    "Mix",
    "OnsetWeight",
    "Out",
    "Patch",
    "Plan",
    "Precision",
    "Probe",
    "Recipe",
    "Recompute",
    "RotaryBase",
    "SaveEvery",
    "SaveMinutes",
    "Schedule",
    "Seed",
    "ShardGroup",
    "StaticContext",
    "Steps",
    "Target",
    "TargetFlops",
    "Tokens",
    "Valid",
    "ValidEvery",
    "ValidWindows",
    "Vocoder",
    "WarmupSteps",
    "WeightDecay",
    "WeightFloor",
    "ZeroTerminalSnr",
]

Data = Annotated[Path, typer.Option("--data", help="Prepared speech; its train and valid splits where it has them.")]
Out = Annotated[Path, typer.Option("--out", help="The run's folder; the same command again resumes it.")]
Depth = Annotated[int, typer.Option("--depth", min=1, help="Blocks; width is 128 a block. 4 has 36M parameters.")]
Valid = Annotated[Path | None, typer.Option("--valid", help="Held-out prepared speech.")]
TargetFlops = Annotated[
    list[float] | None, typer.Option("--target-flops", help="Train for this many exact FLOPs; repeat for a branch.")
]
Tokens = Annotated[list[float] | None, typer.Option("--tokens", help="Train for this many frames.")]
Steps = Annotated[list[int] | None, typer.Option("--steps", help="Train for this many steps.")]
ContextSeconds = Annotated[float, typer.Option("--context-seconds", min=0.0, max=3600.0, help="Context of a window.")]
ContinuationSeconds = Annotated[
    float, typer.Option("--continuation-seconds", min=0.0125, max=3600.0, help="Continuation of a window.")
]
ContextBuckets = Annotated[
    list[float] | None,
    typer.Option("--context-buckets", help="Seconds of shorter contexts that steps draw too; repeat for several."),
]
ContinuationBuckets = Annotated[
    list[float] | None,
    typer.Option("--continuation-buckets", help="Seconds of shorter continuations that steps draw too."),
]
JoinSpeakers = Annotated[
    bool, typer.Option("--join-speakers", help="Let windows run over adjacent clips of one speaker.")
]
Mix = Annotated[
    list[str] | None,
    typer.Option("--mix", help="SOURCE=WEIGHT: share of a source of cdslm prepare in training; repeat for each."),
]
Plan = Annotated[
    bool, typer.Option("--plan", help="Print N, D, C, steps, epochs and bytes on disk as JSON; train nothing.")
]
Patch = Annotated[int, typer.Option("--patch", min=1, max=6, help="Frames that make one token.")]
Schedule = Annotated[str, typer.Option("--schedule", help="linear, cosine, exponential or flow.")]
Target = Annotated[str, typer.Option("--target", help="v, epsilon, x0 or flow.")]
ZeroTerminalSnr = Annotated[
    bool, typer.Option("--zero-terminal-snr/--keep-terminal-snr", help="Whether time 1 is pure noise.")
]
Gamma = Annotated[float, typer.Option("--gamma", help="Cap of the SNR in the loss weight.")]
WeightFloor = Annotated[float | None, typer.Option("--weight-floor", help="Least loss weight in noise.")]
Recipe = Annotated[
    str, typer.Option("--recipe", help="continue (ours) or paper: defaults of the six options that follow.")
]
EndShare = Annotated[float | None, typer.Option("--end-share", help="Share of training times at pure noise.")]
OnsetWeight = Annotated[
    float | None, typer.Option("--onset-weight", help="Additional loss weight of the first frame of a continuation.")
]
AttentionBias = Annotated[
    float | None, typer.Option("--attention-bias", help="Initial bias of queries and keys: attend to near frames.")
]
RotaryBase = Annotated[float | None, typer.Option("--rotary-base", help="Base of the rotary embedding, in frames.")]
StaticContext = Annotated[
    bool,
    typer.Option(
        "--static-context", help="Context at time 0 and blind to the continuation; computed once in generation."
    ),
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Windows a step, over all processes.")]
Accumulate = Annotated[int, typer.Option("--accumulate", min=1, help="Pieces of a step, to save memory.")]
Lr = Annotated[float, typer.Option("--lr", help="Peak learning rate at the base size.")]
WeightDecay = Annotated[float, typer.Option("--weight-decay", help="At the base size.")]
WarmupSteps = Annotated[int, typer.Option("--warmup-steps", min=0, help="At most; a tenth of a short run.")]
DecayShare = Annotated[float, typer.Option("--decay-share", help="Share of the run with a falling rate.")]
GuessFrames = Annotated[
    int | None,
    typer.Option("--guess-frames", min=0, help="First frames that a linear regression guesses from the context."),
]
Ema = Annotated[float, typer.Option("--ema", help="Largest decay of the averaged weights.")]
EmaShare = Annotated[
    float, typer.Option("--ema-share", help="Horizon of the averaged weights as a share of the steps so far.")
]
ClipNorm = Annotated[float, typer.Option("--clip-norm", help="Largest norm of the gradient.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of weights, windows, noise and times.")]
ValidWindows = Annotated[int, typer.Option("--valid-windows", min=1, help="Held-out windows.")]
ValidEvery = Annotated[int, typer.Option("--valid-every", min=1, help="Steps between validations.")]
SaveEvery = Annotated[int, typer.Option("--save-every", min=1, help="Steps between checkpoints.")]
SaveMinutes = Annotated[
    float | None, typer.Option("--save-minutes", min=0.0, help="Minutes between checkpoints, in place of --save-every.")
]
Vocoder = Annotated[str, typer.Option("--vocoder", help="Turns log-mels into samples in generation.")]
Probe = Annotated[
    bool, typer.Option("--probe/--no-probe", help="Measure the use of the context at the end (cdslm probe).")
]
Precision = Annotated[
    str,
    typer.Option("--precision", help="auto (bfloat16 on a GPU), float32 or bfloat16, which some processors do fast."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
CompileNetwork = Annotated[
    bool | None, typer.Option("--compile/--no-compile", help="Let torch compile the network (default: on a GPU).")
]
Recompute = Annotated[
    int | None,
    typer.Option(
        "--recompute",
        min=0,
        help="First blocks whose activations are recomputed, to save memory (default: what a GPU's memory needs).",
    ),
]
ShardGroup = Annotated[
    int | None,
    typer.Option("--shard-group", min=1, help="Processes that share one copy of the weights (default: all)."),
]
HeadDim = Annotated[int, typer.Option("--head-dim", help="Dimension of an attention head: 64, or 128 for recent GPUs.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
