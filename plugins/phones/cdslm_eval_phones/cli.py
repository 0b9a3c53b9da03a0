"""The command cdslm-phones: phone error rates of recognizers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cdslm_eval.core.errors import EvalError

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


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
    limit: Annotated[int, typer.Option("--limit", min=0, help="Take only the first clips; 0 takes all.")] = 0,
    out: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file as well.")] = None,
) -> None:
    """Print the phone error rate and the real-time factor of recognizers on clips with a text.

    English texts become the 39 phones of CMUdict, and recognized IPA is folded to them; other languages stay IPA.
    """
    from cdslm_eval.core.clips import ClipSet
    from cdslm_eval.plugin.host import Host
    from cdslm_eval_phones.per import try_recognizer

    clips, host = ClipSet.open(manifest), Host()
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


def main() -> None:
    """Run the command; an error is one sentence and an exit code."""
    try:
        app()
    except EvalError as error:
        typer.echo(f"cdslm-phones: {error}", err=True)
        raise SystemExit(error.exit_code) from None
