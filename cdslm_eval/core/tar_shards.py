"""WebDataset shards: clips that are members of a tar archive, read in place and never extracted."""

from __future__ import annotations

import json
import logging
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import IO, Any

from cdslm_eval.core.audio import AUDIO_SUFFIXES
from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.languages import language_tag
from cdslm_eval.core.manifest_fields import text_of
from cdslm_eval.core.packed import Extent
from cdslm_eval.core.printable import printable
from cdslm_eval.core.remote.paths import AnyPath
from cdslm_eval.core.sources import Source
from cdslm_eval.core.storage import storage_of

__all__ = ["from_tar"]

_logger = logging.getLogger(__name__)

_TEXT_BYTES = 1 << 20
_BLOCK = tarfile.BLOCKSIZE
_FIELDS = ("text", "speaker", "language")


def from_tar(path: AnyPath) -> Iterator[Source]:
    """Yield the audio members of a tar archive in order, each with the `.txt` and `.json` of its key.

    A key is a member's path up to the first dot of its name, as WebDataset groups members; the `.json` may have "text",
    "speaker" and "language". A name is a key and no more, so one that leads elsewhere harms nothing. An archive that
    ends early keeps the members before: the one that is cut fails when it is read, and a warning names the archive.

    Raises:
        UsageError: It cannot be read, is compressed, or a text in it is not UTF-8 or over 1 MiB.

    Source: WebDataset documentation, "The WebDataset Format".
    """
    audio: list[tuple[str, str, Extent]] = []
    fields: dict[str, dict[str, str | None]] = {}
    try:
        # "r:" takes no compression: a member of a compressed archive cannot be sought
        # before its members are listed, so that a shard that changes meanwhile is another than theirs
        version = storage_of(str(path)).version(str(path))
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in _members(archive, file, path):
                key, suffix = _split(member.name)
                ending = f".{suffix.rpartition('.')[2].lower()}"
                if ending in AUDIO_SUFFIXES:
                    audio.append((key, suffix, Extent(member.offset_data, member.size, version)))
                elif ending in (".txt", ".json"):
                    fields.setdefault(key, {}).update(_fields(archive, member, f"{path}, {member.name}"))
    except tarfile.ReadError as error:
        raise UsageError(f"{path}: not an uncompressed tar archive ({error}); decompress it first") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    times = Counter(key for key, _, _ in audio)
    for key, suffix, extent in audio:
        own = fields.get(key, {})
        yield Source(
            # several recordings of one key are distinguished by their suffixes
            key=key if times[key] == 1 else f"{key}.{suffix}",
            path=str(path),
            text=own.get("text"),
            speaker=own.get("speaker"),
            language=own.get("language"),
            packed=extent,
        )


def _members(archive: tarfile.TarFile, file: IO[bytes], path: AnyPath) -> Iterator[tarfile.TarInfo]:
    """Yield regular members; an archive that ends early ends the list, with a warning."""
    count, problem = 0, ""
    while not problem:
        try:
            member = archive.next()
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            if not count:
                raise
            member, problem = None, str(error)
        if member is None:
            # tarfile takes a damaged header for the end, which is a block of zeros
            file.seek(archive.offset)
            problem = problem or ("" if file.read(_BLOCK) == bytes(_BLOCK) else "no end mark")
            break
        count += 1
        archive.members = []  # type: ignore[attr-defined]  # else it holds all members of a long archive
        if member.isreg() and not member.issparse():
            yield member
    if problem:
        _logger.warning(
            "note: %s: the archive is cut or damaged after %d members (%s); what follows is not known",
            printable(str(path)),
            count,
            printable(problem),
        )


def _split(name: str) -> tuple[str, str]:
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return f"{folder}{slash}{stem}", suffix


def _fields(archive: tarfile.TarFile, member: tarfile.TarInfo, where: str) -> dict[str, str | None]:
    """Return the fields of a clip from its `.txt` or `.json`; nothing from one that the archive cuts."""
    if member.size > _TEXT_BYTES:
        raise UsageError(f"{where}: over 1 MiB; is it really of one clip?")
    file = archive.extractfile(member)
    assert file is not None  # a regular member has content
    try:
        content = file.read()
        text = content.decode("utf-8-sig")
        if len(content) < member.size:
            return {}
        if member.name.endswith(".txt"):
            return {"text": text.strip()}
        record: Any = json.loads(text)
        if not isinstance(record, Mapping):
            return {}
        values = {name: text_of(name, record.get(name)) for name in _FIELDS if record.get(name) is not None}
        if values.get("language"):
            values["language"] = language_tag(str(values["language"]))
    except tarfile.ReadError:
        return {}
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: {error}") from error
    return values
