"""`cdslm-eval split-channels`: two-channel conversations as one clip a speaker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cdslm_eval.cli import common
from cdslm_eval.cli.score import IgnoreColumnsOption

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="split-channels", no_args_is_help=True)(split_channels)


def split_channels(
    clips: Annotated[str, typer.Argument(help="Directory or manifest of two-channel recordings.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the channels and their manifests.")],
    min_length: Annotated[
        str, typer.Option("--min-length", help="Leave out what is shorter, such as 5m for long conversations.")
    ] = "0s",
    ignore_columns: IgnoreColumnsOption = "",
) -> None:
    """Write both channels of recordings apart: conversations.jsonl for turn_taking, manifest.jsonl for training."""
    from cdslm_eval.conversations import split_channels as split

    manifest, left_out = split(
        clips,
        out,
        min_seconds=common.duration_s(min_length, "--min-length"),
        ignore_columns=common.listed(ignore_columns),
        progress=True,
    )
    for key, why in list(left_out.items())[:5]:
        common.note(f"left out: {key}: {why}")
    if len(left_out) > 5:
        common.note(f"left out: {len(left_out)} clips in all")
    typer.echo(str(manifest))
