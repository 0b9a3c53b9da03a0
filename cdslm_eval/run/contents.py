"""Decodes files to know their content before anything is measured: rows belong to content, not to files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from cdslm_eval.core.errors import AudioError
from cdslm_eval.core.progress import Progress
from cdslm_eval.core.store import FileFacts, Store
from cdslm_eval.plugin.execution import Executor, Produced, Task
from cdslm_eval.run.worker import read_with_facts

__all__ = ["read_contents"]

_FILES_A_TASK = 32
_SECONDS_A_FILE = 30.0
_COMMIT_S = 1.0


@dataclass(frozen=True, slots=True)
class _Decoder:
    """A worker's function: decodes files and yields their facts; it skips those that cannot be read.

    Measuring will meet the unreadable ones again, and report them.
    """

    @contextmanager
    def open(self) -> Iterator[Callable[[Sequence[str]], Iterator[tuple[str, FileFacts]]]]:
        """Provide the function."""
        yield self._decode

    def _decode(self, paths: Sequence[str]) -> Iterator[tuple[str, FileFacts]]:
        for path in paths:
            try:
                yield path, read_with_facts(path)[1]
            except AudioError:
                continue


def read_contents(
    store: Store, executor: Executor, paths: Sequence[str], jobs: int, progress: Progress | None = None
) -> set[str]:
    """Decode files and store their digests; return the paths of those that could be read.

    Args:
        store: Takes the digests.
        executor: Decodes the files, isolated from this process.
        paths: The files.
        jobs: Worker processes.
        progress: Called with (files decoded, files to decode).
    """
    read: set[str] = set()
    if not paths:
        return read
    chunks = (paths[start : start + _FILES_A_TASK] for start in range(0, len(paths), _FILES_A_TASK))
    numbered = enumerate(chunks, 1)

    def next_task() -> Task | None:
        number, chunk = next(numbered, (0, []))
        return Task(number, chunk, _SECONDS_A_FILE) if chunk else None

    waiting: list[tuple[str, FileFacts]] = []
    last = time.monotonic()
    try:
        for event in executor.run(_Decoder(), next_task, max(1, jobs)):
            if isinstance(event, Produced):
                waiting.append(event.value)
                read.add(event.value[0])
                if progress:
                    progress(len(read), len(paths))
            if time.monotonic() - last > _COMMIT_S:
                _commit(store, waiting)
                waiting, last = [], time.monotonic()
    finally:
        _commit(store, waiting)
    return read


def _commit(store: Store, facts: list[tuple[str, FileFacts]]) -> None:
    with store.writing():
        for path, entry in facts:
            store.put_file(path, entry)
