"""Shows progress on stderr: a bar on a terminal, a line every ten seconds elsewhere, nothing where quiet is asked."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cdslm_eval.core.printable import printable
from cdslm_eval.core.verbosity import is_quiet

__all__ = ["Progress", "progress_bar", "shown_progress"]

Progress = Callable[[int, int], None]
"""Called with (clips done, clips to do), or pairs where these are what is counted."""
_LINE_S = 10.0


@contextmanager
def progress_bar(label: str, where: Callable[[], str] = str, unit: str = "clips") -> Iterator[Progress]:
    """Show how many clips are done, their rate and the time left, and yield the function that reports progress.

    Args:
        label: What is being done, such as "scoring".
        where: Returns where it is done now, such as "2 nodes, 8 workers"; "" for this machine.
        unit: What is counted, in the plural.
    """

    def described() -> str:
        return printable(f"{label} on {place}" if (place := where()) else label)

    if is_quiet():
        yield lambda _done, _total: None
        return
    if not sys.stderr.isatty():
        yield _lines(described, unit)
        return
    from rich.console import Console
    from rich.markup import escape
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
        """What is done per second."""

        def render(self, task: Task) -> Text:
            """Return the rate of the last half minute, once it is known."""
            return Text(f"{task.speed:.1f} {unit}/s" if task.speed else "")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escape(described()), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total, description=escape(described()))


def _lines(described: Callable[[], str], unit: str) -> Progress:
    """Return a function that prints a line at most every ten seconds, and at the end."""
    start = last = time.monotonic()

    def line(done: int, total: int) -> None:
        """Print how far it is."""
        nonlocal last
        now = time.monotonic()
        if now - last < _LINE_S and done < total:
            return
        last = now
        rate = done / max(now - start, 1e-9)
        left = (total - done) / rate if rate > 0 else float("inf")
        sys.stderr.write(f"{described()}: {done}/{total} {unit}, {rate:.1f} {unit}/s, {left:.0f} s left\n")
        sys.stderr.flush()

    return line


@contextmanager
def shown_progress(
    progress: Progress | bool, label: str, where: Callable[[], str] = str, unit: str = "clips"
) -> Iterator[Progress | None]:
    """Yield the function to call with progress: a bar for True (see `progress_bar`), the caller's own, or None."""
    if progress is True:
        with progress_bar(label, where, unit) as bar:
            yield bar
    else:
        yield progress or None
