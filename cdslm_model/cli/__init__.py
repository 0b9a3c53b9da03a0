"""The command line of the model: one file a command group; torch is imported inside commands only."""

from __future__ import annotations

import io
import sys

import typer

from cdslm_model.cli import facts, generate, prepare, train
from cdslm_model.errors import ModelError
from cdslm_model.files import lacking

__all__ = ["app", "main"]

app = typer.Typer(
    name="cdslm",
    help="The continuous diffusion spoken language model: prepare speech, train, generate.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for group in (prepare, train, generate, facts):
    group.add_to(app)


@app.callback()
def _root() -> None:
    """Say what is common to all commands: nothing."""


def main() -> None:
    """Run the command line; what goes wrong is told in one sentence.

    Exit codes: 0 done, 2 the command or the data was wrong, 3 an error of the environment or of this program,
    128 + N ended by signal N with a checkpoint written.
    """
    for stream in (sys.stdout, sys.stderr):
        # The name of a file need not be UTF-8, and is to be said all the same
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except ModelError as error:
        typer.echo(f"cdslm: {error}", err=True)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        typer.echo(f"cdslm: {error.name} is not installed; pip install 'cdslm-eval[model]' brings it", err=True)
        sys.exit(3)
    except KeyboardInterrupt:
        typer.echo("cdslm: interrupted; what is written is whole, the same command goes on from there", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a sentence, with the place for a report
        if what := lacking(error):
            typer.echo(f"cdslm: {what}; what is written is whole, the same command goes on from there", err=True)
            sys.exit(3)
        import traceback

        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{last.filename.rpartition('/')[2]}:{last.lineno}"
        typer.echo(f"cdslm: internal error: {type(error).__name__}: {error} (at {place})", err=True)
        sys.exit(3)
