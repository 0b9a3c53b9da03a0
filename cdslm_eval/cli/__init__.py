"""The command line: one file a command group, heavy imports inside commands only."""

from __future__ import annotations

import sys

import typer

from cdslm_eval.cli import (
    compare,
    demo,
    export,
    fit,
    generate,
    ladder,
    listing,
    merge,
    new_plugin,
    record,
    rerun,
    run,
    score,
)
from cdslm_eval.core.errors import EvalError

__all__ = ["app", "main"]

app = typer.Typer(
    name="cdslm-eval",
    help="Score what speech-only language models say, through plugins, with intervals and floors; fit how it scales.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for group in (
    score,
    compare,
    fit,
    run,
    record,
    merge,
    rerun,
    generate,
    export,
    ladder,
    demo,
    listing,
    new_plugin,
):
    group.add_to(app)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    if version:
        from cdslm_eval import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; what goes wrong is told in one sentence.

    Exit codes: 0 measured, 1 measured but over the failure budget, 2 the command was wrong, 3 an error of the
    environment or of this program, 4 a gate failed, 130 interrupted.
    """
    try:
        app()
    except EvalError as error:
        typer.echo(f"cdslm-eval: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("cdslm-eval: interrupted; what was measured is kept, the same command goes on from there", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a sentence, with the place for a report
        import traceback

        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{last.filename.rpartition('/')[2]}:{last.lineno}"
        typer.echo(f"cdslm-eval: internal error: {type(error).__name__}: {error} (at {place})", err=True)
        sys.exit(3)
