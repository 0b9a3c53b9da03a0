"""The command line: one file a command group, heavy imports inside commands only."""

from __future__ import annotations

import os
import signal
import sys
import traceback

import typer

from cdslm_eval.cli import (
    bench,
    channels,
    cite,
    compare,
    demo,
    export,
    fit,
    generate,
    ladder,
    listing,
    merge,
    new_plugin,
    preference,
    record,
    rerun,
    run,
    score,
    store,
)
from cdslm_eval.cli.examples import add_examples
from cdslm_eval.core.errors import DEBUG, EvalError, UsageError, debugging
from cdslm_eval.core.printable import printable, printable_lines
from cdslm_eval.core.verbosity import VERBOSITY, set_up_logging
from cdslm_eval.plugin.failures import show_traceback

__all__ = ["app", "main"]

_TERMINATED = 143  # 128 + SIGTERM, as a shell reports it
_GENERAL = ("--debug", "--quiet", "-q", "--verbose", "-v")
_RESUMABLE = frozenset({"score", "compare", "run", "rerun", "generate", "preference", "ladder"})
"""Commands whose rows and clips are on the disk as they come."""
_ENDED_BY = {130: "interrupted", _TERMINATED: "terminated"}

app = typer.Typer(
    name="cdslm-eval",
    help="Score what speech-only language models generate, through plugins, with intervals; fit how it scales.",
    epilog="-q, -v and --debug may stand anywhere. `--install-completion` completes commands, metrics and generators.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for group in (
    score,
    compare,
    fit,
    run,
    record,
    merge,
    store,
    rerun,
    generate,
    export,
    preference,
    channels,
    ladder,
    demo,
    listing,
    bench,
    cite,
    new_plugin,
):
    group.add_to(app)
add_examples(app)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Print results and problems only: no progress, no notes."),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Print what is done as well, with times."),
    debug: bool = typer.Option(
        False, "--debug", envvar=DEBUG, help="Show the tracebacks of errors, a plugin's included."
    ),
) -> None:
    if quiet and verbose:
        raise UsageError("--quiet and --verbose: use one of them")
    # worker processes inherit both
    if quiet or verbose:
        os.environ[VERBOSITY] = "quiet" if quiet else "verbose"
    if debug:
        os.environ[DEBUG] = "1"
    set_up_logging()
    if version:
        from cdslm_eval import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; an error is reported in one sentence.

    Exit codes: 0 measured, 1 measured but over the failure budget, 2 the command was wrong, 3 an error of the
    environment or of this program, 4 a gate failed, 130 interrupted (Ctrl-C), 143 terminated (SIGTERM).
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app(_general_first(sys.argv[1:]))
    except SystemExit as leaving:
        # typer turns KeyboardInterrupt into this exit code before it can be caught here
        if leaving.code in _ENDED_BY:
            _report_end(_ENDED_BY[leaving.code])
        raise
    except KeyboardInterrupt:
        _report_end(_ENDED_BY[130])
        sys.exit(130)
    except EvalError as error:
        show_traceback(error)
        typer.echo(f"cdslm-eval: {printable_lines(str(error))}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a sentence, with the place for a report
        last = traceback.extract_tb(error.__traceback__)[-1]
        show_traceback(error)
        where = f"{last.filename.rpartition('/')[2]}:{last.lineno}"
        hint = "" if debugging() else "; --debug shows the traceback"
        what = f"{type(error).__name__}: {printable(str(error))}"
        typer.echo(f"cdslm-eval: internal error: {what} (at {where}{hint})", err=True)
        sys.exit(3)


def _report_end(how: str) -> None:
    is_kept = next((word for word in sys.argv[1:] if not word.startswith("-")), "") in _RESUMABLE
    kept = "; what was measured is kept, the same command continues from there" if is_kept else ""
    typer.echo(f"cdslm-eval: {how}{kept}", err=True)


def _terminate(*_: object) -> None:
    """End by an exception, so that workers are ended and measured rows are committed."""
    raise SystemExit(_TERMINATED)


def _general_first(arguments: list[str]) -> list[str]:
    """Return the arguments with the options of all commands in front, where the group's own options belong."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    general = [argument for argument in options if argument in _GENERAL]
    rest = [argument for argument in options if argument not in _GENERAL]
    return [*general, *rest, *arguments[len(options) :]]
