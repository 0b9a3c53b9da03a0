"""`cdslm validate`: the validation loss of a run, by language or source."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="validate", no_args_is_help=True)(validate)


def validate(
    run: Annotated[str, typer.Argument(help="A run of cdslm train, or a checkpoint in it.")],
    valid: Annotated[Path, typer.Option("--valid", help="Held-out prepared speech.")],
    by: Annotated[str, typer.Option("--by", help="language or source.")] = "source",
    windows: Annotated[
        int | None, typer.Option("--windows", min=2, help="Held-out windows.", show_default="the run's")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the validation loss of each language or source of held-out speech, on windows as the run's own."""
    from cdslm_model.checkpoint import Checkpoint
    from cdslm_model.data.windows import Shards, Windows
    from cdslm_model.plugin.printing import printable
    from cdslm_model.sample.continuation import Continuer
    from cdslm_model.train.groups import losses_by
    from cdslm_model.train.settings import Settings

    model = Continuer(run, device=device)
    settings = Settings.from_dict(Checkpoint.open(model.folder).facts["settings"])
    held_out = Windows(
        Shards(valid), model.config.context_frames, model.config.continuation_frames, settings.join_speakers
    )
    count = settings.valid_windows if windows is None else windows
    groups = losses_by(by, model.predict, model.process, held_out, model.normalizer, count)
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(group) for group in groups], indent=1))
        return
    for group in groups:
        error = "" if group.se is None else f" +- {group.se:.5f}"
        typer.echo(f"{printable(group.name or 'unknown')}: {group.loss:.5f}{error} ({group.windows} windows)")
