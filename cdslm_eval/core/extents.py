"""Extent: the bytes of an archive that are one audio file, read in place."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from cdslm_eval.core.errors import AudioError

__all__ = ["Extent"]

_MOST_BYTES = 1 << 30
_FRAGMENT = re.compile(r"#bytes=(\d{1,18}),(\d{1,18})")


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes of a file that are an audio file of their own, such as a member of a tar archive.

    Attributes:
        start: The first byte, from 0.
        length: How many there are.
    """

    start: int
    length: int

    def __str__(self) -> str:
        """Return the extent as a fragment, such as "#bytes=512,64044"."""
        return f"#bytes={self.start},{self.length}"

    @classmethod
    def split(cls, fragment: str) -> tuple[Extent | None, str]:
        """Return the extent that a fragment begins with, and the rest of it.

        Example:
            >>> Extent.split("#bytes=512,64044#t=1,2"), Extent.split("#t=1")
            ((Extent(start=512, length=64044), '#t=1,2'), (None, '#t=1'))
        """
        match = _FRAGMENT.match(fragment)
        return (None, fragment) if match is None else (cls(int(match[1]), int(match[2])), fragment[match.end() :])

    def read(self, path: Path | str) -> bytes:
        """Return the bytes.

        Raises:
            AudioError: The file cannot be read, ends before they do, or they are over 1 GiB.
        """
        if self.length > _MOST_BYTES:
            raise AudioError(f"{self.length} bytes in an archive; up to 1 GiB are read")
        try:
            with open(os.fsencode(path), "rb") as file:  # noqa: PTH123 - a name need not be UTF-8
                file.seek(self.start)
                content = file.read(self.length)
        except (OSError, ValueError) as error:
            raise AudioError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
        if len(content) < self.length:
            raise AudioError(f"its archive is cut: {len(content)} of {self.length} bytes are there")
        return content
