"""Prefetch: reads audio that lies in an object store ahead of its use, in threads and within a bound of memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Self

from cdslm_eval.core.errors import AudioError, EvalError
from cdslm_eval.core.packed import Extent
from cdslm_eval.core.remote.addresses import is_remote
from cdslm_eval.core.remote.objects import THREADS, WHOLE_BYTES, ObjectStore
from cdslm_eval.core.spans import Address
from cdslm_eval.core.storage import Stamp, storage_of

__all__ = ["Fetched", "Prefetch"]

_AHEAD = 4 * THREADS
_AHEAD_BYTES = 64 << 20
"""Read and not yet used; what is under way, `THREADS` objects of up to 16 MiB, comes on top."""


class Fetched(NamedTuple):
    """What was read of an address.

    Attributes:
        stamp: Of its file, from before it was read.
        content: The bytes of the audio file; None where its decoder is to read it.
    """

    stamp: Stamp
    content: bytes | None


class Prefetch:
    """Reads objects in the order in which they will be taken; a context manager.

    Addresses of files of this machine, parts of recordings, tables and objects over 16 MiB are left to the decoder.

    Args:
        addresses: In the order in which they will be taken, each once.
    """

    def __init__(self, addresses: Iterable[Address]) -> None:
        self._waiting = deque(address for address in dict.fromkeys(addresses) if is_remote(address.path))
        self._started: dict[Address, Future[Fetched]] = {}
        self._pool = ThreadPoolExecutor(THREADS) if self._waiting else None
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._waiting.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def take(self, address: Address) -> Fetched | None:
        """Return what was read of an address, waiting for it; None where it was not read ahead.

        Raises:
            AudioError: It cannot be read.
        """
        with self._lock:
            future = self._started.pop(address, None)
        if future is None:
            return None
        self._start()
        try:
            return future.result()
        except OSError as error:
            raise AudioError(f"cannot be read: {error.strerror}") from error
        except EvalError as error:
            raise AudioError(str(error)) from error

    def _start(self, _: object = None) -> None:
        """Start reading until enough is under way or waits to be taken; called whenever one was read or taken."""
        with self._lock:
            while self._pool is not None and self._waiting:
                n_reading = sum(not future.done() for future in self._started.values())
                held = sum(len(future.result().content or b"") for future in self._started.values() if _is_read(future))
                if n_reading >= THREADS or len(self._started) >= _AHEAD or held >= _AHEAD_BYTES:
                    return
                address = self._waiting.popleft()
                self._started[address] = self._pool.submit(_fetched, address)
                self._started[address].add_done_callback(self._start)


def _is_read(future: Future[Fetched]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _fetched(address: Address) -> Fetched:
    store = storage_of(address.path)
    assert isinstance(store, ObjectStore)
    packed = address.packed
    if packed is None and address.span is None:
        return Fetched(*store.fetch(address.path))
    if isinstance(packed, Extent) and packed.length <= WHOLE_BYTES:
        content, stamp = packed.read_stamped(address.path)
        return Fetched(stamp, content)
    return Fetched(store.stamp(address.path), None)
