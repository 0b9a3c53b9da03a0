"""`cdslm generate`: continuations of a run, written as any generator's are."""

from __future__ import annotations

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
    context: Annotated[str, typer.Option("--context", help="Part of each prompt to continue: end or start.")] = "end",
    count: Annotated[int, typer.Option("--count", min=1, help="How many clips.")] = 20,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="Their length.")] = 10.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same clips.")] = 0,
    guidance: Annotated[float, typer.Option("--guidance", help="Weight of the context against silence.")] = 1.0,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of the sampler.")] = 32,
    sampler: Annotated[str, typer.Option("--sampler", help="dpm-solver-2m, heun, ddim or euler.")] = "dpm-solver-2m",
    silence: Annotated[str, typer.Option("--silence", help="quiet (as in the training speech) or digital.")] = "quiet",
    rescale: Annotated[
        float, typer.Option("--rescale", help="Share by which guided speech returns to its unguided level, 0..1.")
    ] = 0.7,
    overlap: Annotated[int, typer.Option("--overlap", min=0, help="Frames that each round generates once more.")] = 0,
    vocoder: Annotated[str | None, typer.Option("--vocoder", help="Instead of the run's own.")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[
        str, typer.Option("--precision", help="float32, bfloat16, or auto: bfloat16 on a GPU. Samples differ by it.")
    ] = "auto",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Clips generated at once.")] = 8,
    compile_steps: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="Let torch compile the steps (default: on a GPU).")
    ] = None,
    executor: Annotated[
        str | None,
        typer.Option("--executor", help="Where clips are generated: local, or a plugin's such as ray."),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=0, help="Worker processes; 0: none, or one per processor of --executor.")
    ] = 0,
    pictures: Annotated[int, typer.Option("--pictures", min=0, help="Clips to draw in spectrograms.png.")] = 8,
) -> None:
    """Write continuations as FLAC with a manifest, and a picture of the first ones; an interrupted call continues."""
    from cdslm_model.plugin.writing import write_clips

    options = {
        "checkpoint": run,
        "context": context if prompts else "none",
        "guidance": guidance,
        "steps": steps,
        "sampler": sampler,
        "silence": silence,
        "rescale": rescale,
        "overlap": overlap,
        "device": device,
        **({"vocoder": vocoder} if vocoder else {}),
        **({"precision": precision} if precision != "auto" else {}),
        **({"batch": batch} if batch != 8 else {}),
        **({"compile": compile_steps} if compile_steps is not None else {}),
    }
    manifest = write_clips(
        "cdslm",
        out,
        options,
        prompts=prompts,
        count=count,
        seconds=seconds,
        seed=seed,
        executor=executor,
        jobs=jobs,
    )
    typer.echo(str(manifest))
    if pictures:
        from cdslm_model.sample.pictures import draw_set

        typer.echo(str(draw_set(out, pictures)))
