"""`unit-lm`: train, import, generate and round trip; torch is imported inside commands only."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cdslm_eval_unit_lm import options
from cdslm_model.cli import named_settings, run_app, run_until_stopped
from cdslm_model.cli import options as shared

if TYPE_CHECKING:
    from cdslm_eval_unit_lm.settings import Settings

__all__ = ["app", "main"]

app = typer.Typer(
    name="unit-lm",
    help="A discrete autoregressive spoken language model: k-means units and a causal language model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="-q prints no progress, -v more of what is done, --debug the traceback of an error; all may stand anywhere.",
)


@app.command(name="units", no_args_is_help=True)
def units(
    data: shared.Data,
    out: Annotated[Path, typer.Option("--out", help="Folder for clusters and units; the same command again is done.")],
    valid: shared.Valid = None,
    units: options.Units = 1000,
    stride: options.Stride = 2,
    encoder: options.Encoder = None,
    layer: options.Layer = 6,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the clusters.")] = 0,
    device: shared.Device = "auto",
) -> None:
    """Cluster speech and write the units of all of it, once for many models: `unit-lm train --units-from OUT`."""
    from cdslm_eval_unit_lm.settings import Settings
    from cdslm_eval_unit_lm.unit_folder import cluster_into
    from cdslm_model import find_splits
    from cdslm_model.plugin.verbosity import is_quiet

    settings = Settings(units=units, stride=stride, encoder=_absolute(encoder), layer=layer, seed=seed)
    made = cluster_into(out, *find_splits(data, valid), settings, device=device, quiet=is_quiet())
    typer.echo(f"{made.folder}: {made.facts['settings']['units']} units, {made.facts['rate_hz']:g} a second")


@app.command(name="train", no_args_is_help=True)
def train(
    context: typer.Context,
    data: shared.Data,
    out: shared.Out,
    valid: shared.Valid = None,
    size: options.Size = 2,
    family: options.Family = "llama",
    target_flops: shared.TargetFlops = None,
    tokens: shared.Tokens = None,
    steps: shared.Steps = None,
    units: options.Units = 1000,
    stride: options.Stride = 2,
    encoder: options.Encoder = None,
    layer: options.Layer = 6,
    units_from: options.UnitsFrom = None,
    run_length: options.RunLength = False,
    context_seconds: shared.ContextSeconds = 10.0,
    continuation_seconds: shared.ContinuationSeconds = 30.0,
    join_speakers: shared.JoinSpeakers = False,
    batch_size: shared.BatchSize = 16,
    parametrization: options.Parametrization = "mup",
    lr: options.Lr = 1e-3,
    weight_decay: options.WeightDecay = 0.03,
    warmup_steps: shared.WarmupSteps = 100,
    decay_share: shared.DecayShare = 0.2,
    ema: options.Ema = 0.9999,
    ema_share: shared.EmaShare = 0.05,
    clip_norm: shared.ClipNorm = 1.0,
    seed: shared.Seed = 0,
    valid_windows: shared.ValidWindows = 512,
    valid_every: shared.ValidEvery = 250,
    save_every: shared.SaveEvery = 250,
    vocoder: shared.Vocoder = "griffin-lim",
    precision: shared.Precision = "auto",
    device: shared.Device = "auto",
    compile_network: shared.CompileNetwork = None,
    plan: shared.Plan = False,
    as_json: shared.AsJson = False,
) -> None:
    """Cluster speech into units and train a language model on them; interrupted, the same command resumes."""
    values = dict(locals())
    from cdslm_eval_unit_lm.settings import Settings
    from cdslm_eval_unit_lm.train import UnitJob
    from cdslm_eval_unit_lm.train import train as run
    from cdslm_model import Length, find_splits, find_vocoder, read_spec
    from cdslm_model.plugin.verbosity import is_quiet

    lengths = Length.from_options({"flops": target_flops, "tokens": tokens, "steps": steps})
    settings = Settings(**{**named_settings(Settings, values), "encoder": _absolute(encoder)})
    # a plan may come before the folder does
    if units_from is not None and not (plan and not units_from.exists()):
        settings = _with_units(context, settings, units_from)
    if plan:
        from cdslm_eval_unit_lm.planning import planned

        speech = data / "train" if (data / "train").is_dir() else data
        job = UnitJob(settings=settings, data=speech, valid=speech, out=out, lengths=lengths)
        if units_from is not None and not units_from.exists():
            typer.echo(f"note: {units_from} is not there yet: units are taken to be those of this command", err=True)
        typer.echo(json.dumps(planned(job), indent=1))
        return
    train_on, held_out = find_splits(data, valid)
    # Before the run, so that it does not end with log-mels that no vocoder can turn into samples
    find_vocoder(vocoder, read_spec(train_on))
    job = UnitJob(
        settings=settings,
        data=train_on,
        valid=held_out,
        out=out,
        lengths=lengths,
        device=device,
        quiet=is_quiet(),
        units_from=units_from,
        compile=compile_network,
    )
    result = run_until_stopped(run, job, "unit-lm")
    if int(os.environ.get("RANK", "0")):
        return
    text = (
        f"{out}: validation loss {result['val_loss']:.5f} nats a unit (entropy of the units "
        f"{result['constant_loss']:.5f}) after {result['steps']} steps; N {result['parameters']:.4g}, "
        f"D {result['tokens']:.4g}, C {result['flops']:.4g} FLOPs"
    )
    typer.echo(json.dumps(result, indent=1) if as_json else text)


def _with_units(context: typer.Context, settings: Settings, folder: Path) -> Settings:
    """Return settings over the units of a folder; refuse options that ask for others."""
    from cdslm_eval_unit_lm.unit_folder import CLUSTERING, UnitFolder
    from cdslm_model import ModelError

    chosen = UnitFolder.open(folder).settings(settings)
    for name in CLUSTERING:
        source = context.get_parameter_source(name)
        wanted, there = getattr(settings, name), getattr(chosen, name)
        if source is not None and source.name == "COMMANDLINE" and wanted != there:
            raise ModelError(f"--{name} {wanted}: {folder} has {there}; leave the option out, or make other units")
    return chosen


def _absolute(folder: str | None) -> str | None:
    """Return the encoder's folder as an absolute path: a run resumes and generates from other working directories."""
    return None if folder is None else str(Path(folder).resolve())


@app.command(name="import", no_args_is_help=True)
def import_model(
    language_model: Annotated[Path, typer.Argument(help="Folder of a transformers causal LM (safetensors).")],
    centroids: Annotated[Path, typer.Option("--centroids", help=".npy or .safetensors, [units, dimensions].")],
    data: Annotated[Path, typer.Option("--data", help="Prepared speech, for the tables of the units.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the checkpoint.")],
    offset: Annotated[int, typer.Option("--offset", min=0, help="Id of unit 0 in the language model.")] = 0,
    window: Annotated[int | None, typer.Option("--window", min=2, help="Longest window in tokens.")] = None,
    encoder: options.Encoder = None,
    layer: options.Layer = 6,
    stride: options.Stride = 2,
    run_length: options.RunLength = False,
    context_seconds: shared.ContextSeconds = 10.0,
    vocoder: shared.Vocoder = "griffin-lim",
    device: shared.Device = "auto",
) -> None:
    """Make a checkpoint of a published unit language model from its files."""
    from cdslm_eval_unit_lm.published import Published, import_published
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
    typer.echo(str(import_published(published, out, device).folder))


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
    """Turn real speech into units and back, without the language model: the ceiling of all that it can generate.

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
        from cdslm_model import draw_set

        typer.echo(str(draw_set(out, pictures)))


def main() -> None:
    """Run `unit-lm`; see `cdslm_model.cli.run_app` for the exit codes."""
    run_app(app, "unit-lm")


if __name__ == "__main__":
    main()
