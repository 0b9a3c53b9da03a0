"""Files that are whole or absent: atomic writes, digests, and a lock that says who holds it."""

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

__all__ = ["locked", "no_room", "read_json", "sha256", "sync", "write_json", "written_whole"]

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def sync(path: Path) -> None:
    """Have a file's content, or a folder's entries, on the disk before this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def written_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, and put it in place once it is on the disk.

    Args:
        path: Where the file shall stand.
        write: Called with the path to write to.
    """
    half = path.with_name(f".{path.name}.part")
    write(half)
    sync(half)
    half.replace(path)
    sync(path.parent)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all; a number that is not finite is refused."""
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
    """Return whether an error means that the disk, or the share of it that one may use, is full."""
    if isinstance(error, OSError):
        return error.errno in _NO_ROOM
    # safetensors reports what the system said as text
    return any(os.strerror(number) in str(error) for number in _NO_ROOM)


@contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder for one process; the lock ends with the process, however that ends.

    Args:
        folder: Made where it is not there yet.
        what: Who would hold it, for the message: "trainer".

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
                f"{folder}: another {what} (process {holder}) is at work in it; wait for it or name another folder"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
