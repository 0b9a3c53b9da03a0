"""Options of `unit-lm` that `cdslm train` does not have, each declared once with its help."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = [
    "Encoder",
    "Family",
    "Layer",
    "RunLength",
    "Size",
    "Stride",
    "Units",
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
