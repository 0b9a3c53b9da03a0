"""`unit-lm`: train, import, generate and round trip; torch is imported inside commands only."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cdslm_eval_unit_lm import train_options as options
from cdslm_model.cli import train_options as shared
from cdslm_model.errors import ModelError

if TYPE_CHECKING:
    from cdslm_eval_unit_lm.train import Order

__all__ = ["app", "main"]

app = typer.Typer(
    name="unit-lm",
    help="A discrete autoregressive spoken language model: k-means units and a causal language model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.command(name="train", no_args_is_help=True)
def train(
    data: shared.Data,
    out: shared.Out,
    valid: shared.Valid = None,
    size: options.Size = 2,
    family: options.Family = "llama",
    target_flops: options.TargetFlops = None,
    tokens: options.Tokens = None,
    steps: options.Steps = None,
    units: options.Units = 1000,
    stride: options.Stride = 2,
    encoder: options.Encoder = None,
    layer: options.Layer = 6,
    run_length: options.RunLength = False,
    context_seconds: shared.ContextSeconds = 10.0,
    continuation_seconds: shared.ContinuationSeconds = 30.0,
    join_speakers: shared.JoinSpeakers = False,
    batch_size: shared.BatchSize = 16,
    lr: options.Lr = 1e-3,
    weight_decay: options.WeightDecay = 0.03,
    warmup_steps: shared.WarmupSteps = 100,
    decay_share: shared.DecayShare = 0.2,
    clip_norm: shared.ClipNorm = 1.0,
    seed: options.Seed = 0,
    valid_windows: shared.ValidWindows = 64,
    valid_every: shared.ValidEvery = 250,
    save_every: shared.SaveEvery = 250,
    vocoder: shared.Vocoder = "griffin-lim",
    device: shared.Device = "auto",
    quiet: shared.Quiet = False,
    as_json: shared.AsJson = False,
) -> None:
    """Cluster speech into units and train a language model on them; stopped, the same command goes on."""
    given = dict(locals())
    from cdslm_eval_unit_lm.settings import Settings
    from cdslm_eval_unit_lm.train import Order
    from cdslm_model.train.lineage import Length, find_splits

    amounts = {"flops": target_flops, "tokens": tokens, "steps": steps}
    length, *more = Length.all_of({unit: [amount] for unit, amount in amounts.items() if amount is not None})
    if more:
        raise ModelError("say how long to train in one way: --target-flops, --tokens or --steps")
    # The options that are settings bear the settings' names
    named = {field.name: given[field.name] for field in dataclasses.fields(Settings)}
    settings = Settings(**{**named, "encoder": _absolute(encoder)})
    train_on, held_out = find_splits(data, valid)
    result = _run(
        Order(settings=settings, data=train_on, valid=held_out, out=out, length=length, device=device, quiet=quiet)
    )
    text = (
        f"{out}: validation loss {result['val_loss']:.5f} nats a unit (entropy of the units "
        f"{result['constant_loss']:.5f}) after {result['steps']} steps; N {result['parameters']:.4g}, "
        f"D {result['tokens']:.4g}, C {result['flops']:.4g} FLOPs"
    )
    typer.echo(json.dumps(result, indent=1) if as_json else text)


def _absolute(folder: str | None) -> str | None:
    """Return the encoder's folder as any working directory finds it: the run goes on and generates from others."""
    return None if folder is None else str(Path(folder).resolve())


def _run(order: Order) -> dict[str, Any]:
    from cdslm_eval_unit_lm.train import train as run
    from cdslm_model.train.stopping import Interrupted

    try:
        return run(order)
    except Interrupted as request:
        typer.echo(f"unit-lm: stopped at a checkpoint in {order.out}; the same command goes on from there", err=True)
        sys.exit(128 + request.number)


@app.command(name="import", no_args_is_help=True)
def bring_in(
    language_model: Annotated[Path, typer.Argument(help="Folder of a transformers causal LM (safetensors).")],
    centroids: Annotated[Path, typer.Option("--centroids", help=".npy or .safetensors, [units, dimensions].")],
    data: Annotated[Path, typer.Option("--data", help="Prepared speech, to learn what each unit sounds like.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the checkpoint.")],
    offset: Annotated[int, typer.Option("--offset", min=0, help="Id of unit 0 in the language model.")] = 0,
    window: Annotated[int | None, typer.Option("--window", min=2, help="Tokens it may look at.")] = None,
    encoder: options.Encoder = None,
    layer: options.Layer = 6,
    stride: options.Stride = 2,
    run_length: options.RunLength = False,
    context_seconds: shared.ContextSeconds = 10.0,
    vocoder: shared.Vocoder = "griffin-lim",
    device: shared.Device = "auto",
) -> None:
    """Make a checkpoint of a unit language model that somebody else trained, from its files."""
    from cdslm_eval_unit_lm.published import Published
    from cdslm_eval_unit_lm.published import bring_in as run
    from cdslm_eval_unit_lm.settings import Settings

    settings = Settings(
        encoder=_absolute(encoder),
        layer=layer,
        stride=stride,
        run_length=run_length,
        context_seconds=context_seconds,
        vocoder=vocoder,
    )
    published = Published(
        language_model=language_model, centroids=centroids, data=data, offset=offset, window=window, settings=settings
    )
    typer.echo(str(run(published, out, device).folder))


Run = Annotated[str, typer.Argument(help="A run of unit-lm, or a checkpoint in it.")]
Out = Annotated[Path, typer.Option("--out", help="Folder for the clips and their manifest.jsonl.")]
OtherVocoder = Annotated[str | None, typer.Option("--vocoder", help="Instead of the run's own.")]
Pictures = Annotated[int, typer.Option("--pictures", min=0, help="Clips to draw in spectrograms.png.")]


@app.command(name="generate", no_args_is_help=True)
def generate(
    run: Run,
    out: Out,
    prompts: Annotated[str | None, typer.Option("--prompts", help="Clips to continue; none: out of nothing.")] = None,
    context: Annotated[str, typer.Option("--context", help="Part of each prompt to continue: end or start.")] = "end",
    count: Annotated[int, typer.Option("--count", min=1, help="How many clips.")] = 20,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="Their length.")] = 10.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same clips.")] = 0,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, help="0 takes the likeliest unit.")] = 1.0,
    top_k: Annotated[int, typer.Option("--top-k", min=0, help="So many of the likeliest units; 0 is all.")] = 0,
    vocoder: OtherVocoder = None,
    device: shared.Device = "auto",
    pictures: Pictures = 8,
) -> None:
    """Write continuations as FLAC with a manifest; an interrupted call continues where it stopped."""
    chosen = {
        "checkpoint": run,
        "context": context if prompts else "none",
        "temperature": temperature,
        "top_k": top_k,
        "device": device,
        **({"vocoder": vocoder} if vocoder else {}),
    }
    _write("unit-lm", chosen, out, pictures, prompts=prompts, count=count, seconds=seconds, seed=seed)


@app.command(name="roundtrip", no_args_is_help=True)
def roundtrip(
    audio: Annotated[str, typer.Argument(help="Directory or manifest of real speech.")],
    run: Annotated[str, typer.Option("--run", help="A run of unit-lm: its units are measured.")],
    out: Out,
    count: Annotated[int | None, typer.Option("--count", min=1, help="How many of the clips; all by default.")] = None,
    vocoder: OtherVocoder = None,
    device: shared.Device = "auto",
    pictures: Pictures = 8,
) -> None:
    """Turn real speech into units and back, without the language model: the ceiling of all that it can say.

    Score what comes back beside the run: `cdslm-eval score BACK unit-lm:RUN --prompts DIR --reference REAL`.
    """
    from cdslm_model.plugin.writing import count_clips

    available = count_clips(audio)
    chosen = {"checkpoint": run, "device": device, **({"vocoder": vocoder} if vocoder else {})}
    _write(
        "unit-resynthesis", chosen, out, pictures, prompts=audio, count=min(count or available, available), seconds=1.0
    )


def _write(generator: str, chosen: dict[str, Any], out: Path, pictures: int, **request: Any) -> None:
    """Write the clips of a generator, and draw some of them."""
    from cdslm_model.plugin.writing import write_clips

    typer.echo(str(write_clips(generator, out, chosen, **request)))
    if pictures:
        from cdslm_model.sample.pictures import draw_set

        typer.echo(str(draw_set(out, pictures)))


def main() -> None:
    """Run the command line; what goes wrong is told in one sentence.

    Exit codes: 0 done, 2 the command or the data was wrong, 3 an error of the environment, 128 + N ended by signal N.
    """
    try:
        app()
    except ModelError as error:
        typer.echo(f"unit-lm: {error}", err=True)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        typer.echo(f"unit-lm: {error.name} is not installed; pip install 'cdslm-eval[model]' brings it", err=True)
        sys.exit(3)
    except KeyboardInterrupt:
        typer.echo("unit-lm: interrupted; the same command goes on from the last checkpoint", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
