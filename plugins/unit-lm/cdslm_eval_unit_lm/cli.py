"""`unit-lm`: train, import and generate; torch is imported inside commands only."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from cdslm_model.errors import ModelError

__all__ = ["app", "main"]

app = typer.Typer(
    name="unit-lm",
    help="A discrete autoregressive spoken language model: k-means units and a causal language model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Encoder = Annotated[
    str | None, typer.Option("--encoder", help="Folder of a transformers speech encoder; none: log-mel frames.")
]
Layer = Annotated[int, typer.Option("--layer", min=1, help="Layer of the encoder that is clustered.")]
RunLength = Annotated[bool, typer.Option("--run-length", help="Make a unit that repeats one token.")]
ContextSeconds = Annotated[float, typer.Option("--context-seconds", min=0.0, help="Context of a window.")]
Vocoder = Annotated[str, typer.Option("--vocoder", help="Makes samples when it generates.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]


@app.command(name="train", no_args_is_help=True)
def train(
    data: Annotated[Path, typer.Option("--data", help="Speech that `cdslm prepare` prepared; its splits, if it has.")],
    out: Annotated[Path, typer.Option("--out", help="The run's folder; the same command again goes on from there.")],
    valid: Annotated[Path | None, typer.Option("--valid", help="Held-out prepared speech.")] = None,
    size: Annotated[int, typer.Option("--size", "--depth", min=1, help="Layers; width is 128 a layer.")] = 2,
    family: Annotated[str, typer.Option("--family", help="llama or gpt2.")] = "llama",
    target_flops: Annotated[float | None, typer.Option("--target-flops", help="Train for so many exact FLOPs.")] = None,
    tokens: Annotated[float | None, typer.Option("--tokens", help="Or for so many units.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Or for so many steps.")] = None,
    units: Annotated[int, typer.Option("--units", min=2, help="Clusters of k-means.")] = 100,
    stride: Annotated[int, typer.Option("--stride", min=1, help="Mel frames (12.5 ms) that make a unit.")] = 2,
    encoder: Encoder = None,
    layer: Layer = 6,
    run_length: RunLength = False,
    context_seconds: ContextSeconds = 10.0,
    continuation_seconds: Annotated[float, typer.Option("--continuation-seconds", min=0.0125)] = 30.0,
    join_speakers: Annotated[
        bool, typer.Option("--join-speakers", help="Let windows run over adjacent clips of one speaker.")
    ] = False,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Windows a step.")] = 16,
    lr: Annotated[float, typer.Option("--lr", help="Peak learning rate.")] = 1e-3,
    weight_decay: Annotated[float, typer.Option("--weight-decay", help="Of matrices.")] = 0.03,
    warmup_steps: Annotated[int, typer.Option("--warmup-steps", min=0, help="At most; a tenth of a short run.")] = 100,
    decay_share: Annotated[float, typer.Option("--decay-share", help="Share of the run with a falling rate.")] = 0.2,
    clip_norm: Annotated[float, typer.Option("--clip-norm", help="Largest norm of the gradient.")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of clusters, weights and windows.")] = 0,
    valid_windows: Annotated[int, typer.Option("--valid-windows", min=1, help="Held-out windows.")] = 64,
    valid_every: Annotated[int, typer.Option("--valid-every", min=1, help="Steps between validations.")] = 250,
    save_every: Annotated[int, typer.Option("--save-every", min=1, help="Steps between checkpoints.")] = 250,
    vocoder: Vocoder = "griffin-lim",
    device: Device = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing while it runs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Cluster speech into units and train a language model on them; stopped, the same command goes on."""
    from cdslm_eval_unit_lm.settings import Settings
    from cdslm_eval_unit_lm.train import Order
    from cdslm_eval_unit_lm.train import train as run
    from cdslm_model.loop import Interrupted
    from cdslm_model.train import Length, open_splits

    given = {"flops": target_flops, "tokens": tokens, "steps": steps}
    lengths = [Length(unit, float(amount)) for unit, amount in given.items() if amount is not None]
    if len(lengths) != 1:
        raise ModelError("say how long to train, in one way: --target-flops, --tokens or --steps")
    train_on, held_out = open_splits(data, valid)
    settings = Settings(
        family=family,
        size=size,
        units=units,
        stride=stride,
        encoder=encoder,
        layer=layer,
        run_length=run_length,
        context_seconds=context_seconds,
        continuation_seconds=continuation_seconds,
        join_speakers=join_speakers,
        batch_size=batch_size,
        lr=lr,
        weight_decay=weight_decay,
        warmup_steps=warmup_steps,
        decay_share=decay_share,
        clip_norm=clip_norm,
        seed=seed,
        valid_windows=valid_windows,
        valid_every=valid_every,
        save_every=save_every,
        vocoder=vocoder,
    )
    order = Order(
        settings=settings, data=train_on, valid=held_out, out=out, length=lengths[0], device=device, quiet=quiet
    )
    try:
        result = run(order)
    except Interrupted as request:
        typer.echo(f"unit-lm: stopped at a checkpoint in {out}; the same command goes on from there", err=True)
        sys.exit(128 + request.number)
    text = (
        f"{out}: validation loss {result['val_loss']:.5f} nats a unit (entropy of the units "
        f"{result['constant_loss']:.5f}) after {result['steps']} steps; N {result['parameters']:.4g}, "
        f"D {result['tokens']:.4g}, C {result['flops']:.4g} FLOPs"
    )
    typer.echo(json.dumps(result, indent=1) if as_json else text)


@app.command(name="import", no_args_is_help=True)
def bring_in(
    language_model: Annotated[Path, typer.Argument(help="Folder of a transformers causal LM (safetensors).")],
    centroids: Annotated[Path, typer.Option("--centroids", help=".npy or .safetensors, [units, dimensions].")],
    data: Annotated[Path, typer.Option("--data", help="Prepared speech, to learn what each unit sounds like.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the checkpoint.")],
    offset: Annotated[int, typer.Option("--offset", min=0, help="Id of unit 0 in the language model.")] = 0,
    window: Annotated[int | None, typer.Option("--window", min=2, help="Tokens it may look at.")] = None,
    encoder: Encoder = None,
    layer: Layer = 6,
    stride: Annotated[int, typer.Option("--stride", min=1, help="Mel frames a unit, without an encoder.")] = 2,
    run_length: RunLength = False,
    context_seconds: ContextSeconds = 10.0,
    vocoder: Vocoder = "griffin-lim",
    device: Device = "auto",
) -> None:
    """Make a checkpoint of a unit language model that somebody else trained, from its files."""
    from cdslm_eval_unit_lm.published import Published
    from cdslm_eval_unit_lm.published import bring_in as run
    from cdslm_eval_unit_lm.settings import Settings

    settings = Settings(
        encoder=encoder,
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


@app.command(name="generate", no_args_is_help=True)
def generate(
    run: Annotated[str, typer.Argument(help="A run of unit-lm, or a checkpoint in it.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the clips and their manifest.jsonl.")],
    prompts: Annotated[str | None, typer.Option("--prompts", help="Clips to continue; none: out of nothing.")] = None,
    context: Annotated[str, typer.Option("--context", help="What of each prompt is continued: end or start.")] = "end",
    count: Annotated[int, typer.Option("--count", min=1, help="How many clips.")] = 20,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="Their length.")] = 10.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same clips.")] = 0,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, help="0 takes the likeliest unit.")] = 1.0,
    top_k: Annotated[int, typer.Option("--top-k", min=0, help="So many of the likeliest units; 0 is all.")] = 0,
    device: Device = "auto",
) -> None:
    """Write continuations as FLAC with a manifest, through the same door as any generator's."""
    options = f"context={context if prompts else 'none'},temperature={temperature:g},top_k={top_k},device={device}"
    command = [sys.executable, "-m", "cdslm_eval", "generate", f"unit-lm:{run},{options}", "--out", str(out)]
    command += ["--count", str(count), "--seconds", f"{seconds:g}", "--seed", str(seed)]
    code = subprocess.call([*command, *(["--prompts", prompts] if prompts else [])])
    if code:
        sys.exit(code)


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
