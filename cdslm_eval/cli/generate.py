"""`cdslm-eval generate`: clips and a manifest from any generator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cdslm_eval.cli import common

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="generate", no_args_is_help=True)(generate)


def generate(
    generator: Annotated[str, typer.Argument(help="Name with options, such as babble:2; see `cdslm-eval generators`.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the clips and their manifest.jsonl.")],
    prompts: Annotated[
        str | None, typer.Option("--prompts", help="Directory or manifest to continue, transform or learn from.")
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="How many clips.")] = 100,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="Their length.")] = 10.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same clips.")] = 0,
    recognizer: Annotated[
        str, typer.Option("--recognizer", help="Gives the prompts' phones where the generator wants them.")
    ] = "pocketsphinx",
) -> None:
    """Write clips of a generator as FLAC with a manifest; an interrupted call goes on where it stopped."""
    from cdslm_eval.core.clips import MANIFEST, ClipSet
    from cdslm_eval.core.errors import UsageError
    from cdslm_eval.plugin.host import Host
    from cdslm_eval.run.generation import Order, generate_into

    if (out / MANIFEST).exists():
        raise UsageError(f"{out}: holds a finished set already; name an empty folder")
    host = Host()
    order = Order(generator, ClipSet.open(prompts) if prompts else None, count, seconds, seed, recognizer)
    with common.progress(generator) as bar:
        manifest = generate_into(host, host.make("generator", generator), order, out, bar)
    typer.echo(str(manifest))
