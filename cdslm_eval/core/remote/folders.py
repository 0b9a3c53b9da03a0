"""Lists the audio of a folder of objects, with the texts next to it."""

from __future__ import annotations

import logging
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

from cdslm_eval.core.audio import AUDIO_SUFFIXES
from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.printable import printable
from cdslm_eval.core.remote.failures import AbsentError, RemoteError
from cdslm_eval.core.remote.paths import ObjectPath
from cdslm_eval.core.sources import Source

__all__ = ["from_objects"]

_logger = logging.getLogger(__name__)

_SIDECAR_BYTES = 1 << 20


def from_objects(folder: ObjectPath) -> Iterator[Source]:
    """Yield the audio objects of a folder and below it, in order of their addresses, with `.txt` and `.phones` of each.

    Names are keys and no more: one that looks like a way out of the folder leads nowhere.

    Raises:
        UsageError: The folder cannot be listed, or a sidecar cannot be read, is over 1 MiB or not UTF-8.
    """
    try:
        sizes = {address: stamp.size for address, stamp in folder.store.listed(folder.address)}
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}") from error
    start = len(folder.address) + 1
    audio = sorted(address for address in sizes if _is_audio(address[start:]))
    stems = Counter(_stem(address) for address in audio)
    sidecars = {
        ending: _sidecars(folder, [f"{_stem(a)}{ending}" for a in audio], sizes) for ending in (".txt", ".phones")
    }
    for address in audio:
        stem = _stem(address)
        phones = sidecars[".phones"].get(f"{stem}.phones")
        key = (stem if stems[stem] == 1 else address)[start:]
        yield Source(
            key=unicodedata.normalize("NFC", key),
            path=address,
            text=sidecars[".txt"].get(f"{stem}.txt"),
            phones=tuple(phones.split()) if phones is not None else None,
        )


def _stem(address: str) -> str:
    return posixpath.splitext(address)[0]


def _is_audio(name: str) -> bool:
    path = PurePosixPath(name)
    # what macOS adds to archives, as in folders of files
    return path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith("._") and "__MACOSX" not in path.parts


def _sidecars(folder: ObjectPath, names: list[str], sizes: dict[str, int]) -> dict[str, str]:
    """Return the texts of those sidecars that are there."""
    present = [name for name in dict.fromkeys(names) if name in sizes]
    for name in present:
        if sizes[name] > _SIDECAR_BYTES:
            raise UsageError(f"{name}: a sidecar of over 1 MiB; is it really the text of one clip?")
    texts: dict[str, str] = {}
    for name, content in zip(present, folder.store.texts(present, _SIDECAR_BYTES), strict=True):
        if isinstance(content, AbsentError):
            # it went away since the folder was listed, as the audio of its clip may have
            _logger.warning("note: %s: %s", printable(name), content)
            continue
        if isinstance(content, RemoteError):
            # without it, a metric of texts would be that of the other clips
            raise UsageError(f"{name}: cannot be read: {content}; open the set again") from content
        try:
            texts[name] = content.decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            raise UsageError(f"{name}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    return texts
