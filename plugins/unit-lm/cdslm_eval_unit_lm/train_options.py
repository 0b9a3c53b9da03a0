"""What `unit-lm` can be told beside what it shares with `cdslm train`: each option once, with its help."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = [
    "Encoder",
    "Family",
    "Layer",
    "Lr",
    "RunLength",
    "Seed",
    "Size",
    "Steps",
    "Stride",
    "TargetFlops",
    "Tokens",
    "Units",
    "WeightDecay",
]

Size = Annotated[int, typer.Option("--size", "--depth", min=1, help="Layers; width is 128 a layer.")]
Family = Annotated[str, typer.Option("--family", help="llama or gpt2.")]
TargetFlops = Annotated[float | None, typer.Option("--target-flops", help="Train for so many exact FLOPs.")]
Tokens = Annotated[float | None, typer.Option("--tokens", help="Or for so many units.")]
Steps = Annotated[int | None, typer.Option("--steps", help="Or for so many steps.")]
Units = Annotated[int, typer.Option("--units", min=2, help="Clusters of k-means.")]
Stride = Annotated[int, typer.Option("--stride", min=1, help="Mel frames (12.5 ms) that make a unit, without encoder.")]
Encoder = Annotated[
    str | None, typer.Option("--encoder", help="Folder of a transformers speech encoder; none: log-mel frames.")
]
Layer = Annotated[int, typer.Option("--layer", min=1, help="Layer of the encoder that is clustered.")]
RunLength = Annotated[bool, typer.Option("--run-length", help="Make a unit that repeats one token.")]
Lr = Annotated[float, typer.Option("--lr", help="Peak learning rate.")]
WeightDecay = Annotated[float, typer.Option("--weight-decay", help="Of matrices.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of clusters, weights and windows.")]
