"""Keeps file descriptors 1 and 2 for this program: decoders and plugins write to them behind Python's back."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

__all__ = ["silenced", "stdout_to_stderr"]

_lock = threading.RLock()


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _flush_c() -> None:
    """Write out the buffers of C's standard streams."""
    _libc().fflush(None)


def stdout_to_stderr() -> None:
    """Send everything that this process writes to standard output to standard error, for good.

    For worker processes: what a plugin prints must not land between the lines of `--json -` or CSV.
    """
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    with suppress(OSError):
        os.dup2(2, 1)
    sys.stdout = sys.stderr


@contextmanager
def silenced() -> Iterator[None]:
    """Discard what C code writes to descriptors 1 and 2; Python's own buffers are not touched.

    libsndfile prints to standard output (`.sds`), libmpg123 to standard error. Descriptors belong to the process, so
    another thread that flushes its output in these microseconds loses it; one thread at a time may be inside.
    """
    with _lock:
        saved = []
        _flush_c()
        try:
            for descriptor in (1, 2):
                with suppress(OSError):  # a descriptor that is closed has nothing to lose
                    saved.append((descriptor, os.dup(descriptor)))
            null = os.open(os.devnull, os.O_WRONLY)
            try:
                for descriptor, _ in saved:
                    os.dup2(null, descriptor)
            finally:
                os.close(null)
            yield
        finally:
            # C buffers what it prints into a pipe, and would write it once the descriptor is back
            _flush_c()
            for descriptor, copy in saved:
                os.dup2(copy, descriptor)
                os.close(copy)
