"""Reads text that lies next to audio: `.txt` and `.phones` sidecars, and the lines of manifests."""

from __future__ import annotations

import gzip
import os
import unicodedata
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.remote.addresses import is_remote
from cdslm_eval.core.remote.paths import AnyPath

__all__ = ["Sidecars", "sidecar_text", "text_lines"]

_SIDECAR_BYTES = 1 << 20
_LINE_CHARACTERS = 1 << 24


class Sidecars:
    """Finds `.txt` and `.phones` files next to audio, listing each folder once: a manifest may name a million clips."""

    def __init__(self) -> None:
        self._names: dict[str, dict[str, str]] = {}

    def beside(self, audio: str) -> Mapping[str, str]:
        """Return the names of the sidecars in the folder of an audio file, by their composed form (NFC)."""
        if is_remote(audio):
            return {}  # a request for each clip that a manifest names: texts of objects belong into it
        folder = audio.rpartition("/")[0] if os.sep == "/" else str(Path(audio).parent)
        if folder not in self._names:
            try:
                names = os.listdir(folder or ("/" if audio.startswith("/") else "."))  # noqa: PTH208 - names alone
            except (OSError, ValueError):  # ValueError: a NUL in the path
                names = []  # the audio is reported as missing when it is decoded
            self._names[folder] = {
                unicodedata.normalize("NFC", name): name for name in names if name.endswith((".txt", ".phones"))
            }
        return self._names[folder]

    def read(self, audio: str, suffix: str) -> str | None:
        """Return the text of the sidecar of an audio file, or None where there is none."""
        names = self.beside(audio)
        if not names:
            return None
        name = names.get(unicodedata.normalize("NFC", Path(audio).stem + suffix))
        return None if name is None else sidecar_text(Path(audio).parent / name)


def sidecar_text(path: Path) -> str | None:
    """Return the text of a sidecar, or None where it is no file.

    Raises:
        UsageError: It is longer than the text of one clip, or not UTF-8.
    """
    if not path.is_file():
        return None
    if path.stat().st_size > _SIDECAR_BYTES:
        raise UsageError(f"{path}: a sidecar of over 1 MiB; is it really the text of one clip?")
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def text_lines(path: AnyPath) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line of a file.

    Raises:
        UsageError: It cannot be read, or is not UTF-8.
    """
    try:
        if path.suffix == ".gz":
            with path.open("rb") as file, gzip.open(file, "rt", encoding="utf-8-sig", newline="") as packed:
                yield from _lines(packed, path)
        else:
            with path.open(encoding="utf-8-sig", newline="") as text:
                yield from enumerate(text, 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UsageError(f"{path}: damaged, or cut in the middle ({error})") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def _lines(file: TextIO, path: AnyPath) -> Iterator[tuple[int, str]]:
    """Yield numbered lines of packed text; without a limit, a small file could unpack to a line that fills memory."""
    number = 0
    while line := file.readline(_LINE_CHARACTERS):
        number += 1
        if len(line) == _LINE_CHARACTERS:
            raise UsageError(f"{path}, line {number}: over 16 million characters; one clip a line is wanted")
        yield number, line
