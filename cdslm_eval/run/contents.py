"""Decodes files to know their content before anything is measured: rows belong to content, not to files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from cdslm_eval.core.errors import AudioError
from cdslm_eval.core.progress import Progress
from cdslm_eval.core.remote.prefetch import Prefetch
from cdslm_eval.core.spans import Address
from cdslm_eval.core.store import FileFacts, Store
from cdslm_eval.plugin.execution import Executor, Produced, Task
from cdslm_eval.run.decoding import read_with_facts

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
    def open(self) -> Iterator[Callable[[Sequence[Address]], Iterator[tuple[Address, FileFacts]]]]:
        """Provide the function."""
        yield self._decode

    def _decode(self, addresses: Sequence[Address]) -> Iterator[tuple[Address, FileFacts]]:
        with Prefetch(addresses) as ahead:
            for address in addresses:
                try:
                    yield address, read_with_facts(address, fetched=ahead.take(address))[1]
                except AudioError:
                    continue


def read_contents(
    store: Store, executor: Executor, addresses: Sequence[Address], jobs: int, progress: Progress | None = None
) -> set[Address]:
    """Decode files and store their digests; return those that could be read.

    Args:
        store: Takes the digests.
        executor: Decodes the files, isolated from this process.
        addresses: The files and parts of files.
        jobs: Worker processes.
        progress: Called with (files decoded, files to decode).
    """
    read: set[Address] = set()
    if not addresses:
        return read
    chunks = (addresses[start : start + _FILES_A_TASK] for start in range(0, len(addresses), _FILES_A_TASK))
    numbered = enumerate(chunks, 1)

    def next_task() -> Task | None:
        number, chunk = next(numbered, (0, []))
        return Task(number, chunk, _SECONDS_A_FILE) if chunk else None

    waiting: list[tuple[Address, FileFacts]] = []
    last = time.monotonic()
    try:
        for event in executor.run(_Decoder(), next_task, max(1, jobs)):
            if isinstance(event, Produced):
                waiting.append(event.value)
                read.add(event.value[0])
                if progress:
                    progress(len(read), len(addresses))
            if time.monotonic() - last > _COMMIT_S:
                _commit(store, waiting)
                waiting, last = [], time.monotonic()
    finally:
        _commit(store, waiting)
    return read


def _commit(store: Store, facts: list[tuple[Address, FileFacts]]) -> None:
    with store.writing():
        for address, entry in facts:
            store.put_file(address, entry)
