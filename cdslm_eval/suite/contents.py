"""Learns what files hold before anything is measured, so that copies are not measured again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import AudioError
from cdslm_eval.core.store import FileFacts, Store
from cdslm_eval.plugin.contract import Executor, Produced, Task
from cdslm_eval.run import unchanged
from cdslm_eval.run.worker import read_with_facts

__all__ = ["learn_contents"]

_FILES_A_TASK = 32
_SECONDS_A_FILE = 30.0
_COMMIT_S = 1.0


@dataclass(frozen=True, slots=True)
class _Decoder:
    """The worker: decodes files and says what they hold; one that cannot be read is left to the measuring to blame."""

    @contextmanager
    def open(self) -> Iterator[Callable[[Sequence[str]], Iterator[tuple[str, FileFacts]]]]:
        """Hand out the function."""
        yield self._decode

    def _decode(self, paths: Sequence[str]) -> Iterator[tuple[str, FileFacts]]:
        for path in paths:
            try:
                yield path, read_with_facts(path)[1]
            except AudioError:
                continue


def learn_contents(store: Store, executor: Executor, sets: Sequence[ClipSet], jobs: int) -> int:
    """Decode those files that are new to the store and may hold what it knows already; return how many.

    Only a file of the same size as another one can be its copy, so the others are not opened.

    Args:
        store: Gets the digests.
        executor: Where files are decoded, guarded against what they may do.
        sets: The clips.
        jobs: Worker processes.
    """
    paths = sorted({path for one in sets for s in one.sources for path in (s.path, s.reference) if path})
    known = store.files(paths)
    fresh: dict[str, int] = {}
    for path in paths:
        if path not in known or not unchanged(path, known[path]):
            try:
                fresh[path] = Path(path).stat().st_size
            except OSError:
                continue  # the measuring says what is wrong with it
    sizes = Counter(fresh.values())
    seen = store.sizes()
    doubtful = [path for path, size in fresh.items() if sizes[size] > 1 or size in seen]
    chunks = (doubtful[start : start + _FILES_A_TASK] for start in range(0, len(doubtful), _FILES_A_TASK))
    numbered = enumerate(chunks, 1)

    def next_task() -> Task | None:
        number, some = next(numbered, (0, []))
        return Task(number, some, _SECONDS_A_FILE) if some else None

    waiting: list[tuple[str, FileFacts]] = []
    last = time.monotonic()
    try:
        for event in executor.run(_Decoder(), next_task, max(1, jobs)) if doubtful else ():
            if isinstance(event, Produced):
                waiting.append(event.value)
            if time.monotonic() - last > _COMMIT_S:
                waiting, last = _commit(store, waiting), time.monotonic()
    finally:
        _commit(store, waiting)
    return len(doubtful)


def _commit(store: Store, facts: list[tuple[str, FileFacts]]) -> list[tuple[str, FileFacts]]:
    with store.writing():
        for path, one in facts:
            store.put_file(path, one)
    return []
