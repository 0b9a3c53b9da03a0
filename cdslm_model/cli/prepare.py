"""`cdslm prepare`: write log-mels of any set of clips into shards."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["add_to", "progress_line"]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="prepare", no_args_is_help=True)(prepare)


def prepare(
    audio: Annotated[
        list[str], typer.Argument(help="Directories, manifests or wav.scp files; NAME=PATH names a source.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the shards; sets with splits get a folder a split.")],
    dtype: Annotated[
        str, typer.Option("--dtype", help="float16, or int8 with a scale for each band: half the disk.")
    ] = "float16",
    ignore_columns: Annotated[
        str,
        typer.Option(
            "--ignore-columns", help="Columns of manifests that are meant to be passed over: A,B or patterns."
        ),
    ] = "",
    min_seconds: Annotated[
        float, typer.Option("--min-seconds", min=0.0, help="Leave out shorter clips: 300 for long conversations.")
    ] = 0.0,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Threads that decode.")] = os.cpu_count() or 1,
) -> None:
    """Write log-mels of speech into shards; a repeated call adds the clips that are missing."""
    import torch

    from cdslm_model.data.mel import MelSpec
    from cdslm_model.data.prepare import prepare as make
    from cdslm_model.data.storage import find_storage
    from cdslm_model.plugin.printing import printable
    from cdslm_model.plugin.recordings import recordings

    # Clips run in parallel here: threads within each of their short transforms would only wait for each other
    torch.set_num_threads(1)
    storage = find_storage(dtype)
    ignored = [name.strip() for name in ignore_columns.split(",") if name.strip()]
    for split, clips in sorted(recordings(audio, ignored, min_seconds).items()):
        folder = out / split
        report = make(clips, folder, MelSpec(), storage=storage, jobs=jobs, progress=progress_line(str(folder)))
        hours = report.frames / MelSpec().frame_rate / 3600
        typer.echo(
            f"{folder}: {report.clips} clips, {hours:.2f} h ({report.added} clips added by this call); "
            f"{storage.name}, {report.bytes / 1e6 / hours:.1f} MB an hour"
        )
        for name, why in list(report.left_out.items())[:5]:
            typer.echo(f"  left out: {printable(name)}: {printable(why)}", err=True)
        if len(report.left_out) > 5:
            typer.echo(f"  left out: {len(report.left_out)} clips in all", err=True)


def progress_line(what: str) -> Callable[[int, int], None]:
    """Return a function that prints the progress, at most every five seconds."""
    from cdslm_model.plugin.verbosity import is_quiet

    start = printed = time.monotonic()

    def line(done: int, total: int) -> None:
        """Print clips done and the time left."""
        nonlocal printed
        now = time.monotonic()
        if is_quiet():
            return
        if now - printed < 5 and not (done == total and now - start > 5):
            return
        printed = now
        left = (total - done) * (now - start) / max(done, 1)
        print(f"{what}: {done}/{total} clips, {left:.0f} s left", file=sys.stderr, flush=True)

    return line
