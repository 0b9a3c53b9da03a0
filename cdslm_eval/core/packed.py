"""Packed: where in a larger file one audio file lies: bytes of an archive, or a cell of a Parquet table."""

from __future__ import annotations

import errno
import functools
import re
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from cdslm_eval.core.errors import AudioError
from cdslm_eval.core.remote.addresses import is_remote
from cdslm_eval.core.storage import Stamp, storage_of

__all__ = ["Extent", "Packed", "ParquetCell"]

_MOST_BYTES = 1 << 30
_VERSION = r"(?:,v=([0-9a-f]{1,16}))?"
_READING = threading.Lock()
_CHANGED = "the object changed since the set was opened; open it again"


class Packed(ABC):
    """An audio file inside another file, read in place; a further kind is a subclass.

    Attributes:
        kinds: The subclasses, by which fragments are parsed.
    """

    __slots__ = ()
    kinds: ClassVar[list[type[Packed]]] = []

    def __init_subclass__(cls) -> None:
        # a dataclass with slots is made twice: the second one stays
        Packed.kinds[:] = [kind for kind in Packed.kinds if kind.__qualname__ != cls.__qualname__] + [cls]

    @property
    @abstractmethod
    def length(self) -> int | None:
        """Size in bytes; None where it is not known before it is read."""

    @abstractmethod
    def read(self, path: Path | str) -> bytes:
        """Return the content of the audio file that `path` holds here.

        Raises:
            AudioError: It cannot be read, is cut, or is over 1 GiB.
        """

    @classmethod
    @abstractmethod
    def parse(cls, fragment: str) -> tuple[Self | None, str]:
        """Return what the beginning of a fragment names, as `str` wrote it, and the rest; None for anything else."""

    @staticmethod
    def split(fragment: str) -> tuple[Packed | None, str]:
        """Return what the beginning of a fragment names, of any kind, and the rest of it.

        Example:
            >>> Packed.split("#bytes=512,64044#t=1,2"), Packed.split("#t=1")
            ((Extent(start=512, length=64044, version=''), '#t=1,2'), (None, '#t=1'))
        """
        for kind in Packed.kinds:
            packed, rest = kind.parse(fragment)
            if packed is not None:
                return packed, rest
        return None, fragment


@dataclass(frozen=True)
class Extent(Packed):
    """Bytes of a file that are an audio file of their own, such as a member of a tar archive.

    Attributes:
        start: The first byte, from 0.
        length: How many there are.
        version: Of the archive, where it is an object, when its members were listed.
    """

    start: int
    length: int = 0
    version: str = ""
    _FRAGMENT: ClassVar[re.Pattern[str]] = re.compile(rf"#bytes=(\d{{1,18}}),(\d{{1,18}}){_VERSION}")

    def __str__(self) -> str:
        """Return the extent as a fragment, such as "#bytes=512,64044"."""
        return f"#bytes={self.start},{self.length}{_suffix(self.version)}"

    @classmethod
    def parse(cls, fragment: str) -> tuple[Self | None, str]:
        """Return the extent that a fragment begins with, and the rest of it."""
        match = cls._FRAGMENT.match(fragment)
        if match is None:
            return None, fragment
        return cls(int(match[1]), int(match[2]), match[3] or ""), fragment[match.end() :]

    def read(self, path: Path | str) -> bytes:
        """Return the bytes, all of them."""
        return self.read_stamped(path)[0]

    def read_stamped(self, path: Path | str) -> tuple[bytes, Stamp]:
        """Return what `read` does, and the stamp of the archive."""
        if self.length > _MOST_BYTES:
            raise AudioError(f"{self.length} bytes in an archive; up to 1 GiB are read")
        storage = storage_of(str(path))
        try:
            content, stamp = storage.read_stamped(str(path), self.start, self.length)
        except (OSError, ValueError) as error:
            raise AudioError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
        if self.version and self.version != stamp.version:
            raise AudioError(_CHANGED)
        if len(content) < self.length:
            raise AudioError(f"its archive is cut: {len(content)} of {self.length} bytes are there")
        return content, stamp


@dataclass(frozen=True)
class ParquetCell(Packed):
    """The bytes of one row of an audio column, as Hugging Face `datasets` writes them: a struct of bytes and path.

    Attributes:
        group: Number of the row group.
        row: Number of the row within it.
        column: Name of the column.
        version: Of the table, where it is an object, when its rows were listed.
    """

    group: int
    row: int
    column: str
    version: str = ""
    _FRAGMENT: ClassVar[re.Pattern[str]] = re.compile(rf"#row=(\d{{1,9}}),(\d{{1,9}}),(\w+){_VERSION}")

    @property
    def length(self) -> None:
        """Not known before the row group is read."""

    def __str__(self) -> str:
        """Return the cell as a fragment, such as "#row=0,12,audio"."""
        return f"#row={self.group},{self.row},{self.column}{_suffix(self.version)}"

    @classmethod
    def parse(cls, fragment: str) -> tuple[Self | None, str]:
        """Return the cell that a fragment begins with, and the rest of it."""
        match = cls._FRAGMENT.match(fragment)
        if match is None:
            return None, fragment
        return cls(int(match[1]), int(match[2]), match[3], match[4] or ""), fragment[match.end() :]

    def read(self, path: Path | str) -> bytes:
        """Return the bytes of the cell; a row group is read once for clips that follow each other."""
        try:
            stamp = self.version or str(storage_of(str(path)).stamp(str(path)))
            # one thread at a time: clips that follow each other lie in one group
            with _READING:
                column = _row_group(str(path), self.group, self.column, stamp, self.version)
            content = column[self.row].as_py()
        except ImportError as error:
            raise AudioError("parquet needs pip install pyarrow") from error
        except (OSError, ValueError, LookupError, TypeError) as error:  # those of pyarrow are among them
            raise AudioError(f"its row group cannot be read: {error}") from error
        if not isinstance(content, bytes):
            raise AudioError(f"no bytes in the column {self.column!r}; write the table with its audio embedded")
        return content


# two groups: a worker goes from one to the next; more would be held in memory in each worker
@functools.lru_cache(maxsize=2)
def _row_group(path: str, group: int, column: str, stamp: str, version: str) -> Any:
    """Return the bytes of a column's row group, `[rows]`; `stamp` is that of the file, so that a new one is read."""
    del stamp
    import pyarrow.parquet as pq

    with storage_of(path).open(path) as opened, pq.ParquetFile(opened if is_remote(path) else path) as file:
        if file.metadata.row_group(group).total_byte_size > _MOST_BYTES:
            raise ValueError("a row group of over 1 GiB; write smaller row groups")
        cells = file.read_row_group(group, columns=[f"{column}.bytes"])[column].combine_chunks().field("bytes")
    _check_version(path, version)
    return cells


def _suffix(version: str) -> str:
    return f",v={version}" if version else ""


def _check_version(path: str, version: str) -> None:
    """Return where a file is what it was when its inside was listed, checked after reading: the content read is that.

    Raises:
        OSError: It is another version, whose parts lie elsewhere.
    """
    if version and storage_of(path).version(path) != version:
        raise OSError(errno.ESTALE, _CHANGED)
