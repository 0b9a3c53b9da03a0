"""Entry point and job handling that all commands of models share."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

import typer

from cdslm_model.errors import ModelError
from cdslm_model.files import missing_resource

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["named_settings", "run_app", "run_until_stopped"]

_QUIET, _VERBOSE = {"--quiet", "-q"}, {"--verbose", "-v"}
_GENERAL = {"--debug", *_QUIET, *_VERBOSE}


class _InFolder(Protocol):
    """A training job of any model."""

    @property
    def out(self) -> Path:
        """The run's folder."""


J = TypeVar("J", bound=_InFolder)


def run_app(app: typer.Typer, program: str) -> NoReturn:
    """Run a command line and exit; an error is printed as one sentence.

    Exit codes: 0 done, 2 the command or the data was wrong, 3 an error of the environment or of the program,
    128 + N stopped by signal N with a checkpoint written. `--debug` (the traceback of an error), `-q` and `-v` may
    stand anywhere.
    """
    for stream in (sys.stdout, sys.stderr):
        # A file name need not be UTF-8 and is printed all the same
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    code = _exit_code(app, program)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # torch's caches of sharded tensors keep the process group, and with it Gloo's native threads, alive beyond
        # destroy_process_group; the interpreter's teardown under them can end a finished process by SIGABRT
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _exit_code(app: typer.Typer, program: str) -> int:
    """Return the exit code of a command line, having printed the sentence of its error."""
    resumes = "all written files are complete, the same command resumes from them"
    code, message = 0, ""
    general = {argument for argument in sys.argv[1:] if argument in _GENERAL}
    arguments = [argument for argument in sys.argv[1:] if argument not in _GENERAL]
    is_debugging = "--debug" in general
    try:
        _set_verbosity(app, quiet=bool(general & _QUIET), verbose=bool(general & _VERBOSE))
        app(arguments)
    except SystemExit as end:
        code, message = (1, end.code) if isinstance(end.code, str) else (end.code or 0, "")
    except ModelError as error:
        _show_traceback(is_debugging)
        code, message = error.exit_code, f"{program}: {error}"
    except ModuleNotFoundError as error:
        code, message = 3, f"{program}: {error.name} is not installed; Install: pip install 'cdslm-eval[model]'"
    except KeyboardInterrupt:
        code, message = 130, f"{program}: interrupted; {resumes}"
    except BrokenPipeError:
        pass  # whoever read the output has seen enough
    except Exception as error:  # noqa: BLE001 - the last line of defence: one sentence with the place to report
        _show_traceback(is_debugging)
        last = traceback.extract_tb(error.__traceback__)[-1]
        location = f"{last.filename.rpartition('/')[2]}:{last.lineno}"
        what = missing_resource(error)
        message = f"{what}; {resumes}" if what else f"internal error: {type(error).__name__}: {error} (at {location})"
        code, message = 3, f"{program}: {message}"
    if message:
        from cdslm_model.plugin.printing import printable_lines

        typer.echo(printable_lines(message), err=True)
    return code


def _set_verbosity(app: typer.Typer, *, quiet: bool, verbose: bool) -> None:
    """Hand `--quiet` and `--verbose` to this process and to those it starts."""
    from cdslm_model.plugin.verbosity import VERBOSITY, set_up_logging

    if quiet and verbose:
        raise ModelError("--quiet and --verbose: use one of them")
    if quiet or verbose:
        os.environ[VERBOSITY] = "quiet" if quiet else "verbose"
    own = [command.callback.__module__.partition(".")[0] for command in app.registered_commands if command.callback]
    set_up_logging("cdslm_eval", "cdslm_model", *own)


def _show_traceback(is_debugging: bool) -> None:
    """Print the traceback of the present error under `--debug`."""
    if is_debugging:
        traceback.print_exc()


def named_settings(settings: type[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a command that are fields of its settings: both have the same names."""
    return {field.name: options[field.name] for field in dataclasses.fields(settings) if field.name in options}


def run_until_stopped(train: Callable[[J], dict[str, Any]], job: J, program: str) -> dict[str, Any]:
    """Return the result of a training job; exit with 128 + N where signal N stopped it."""
    from cdslm_model.train.stopping import Interrupted

    out = job.out
    try:
        return train(job)
    except Interrupted as stop:
        typer.echo(f"{program}: stopped at a checkpoint in {out}; the same command resumes from it", err=True)
        sys.exit(128 + stop.number)
