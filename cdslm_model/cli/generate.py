"""`cdslm generate`: continuations of a run, through the same door as any generator's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="generate", no_args_is_help=True)(generate)


def generate(
    run: Annotated[str, typer.Argument(help="A run of cdslm train, or a checkpoint in it.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the clips and their manifest.jsonl.")],
    prompts: Annotated[str | None, typer.Option("--prompts", help="Clips to continue; none: from silence.")] = None,
    context: Annotated[str, typer.Option("--context", help="What of each prompt is continued: end or start.")] = "end",
    count: Annotated[int, typer.Option("--count", min=1, help="How many clips.")] = 20,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="Their length.")] = 10.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same clips.")] = 0,
    guidance: Annotated[float, typer.Option("--guidance", help="Weight of the context against silence.")] = 1.0,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of the sampler.")] = 32,
    sampler: Annotated[str, typer.Option("--sampler", help="dpm-solver-2m, heun, ddim or euler.")] = "dpm-solver-2m",
    vocoder: Annotated[str | None, typer.Option("--vocoder", help="In the place of the run's own.")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    pictures: Annotated[int, typer.Option("--pictures", min=0, help="Clips to draw in spectrograms.png.")] = 8,
) -> None:
    """Write continuations as FLAC with a manifest, and a picture of the first ones; an interrupted call goes on."""
    options = {
        "context": context if prompts else "none",
        "guidance": f"{guidance:g}",
        "steps": steps,
        "sampler": sampler,
        "device": device,
        **({"vocoder": vocoder} if vocoder else {}),
    }
    spec = f"cdslm:{run}," + ",".join(f"{name}={value}" for name, value in options.items())
    command = [sys.executable, "-m", "cdslm_eval", "generate", spec, "--out", str(out), "--count", str(count)]
    command += ["--seconds", f"{seconds:g}", "--seed", str(seed), *(["--prompts", prompts] if prompts else [])]
    code = subprocess.call(command)
    if code:
        sys.exit(code)
    if pictures:
        from cdslm_model.sample.pictures import draw_set

        typer.echo(str(draw_set(out, pictures)))
