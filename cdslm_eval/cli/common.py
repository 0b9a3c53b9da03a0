"""What commands share: names of systems, progress on stderr, writing JSON."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import typer

from cdslm_eval.core.defaults import default_jobs
from cdslm_eval.core.errors import EvalError, StoreError, UsageError
from cdslm_eval.core.printable import printable
from cdslm_eval.core.progress import Progress, progress_bar
from cdslm_eval.core.verbosity import is_quiet

__all__ = [
    "default_jobs",
    "executor_spec",
    "listed",
    "named_system",
    "named_systems",
    "note",
    "problem",
    "progress",
    "show",
    "stages",
    "write_json",
    "write_text",
]


def note(text: str) -> None:
    """Print a sentence on stderr, on one line whatever names it holds; `--quiet` leaves it out."""
    if not is_quiet():
        problem(text)


def problem(text: str) -> None:
    """Print a sentence on stderr that explains an exit code or a failed gate: `--quiet` prints it too."""
    typer.echo(printable(text), err=True)


def show(text: str) -> None:
    """Print a table of several lines on stderr, without `--quiet`; its cells were made printable when it was built."""
    if not is_quiet():
        typer.echo(text, err=True)


def progress(what: str) -> AbstractContextManager[Progress]:
    """Show progress with rate and time left on stderr."""
    return progress_bar(what)


@contextmanager
def stages() -> Iterator[Callable[[str], None]]:
    """Show on a terminal which part is being worked on, and nothing elsewhere: for work of seconds in unequal parts."""
    if is_quiet() or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status("") as shown:
        yield lambda name: shown.update(f"{name} …")


def named_systems(texts: Sequence[str]) -> list[str | tuple[str, str]]:
    """Return systems as the command line names them, without what a shell's DIR/* catches next to sets.

    Args:
        texts: Paths or generators, or NAME=PATH.
    """
    systems = []
    for text in texts:
        if len(texts) > 1 and _is_documentation(Path(text)):
            note(f"note: {text} is passed over: a text, not a set of clips")
        else:
            systems.append(named_system(text))
    return systems


def named_system(text: str) -> str | tuple[str, str]:
    """Split NAME=PATH into a pair; an existing path, or a generator with options, is returned unsplit."""
    name, sign, rest = text.partition("=")
    if not sign or Path(text).exists() or not name.strip() or set(name) & {"/", os.sep, ":", ","}:
        return text
    if not rest:
        raise UsageError(f"{text}: no path after the name {name!r}")
    return name.strip(), rest


def listed(text: str) -> tuple[str, ...]:
    """Return the entries of an option that takes several, separated by commas."""
    return tuple(entry.strip() for entry in text.split(",") if entry.strip())


def duration_s(text: str, option: str) -> float:
    """Return a length of time such as "10s", "500ms", "2m" or "10" in seconds.

    Raises:
        UsageError: It is none.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|min)?\s*", text)
    if match is None:
        raise UsageError(f"{option} {text!r}: a length of time, such as 10s, 500ms or 2m")
    return float(match[1]) * {"ms": 1e-3, "m": 60.0, "min": 60.0}.get(match[2] or "s", 1.0)


def executor_spec(executor: str | None, memory_gb: float | None) -> str | None:
    """Return the executor of `--executor` with the limit of `--memory-limit`, in GiB for each worker; None: neither.

    Raises:
        UsageError: The limit is for another executor than "local".
    """
    if memory_gb is None:
        return executor
    name, colon, _ = (executor or "local").partition(":")
    if name != "local":
        raise UsageError(f"--memory-limit is for the executor 'local'; {name!r} has none: leave one of them out")
    return f"{executor or name}{',' if colon else ':'}memory_gb={memory_gb}"


def _is_documentation(path: Path) -> bool:
    """Return whether a path is a README or a licence."""
    return path.is_file() and (path.suffix.lower() in {".md", ".txt", ".rst", ".html", ".pdf"} or not path.suffix)


def write_json(target: str, value: Any) -> None:
    """Write JSON to a file, or to stdout for "-"; NaN is null everywhere."""
    write_text(target, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(target: str, text: str) -> None:
    """Write text to a file (whole or not at all), or to stdout for "-"."""
    # a lone surrogate stands for a byte that is not UTF-8; its escape is also how JSON writes it
    text = text.encode("utf-8", "backslashreplace").decode()
    if target == "-":
        typer.echo(text, nl=False)
        return
    path = Path(target)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_name(f".{path.name}.part")
        half.write_text(text, encoding="utf-8")
        half.replace(path)
    except OSError as error:
        kind: type[EvalError] = StoreError if error.errno == 28 else UsageError
        raise kind(f"{target}: cannot be written: {error.strerror}") from error
