"""Options of `unit-lm` that `cdslm train` does not have, each declared once with its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Ema",
    "Encoder",
    "Family",
    "Layer",
    "Lr",
    "Parametrization",
    "RunLength",
    "Size",
    "Stride",
    "Units",
    "UnitsFrom",
    "WeightDecay",
]

Size = Annotated[int, typer.Option("--size", "--depth", min=1, help="Layers; width is 128 a layer.")]
Family = Annotated[str, typer.Option("--family", help="llama or gpt2.")]
Units = Annotated[int, typer.Option("--units", min=2, help="Clusters of k-means.")]
Stride = Annotated[int, typer.Option("--stride", min=1, help="Mel frames (12.5 ms) that make a unit, without encoder.")]
Encoder = Annotated[
    str | None, typer.Option("--encoder", help="Folder of a transformers speech encoder; none: log-mel frames.")
]
Layer = Annotated[int, typer.Option("--layer", min=1, help="Layer of the encoder that is clustered.")]
RunLength = Annotated[bool, typer.Option("--run-length", help="Make a unit that repeats one token.")]
UnitsFrom = Annotated[
    Path | None,
    typer.Option("--units-from", help="Folder of unit-lm units, for many models: its units, stride, encoder, layer."),
]
Parametrization = Annotated[
    str, typer.Option("--parametrization", help="mup: rates hold at every width; standard: as they are set.")
]
Lr = Annotated[float, typer.Option("--lr", help="Peak learning rate; under mup, at width 512.")]
WeightDecay = Annotated[float, typer.Option("--weight-decay", help="Under mup, at width 512.")]
Ema = Annotated[float, typer.Option("--ema", help="Largest decay of the averaged weights; 0 averages nothing.")]
