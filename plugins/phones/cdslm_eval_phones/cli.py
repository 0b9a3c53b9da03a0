"""The command cdslm-phones: phone error rates of recognizers, and training of one."""

from __future__ import annotations

import json
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cdslm_eval.core.errors import EvalError, UsageError
from cdslm_eval.core.printable import printable_lines

if TYPE_CHECKING:
    from cdslm_eval_phones.train.labels import Labelled

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


IgnoreColumnsOption = Annotated[
    str, typer.Option("--ignore-columns", help="Columns of the manifest that are passed over: A,B or patterns.")
]


def _listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


@app.callback()
def _commands() -> None:
    """Measure phone recognizers for cdslm-eval."""


@app.command()
def per(
    manifest: Annotated[str, typer.Argument(help="A directory or manifest whose clips have a text or phones.")],
    recognizer: Annotated[
        list[str] | None, typer.Option("--recognizer", help="Name with options; repeat it for several.")
    ] = None,
    language: Annotated[
        str, typer.Option("--language", help="Language of the texts, in espeak-ng's spelling.")
    ] = "en-us",
    ignore_columns: IgnoreColumnsOption = "",
    limit: Annotated[int, typer.Option("--limit", min=0, help="Take only the first clips; 0 takes all.")] = 0,
    out: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file as well.")] = None,
) -> None:
    """Print the phone error rate and the real-time factor of recognizers on clips with a text.

    English texts become the 39 phones of CMUdict, and recognized IPA is folded to them; other languages stay IPA.
    """
    from cdslm_eval.core.clips import ClipSet
    from cdslm_eval.plugin.host import Host
    from cdslm_eval_phones.per import try_recognizer

    clips, host = ClipSet.open(manifest, ignore_columns=_listed(ignore_columns)), Host()
    clips = clips[:limit] if limit else clips
    rows = []
    typer.echo(f"{'recognizer':<28} {'PER':>6} {'sub':>6} {'del':>6} {'ins':>6} {'phones':>7} {'clips':>6} {'RTF':>8}")
    for spec in recognizer or ["phone-ctc"]:
        trial = try_recognizer(clips, host.make("recognizer", spec), language)
        errors = trial.errors
        total = max(errors.phones, 1)
        shares = [count / total for count in (errors.substitutions, errors.deletions, errors.insertions)]
        cells = " ".join(f"{share:6.3f}" for share in (errors.rate, *shares))
        typer.echo(f"{spec:<28} {cells} {errors.phones:7d} {trial.clips:6d} {trial.real_time_factor:8.4f}")
        if trial.failed:
            typer.echo(f"{spec}: {trial.failed} clips could not be recognized and are not counted", err=True)
        rows.append(
            {
                "recognizer": spec,
                "per": errors.rate,
                "substitutions": errors.substitutions,
                "deletions": errors.deletions,
                "insertions": errors.insertions,
                "phones": errors.phones,
                "clips": trial.clips,
                "failed": trial.failed,
                "audio_s": trial.seconds,
                "real_time_factor": trial.real_time_factor,
            }
        )
    if out:
        out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


@app.command()
def train(
    manifest: Annotated[list[str], typer.Argument(help="Directories or manifests of the clips to train on.")],
    out: Annotated[Path, typer.Option("--out", help="The ONNX file to write.")],
    labels: Annotated[
        str, typer.Option("--labels", help="text, or recognizer:NAME to distil another recognizer.")
    ] = "text",
    language: Annotated[str, typer.Option("--language", help="Language, in espeak-ng's spelling.")] = "en-us",
    ignore_columns: IgnoreColumnsOption = "",
    match: Annotated[str, typer.Option("--match", help="Only clips whose path matches, such as '*/train/*'.")] = "",
    valid: Annotated[str, typer.Option("--valid", help="Clips to stop by; default: a tenth of the speakers.")] = "",
    valid_match: Annotated[str, typer.Option("--valid-match", help="Only clips of --valid whose path matches.")] = "",
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over the clips.")] = 40,
    cpu_minutes: Annotated[
        float, typer.Option("--cpu-minutes", min=0.0, help="End after so many processor minutes; 0: no limit.")
    ] = 0.0,
    patience: Annotated[int, typer.Option("--patience", min=1, help="Epochs without fewer errors before it ends.")] = 6,
    width: Annotated[int, typer.Option("--width", min=8, help="Channels of the network.")] = 240,
    blocks: Annotated[int, typer.Option("--blocks", min=1, help="Its dilated convolutions.")] = 12,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Peak of the learning rate.")] = 2e-3,
    clean: Annotated[
        bool, typer.Option("--clean", help="Train without noise, reverberation, codec and speed.")
    ] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Randomness of weights, order and channels.")] = 0,
) -> None:
    """Train a CTC network of phones and write it as ONNX, for `--recognizer phone-ctc:model=OUT`."""
    from cdslm_eval.core.clips import ClipSet
    from cdslm_eval.core.progress import progress_bar

    if missing := [name for name in ("torch", "onnx") if find_spec(name) is None]:
        raise UsageError(f"train needs {' and '.join(missing)}. Install: pip install 'cdslm-eval-phones[train]'")
    from cdslm_eval_phones.train.export import write_onnx
    from cdslm_eval_phones.train.labels import label_clips, matching, split_speakers, vocabulary_of
    from cdslm_eval_phones.train.loop import TrainOptions
    from cdslm_eval_phones.train.loop import train as fit

    def labelled(specs: list[str], pattern: str) -> list[Labelled]:
        with progress_bar("labels") as bar:
            opened = [ClipSet.open(spec, ignore_columns=_listed(ignore_columns)) for spec in specs]
            sets = [matching(clips, pattern) for clips in opened]
            entries = [entry for clips in sets for entry in label_clips(clips, labels, language, bar)]
        if missing := sum(map(len, sets)) - len(entries):
            typer.echo(f"{missing} of {sum(map(len, sets))} clips have no phones and are left out", err=True)
        return entries

    clips = labelled(manifest, match)
    clips, held_out = (clips, labelled([valid], valid_match)) if valid else split_speakers(clips)
    symbols = vocabulary_of(clips)
    typer.echo(f"{len(clips)} clips to train on, {len(held_out)} to stop by, {len(symbols) - 1} phones", err=True)
    options = TrainOptions(
        width, blocks, epochs, cpu_minutes, patience, learning_rate, seed, device, augmented=not clean
    )
    report = fit(clips, held_out, symbols, options, log=partial(typer.echo, err=True))
    write_onnx(report.net, out, symbols, [language.partition("-")[0]])
    parameters = sum(parameter.numel() for parameter in report.net.parameters())
    typer.echo(
        f"{out}: {parameters / 1e6:.2f} M parameters, PER {report.per:.3f} on the clips it stopped by; "
        f"{report.audio_s / 3600:.1f} h of audio in {report.epochs} epochs and {report.cpu_s / 60:.1f} CPU minutes "
        f"(ended by: {report.stopped})"
    )


def main() -> None:
    """Run the command; an error is one sentence and an exit code."""
    try:
        app()
    except EvalError as error:
        typer.echo(f"cdslm-phones: {printable_lines(str(error))}", err=True)
        raise SystemExit(error.exit_code) from None
