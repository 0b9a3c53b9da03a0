"""Lists the audio files of a folder: links are followed once, and what macOS adds to archives is left out."""

from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cdslm_eval.core.audio import AUDIO_SUFFIXES
from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.printable import printable

__all__ = ["AudioFile", "audio_files"]

_logger = logging.getLogger(__name__)

_SIDECARS = (".txt", ".phones")
_ARCHIVE_FOLDER = "__MACOSX"
_APPLE_DOUBLE = "._"


@dataclass(frozen=True, slots=True)
class AudioFile:
    """One audio file of a folder.

    Attributes:
        path: The file.
        name: Its path below the folder with "/" between parts, in Unicode's composed form (NFC): archives of macOS
            write names decomposed, and the same name must be the same key everywhere.
        text, phones: Its `.txt` and `.phones` sidecars, whichever form their names are in; None where there is none.
    """

    path: Path
    name: str
    text: Path | None
    phones: Path | None


def audio_files(folder: Path) -> list[AudioFile]:
    """Return the audio files of a folder and below it, in order of their names.

    A dangling link, a FIFO or a device is listed too: such a clip must be counted as failed, not vanish. Every folder
    is read once: one that is reached by links as well counts where it lies, and loops end. AppleDouble files
    (`._a.wav`) and `__MACOSX` folders hold no audio; they are left out with a note in the log.

    Raises:
        UsageError: A folder below it cannot be listed.
    """
    files: list[AudioFile] = []
    seen: set[tuple[int, int]] = set()
    n_foreign = 0
    pending = [folder]
    while pending:
        links: list[Path] = []
        for root in pending:
            for names in _walk(root, seen, links):
                own = [name for name in names[1] if not name.startswith(_APPLE_DOUBLE)]
                if _ARCHIVE_FOLDER in names[0].relative_to(folder).parts:
                    own = []
                n_foreign += sum(_is_audio(name) for name in names[1]) - sum(_is_audio(name) for name in own)
                files.extend(_described(folder, names[0], own))
        pending = sorted(links)
    if n_foreign:
        _logger.warning(
            "note: %s: %d files that macOS adds to archives (._*, __MACOSX) are left out",
            printable(str(folder)),
            n_foreign,
        )
    return sorted(files, key=lambda file: file.name)


def _walk(root: Path, seen: set[tuple[int, int]], links: list[Path]) -> Iterator[tuple[Path, list[str]]]:
    """Yield the folders below `root` that were not seen before, with their files; append links to folders."""
    for name, folders, names in os.walk(root, onerror=_refuse):
        here = Path(name)
        stat = here.stat()
        if (stat.st_dev, stat.st_ino) in seen:
            folders.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        # real folders first, so that one that is linked too counts where it lies
        links.extend(here / folder for folder in folders if (here / folder).is_symlink())
        yield here, names


def _refuse(error: OSError) -> None:
    """Raise where a folder cannot be listed: os.walk would pass over its clips without a word."""
    raise UsageError(f"{error.filename}: the folder cannot be listed: {error.strerror}") from error


def _described(folder: Path, here: Path, names: list[str]) -> Iterator[AudioFile]:
    sidecars = {_composed(name): here / name for name in names if name.endswith(_SIDECARS)}
    for name in names:
        if _is_audio(name):
            path = here / name
            stem = _composed(path.stem)
            yield AudioFile(
                path=path,
                name=_composed(path.relative_to(folder).as_posix()),
                text=sidecars.get(f"{stem}.txt"),
                phones=sidecars.get(f"{stem}.phones"),
            )


def _is_audio(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES  # noqa: PTH122 - called for every file


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
