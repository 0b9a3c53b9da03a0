"""Storage: reads what a path names, a file of this machine or an object of a store, and distinguishes its versions."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from cdslm_eval.core.provenance import host_id
from cdslm_eval.core.remote.addresses import is_remote

__all__ = ["Disk", "Stamp", "Storage", "storage_of"]


class Stamp(NamedTuple):
    """What changes with a file: as long as its stamp stays, its content does.

    Attributes:
        host: Identity of the machine that has the file, or the scheme of an object, which is the same from everywhere.
        size: In bytes.
        mtime_ns, ctime_ns, inode: Of a file; of an object `inode` is the number of its version, and the others are 0.
    """

    host: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @property
    def version(self) -> str:
        """The number of an object's version, in hex."""
        return f"{self.inode:x}"


class Storage(ABC):
    """Where bytes lie; a further kind is a subclass that `storage_of` returns. Failures are `OSError`s."""

    @abstractmethod
    def stamp(self, path: str) -> Stamp:
        """Return the stamp of a path."""

    @abstractmethod
    def stamps(self, paths: Collection[str]) -> Iterator[tuple[str, Stamp]]:
        """Yield the stamps of those paths that are there, in any order."""

    @abstractmethod
    def open(self, path: str) -> BinaryIO:
        """Return an open file that can be sought."""

    @abstractmethod
    def read(self, path: str, start: int, length: int) -> bytes:
        """Return bytes, fewer than `length` where the file ends."""

    def read_stamped(self, path: str, start: int, length: int) -> tuple[bytes, Stamp]:
        """Return what `read` does, and the stamp of the version that it is from."""
        content = self.read(path, start, length)
        # after reading: the content is of this version, or of one that nobody requested
        return content, self.stamp(path)

    @abstractmethod
    def content(self, path: str) -> bytes | None:
        """Return the whole content where reading it at once is cheaper than through `open`, else None."""

    @abstractmethod
    def streamed(self, path: str) -> BinaryIO | None:
        """Return an open file for a decoder, None where that opens paths itself; then `check_streamed`."""

    @abstractmethod
    def version(self, path: str) -> str:
        """Return what an index of the file's inside holds for, up to 16 hex digits; "" where nothing keeps that."""


class Disk(Storage):
    """Files of this machine."""

    def stamp(self, path: str) -> Stamp:
        """Return the identity of the file as the file system has it."""
        stat = Path(path).stat()
        return Stamp(host_id(), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)

    def stamps(self, paths: Collection[str]) -> Iterator[tuple[str, Stamp]]:
        """Yield the stamps of files, one by one."""
        for path in paths:
            try:
                yield path, self.stamp(path)
            except (OSError, ValueError):  # ValueError: a NUL or a lone surrogate, which no file's name has
                continue

    def open(self, path: str) -> BinaryIO:
        """Return the open file."""
        return open(os.fsencode(path), "rb")  # noqa: PTH123 - a name need not be UTF-8

    def read(self, path: str, start: int, length: int) -> bytes:
        """Return bytes of the file."""
        with self.open(path) as file:
            file.seek(start)
            return file.read(length)

    def content(self, path: str) -> bytes | None:
        """Return None: decoders read files themselves."""
        del path
        return None

    def streamed(self, path: str) -> BinaryIO | None:
        """Return None: decoders read files themselves."""
        del path
        return None

    def version(self, path: str) -> str:
        """Return "": an archive that changes meanwhile fails when its members are decoded."""
        del path
        return ""


_DISK = Disk()


def storage_of(path: str) -> Storage:
    """Return what reads a path.

    Raises:
        UsageError: It is an object, and the package that reads it is not installed.
    """
    if not is_remote(path):
        return _DISK
    from cdslm_eval.core.remote.objects import ObjectStore  # only here: it is a storage itself

    return ObjectStore.of(path.partition("://")[0])
