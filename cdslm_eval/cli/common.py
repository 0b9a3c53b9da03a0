"""What commands share: opening sets and generators, progress on stderr, writing JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cdslm_eval.core.errors import EvalError, StoreError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from cdslm_eval.core.clips import ClipSet
    from cdslm_eval.plugin.contract import Component
    from cdslm_eval.plugin.host import Host
    from cdslm_eval.run import Progress

__all__ = [
    "default_jobs",
    "name_the_weights",
    "note",
    "open_systems",
    "progress",
    "stages",
    "write_json",
    "write_text",
]


def default_jobs() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def note(text: str) -> None:
    """Say something on stderr."""
    typer.echo(text, err=True)


@contextmanager
def progress(what: str) -> Iterator[Progress]:
    """Show progress with rate and time left: a bar on a terminal, a quiet line every ten seconds otherwise."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            ProgressColumn,
            Task,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bar
        from rich.text import Text

        class Rate(ProgressColumn):
            """Clips per second."""

            def render(self, task: Task) -> Text:
                """Return the rate of the last half minute, once it is known."""
                return Text(f"{task.speed:.1f} clips/s" if task.speed else "")

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    start = last = time.monotonic()

    def line(done: int, total: int) -> None:
        """Say how far it is, at most every ten seconds and at the end."""
        nonlocal last
        now = time.monotonic()
        if now - last < 10 and done < total:
            return
        last = now
        rate = done / max(now - start, 1e-9)
        left = (total - done) / rate if rate > 0 else float("inf")
        note(f"{what}: {done}/{total} clips, {rate:.1f} clips/s, {left:.0f} s left")

    yield line


@contextmanager
def stages() -> Iterator[Callable[[str], None]]:
    """Show on a terminal which part is being worked on, and nothing elsewhere: for work of seconds in unequal parts."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status("") as shown:
        yield lambda name: shown.update(f"{name} …")


def open_systems(host: Host, paths: Sequence[str], make: Any) -> list[ClipSet]:
    """Open each path as a set, or let a generator of that name write one.

    Args:
        host: Knows the generators.
        paths: Directories, manifests, or generator names with options.
        make: Called with a generator's spec, returns the set it wrote; None where only sets will do.
    """
    from cdslm_eval.core.clips import ClipSet

    systems: list[ClipSet] = []
    for path in paths:
        if len(paths) > 1 and _is_documentation(Path(path)):
            note(f"note: {path} is passed over: a text, not a set of clips")
            continue
        if Path(path).exists():
            systems.append(ClipSet.open(path))
            continue
        name = path.partition(":")[0]
        if name in host.registered("generator") and make is None:
            raise UsageError(f"{path}: a generator; write its clips first: cdslm-eval generate {path} --out DIR")
        if name in host.registered("generator"):
            systems.append(make(path))
            continue
        try:
            ClipSet.open(path)
        except UsageError as error:
            if "/" in path or not host.registered("generator"):
                raise
            hint = str(UnknownNameError("generator", name, host.registered("generator")))
            raise UsageError(f"{error} {hint}") from error
    _tell_apart(systems)
    return systems


def name_the_weights(components: Iterable[Component | None]) -> None:
    """Say on stderr whose weights are used and under which licence, before they are."""
    for one in components:
        if one is not None and one.weights_licence:
            note(f"note: {one.name} uses {one.attribution or 'weights'}, licence {one.weights_licence}")


def _is_documentation(path: Path) -> bool:
    """Return whether a path is what a shell's DIR/* catches beside the sets: a README, a licence."""
    return path.is_file() and (path.suffix.lower() in {".md", ".txt", ".rst", ".html", ".pdf"} or not path.suffix)


def _tell_apart(systems: list[ClipSet]) -> None:
    """Give sets of one name as much of their path as tells them apart."""
    for depth in range(2, 12):
        names = [one.name for one in systems]
        again = [one for one in systems if names.count(one.name) > 1]
        if not again:
            return
        for one in again:
            one.name = "/".join(Path(one.origin).resolve().with_suffix("").parts[-depth:])
    raise UsageError(f"the same set is named twice: {again[0].origin}")


def write_json(target: str, value: Any) -> None:
    """Write JSON to a file, or to stdout for "-"; NaN is null everywhere."""
    write_text(target, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(target: str, text: str) -> None:
    """Write text to a file (whole or not at all), or to stdout for "-"."""
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
