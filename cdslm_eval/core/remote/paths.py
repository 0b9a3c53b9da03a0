"""ObjectPath: the part of pathlib's interface by which readers of clip sets reach objects."""

from __future__ import annotations

import io
import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.remote.addresses import check_address, joined
from cdslm_eval.core.remote.failures import AbsentError
from cdslm_eval.core.remote.objects import ObjectFile, ObjectStore

__all__ = ["AnyPath", "ObjectPath"]

_READ_AHEAD = 4 << 20
"""Of manifests, which are read from the first byte to the last."""


@dataclass(frozen=True, slots=True)
class ObjectPath:
    """The address of an object or of a folder of objects.

    Attributes:
        address: As `check_address` returns it.
    """

    address: str

    @classmethod
    def parse(cls, text: str) -> ObjectPath:
        """Return the path that somebody wrote.

        Raises:
            UsageError: It carries a credential, or is no such address.
        """
        return cls(check_address(text))

    def __str__(self) -> str:
        return self.address

    @property
    def store(self) -> ObjectStore:
        """What reads it."""
        return ObjectStore.of(self.address.partition("://")[0])

    @property
    def name(self) -> str:
        """The part after the last slash."""
        return posixpath.basename(self.address)

    @property
    def suffix(self) -> str:
        """The end of the name from its last dot on."""
        return posixpath.splitext(self.address)[1]

    @property
    def parent(self) -> ObjectPath:
        """The folder that it is in."""
        return ObjectPath(posixpath.dirname(self.address))

    def __truediv__(self, path: str) -> ObjectPath:
        try:
            return ObjectPath(joined(self.address, path))
        except ValueError as error:
            raise UsageError(f"{self}: {error}") from error

    def with_name(self, name: str) -> ObjectPath:
        """Return the path next to it of another name."""
        return self.parent / name

    def is_file(self) -> bool:
        """Return whether there is an object here."""
        try:
            self.store.stamp(self.address)
        except AbsentError:
            return False
        return True

    def open(self, mode: str = "r", *, encoding: str | None = None, newline: str | None = None) -> IO[Any]:
        """Return an open file, of bytes for the mode "rb", else of text."""
        raw = ObjectFile(self.store, self.address)
        if mode == "rb":
            return io.BufferedReader(raw, 1 << 16)
        return io.TextIOWrapper(io.BufferedReader(raw, _READ_AHEAD), encoding=encoding, newline=newline)


AnyPath = Path | ObjectPath
"""What readers of clip sets take."""
