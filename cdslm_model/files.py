"""Files that are complete or absent: atomic writes, digests, and a lock that names its holder."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cdslm_model.errors import ModelError

__all__ = ["locked", "missing_resource", "no_room", "read_json", "sha256", "sync", "write_json", "written_whole"]

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def written_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file through a temporary one, and rename it once it is on the disk.

    Args:
        path: Of the file.
        write: Called with the path to write to.
    """
    half = path.with_name(f".{path.name}.part")
    try:
        write(half)
        sync(half)
        half.replace(path)
    except BaseException:
        # On a full disk, a half file would take the space of the next try
        half.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON atomically; a number that is not finite raises ValueError."""
    # ASCII: a file's name may hold bytes that are no UTF-8
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    written_whole(path, lambda half: half.write_text(text, encoding="ascii"))


def read_json(path: Path, kind: type[ModelError]) -> dict[str, Any]:
    """Return the JSON object of a file.

    Raises:
        ModelError: Of `kind`: the file cannot be read, or is not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise kind(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise kind(f"{path}: damaged: not JSON ({error})") from error
    if not isinstance(value, dict):
        raise kind(f"{path}: damaged: not a JSON object")
    return value


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def no_room(error: BaseException) -> bool:
    """Return whether an error means that the disk or the user's quota is full."""
    if isinstance(error, OSError):
        return error.errno in _NO_ROOM
    # safetensors reports the system's error as text
    return any(os.strerror(number) in str(error) for number in _NO_ROOM)


def missing_resource(error: BaseException) -> str | None:
    """Return a sentence with the fix where an error means a full disk or memory, else None."""
    if isinstance(error, OSError) and no_room(error):
        return f"no space on the disk{f' for {error.filename}' if error.filename else ''}; free some space"
    # torch has no type of its own for main memory
    if isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error):
        return "not enough memory; a smaller --batch-size, --depth or window, more --accumulate or --patch need less"
    return None


@contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Lock a folder for one process; the lock ends with the process, however that ends.

    Args:
        folder: Created where absent.
        what: The holder's kind, for the message: "trainer".

    Raises:
        ModelError: Another process holds it, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise ModelError(f"{folder}: cannot be written to: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise ModelError(
                f"{folder}: another {what} (process {holder}) works in it; wait for it or name another folder"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
