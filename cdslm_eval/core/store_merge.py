"""Merges stores into one in a single pass over all of them, each row written once and in the order of its key."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cdslm_eval.core.store import Store
from cdslm_eval.core.store_schema import PARTS, SCHEMA, TAKE_OVER

__all__ = ["merge_stores"]

_FILES_A_STORE = 3
"""Of an open store: the database, its write-ahead log, and the index of that."""
_SPARE_FILES = 128
_CACHE_KB = 128
"""Of each part, which is read from its first page to its last: with SQLite's 2 MB a thousand parts would take 2 GB."""


def merge_stores(target: Store, parts: Sequence[Path]) -> list[dict[str, int]]:
    """Take over the digests, identities, rows and notes of other stores, all or nothing of those read at once.

    Where several hold a row, the first that measured it wins, the target before all: a row that was measured wins over
    one that failed, whichever store it comes from.

    Args:
        target: Open for writing.
        parts: The other stores, each in a file of its own.

    Returns:
        For each part, how many rows the tables "files", "identities" and "rows" gained from it.

    Raises:
        UsageError: A part is not a store, or of a newer schema.
        StoreError: A part is damaged.
    """
    gained = [dict.fromkeys(PARTS, 0) for _ in parts]
    # rows of a random order would touch a page of the target each: keys are ascending in every part, so that parts
    # which are open together are merged into one ascending run
    most = _open_at_once(len(parts))
    for first in range(0, len(parts), most):
        with ExitStack() as stack:
            sources = [stack.enter_context(_opened(part)) for part in parts[first : first + most]]
            with target.writing():
                for table in PARTS:
                    for number, count in _take_over(target, sources, table).items():
                        gained[first + number][table] += count
    return gained


def _opened(part: Path) -> Store:
    store = Store(part, read_only=True)
    if store.query("PRAGMA user_version")[0][0] < SCHEMA:
        store.close()
        Store(part).close()  # opening it for writing brings it up to date
        store = Store(part, read_only=True)
    store.query(f"PRAGMA cache_size = -{_CACHE_KB}")
    return store


def _take_over(target: Store, sources: Sequence[Store], table: str) -> dict[int, int]:
    """Merge one table; return how many rows each source added."""
    query, width = PARTS[table]
    choose = _first_measured if table == "rows" else next
    runs = (_numbered(number, source.stream(query), width) for number, source in enumerate(sources))
    groups = itertools.groupby(heapq.merge(*runs), key=lambda entry: entry[:width])
    return target.take_over(TAKE_OVER[table], (choose(group)[-2:] for _, group in groups))


def _numbered(number: int, rows: Iterator[tuple[Any, ...]], width: int) -> Iterator[tuple[Any, ...]]:
    """Yield each row behind its key and its part, by which it is sorted."""
    return ((*row[:width], number, row) for row in rows)


def _first_measured(group: Iterator[tuple[Any, ...]]) -> tuple[Any, ...]:
    first = next(group)
    if first[-1][2] != "failed":
        return first
    return next((entry for entry in group if entry[-1][2] != "failed"), first)


def _open_at_once(parts: int) -> int:
    """Return how many parts may be open together, having raised the limit of open files where that is allowed."""
    try:
        import resource
    except ImportError:  # Windows, where the limit is that of its runtime
        return 64
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _SPARE_FILES + _FILES_A_STORE * parts
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return parts if soft == resource.RLIM_INFINITY else max(1, (soft - _SPARE_FILES) // _FILES_A_STORE)
