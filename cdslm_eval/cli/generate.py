"""`cdslm-eval generate`: clips and a manifest from any generator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cdslm_eval.cli import common, completion
from cdslm_eval.cli.score import DeviceOption, ExecutorOption, IgnoreColumnsOption
from cdslm_eval.core import defaults

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="generate", no_args_is_help=True)(generate)


def generate(
    generator: Annotated[
        str,
        typer.Argument(
            autocompletion=completion.of_kind("generator"),
            help="Name with options, such as babble:2; see `cdslm-eval generators`.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the clips and their manifest.jsonl.")],
    prompts: Annotated[
        str | None, typer.Option("--prompts", help="Directory or manifest to continue, transform or learn from.")
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="How many clips.")] = defaults.CLIP_COUNT,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="Their length.")] = defaults.CLIP_SECONDS,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same clips.")] = 0,
    recognizer: Annotated[
        str, typer.Option("--recognizer", help="Recognizes the prompts' phones where the generator needs them.")
    ] = defaults.RECOGNIZER,
    ignore_columns: IgnoreColumnsOption = "",
    executor: ExecutorOption = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=0, help="Worker processes; 0: none, or one per processor of --executor.")
    ] = 0,
    device: DeviceOption = "auto",
    keep_prompts: Annotated[
        bool,
        typer.Option(
            "--keep-prompts",
            help="Write each clip behind the prompt that it continues, for join_jump; "
            "continuations.jsonl names the clips without.",
        ),
    ] = False,
) -> None:
    """Write clips of a generator as FLAC with a manifest; an interrupted call continues where it stopped."""
    from cdslm_eval import api
    from cdslm_eval.core.clips import MANIFEST

    api.generate(
        generator,
        out,
        prompts=prompts,
        count=count,
        seconds=seconds,
        seed=seed,
        recognizer=recognizer,
        ignore_columns=common.listed(ignore_columns),
        progress=True,
        executor=executor,
        jobs=jobs,
        device=device,
        keep_prompts=keep_prompts,
    )
    typer.echo(str(out / MANIFEST))
