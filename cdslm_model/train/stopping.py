"""Signal handling: a first signal stops training after a checkpoint, a second one without."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupted", "noted_signals"]


class Interrupted(Exception):  # noqa: N818 - a request, not an error
    """Training stopped on a signal; a checkpoint is complete, in every process.

    Attributes:
        number: The signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list; a second signal raises KeyboardInterrupt at once.

    A single process then still completes a checkpoint that is being written. The first of several does not where the
    second signal arrives while it waits for that checkpoint.
    """
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        if noted:
            raise KeyboardInterrupt
        # raising here could cut an optimizer step or a checkpoint in half; the loop checks between steps
        noted.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
