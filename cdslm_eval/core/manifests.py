"""Reads what names clips: directories, JSONL, CSV and TSV manifests, Kaldi `wav.scp`; strictly, with line numbers."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from cdslm_eval.core.errors import UsageError, did_you_mean
from cdslm_eval.core.folders import audio_files
from cdslm_eval.core.separated import separated_rows
from cdslm_eval.core.sources import Source

__all__ = ["from_directory", "from_records", "from_scp", "json_lines", "table_rows"]

_SIDECAR_BYTES = 1 << 20
_ALIASES = {
    "transcript": "text",
    "sentence": "text",
    "speaker_id": "speaker",
    "spk": "speaker",
    "lang": "language",
    "ref": "reference",
}
_FIELDS = ("path", "key", "text", "speaker", "language", "phones", "reference", "reference_text", "prompt_seconds")
_FIELD_NAMES = frozenset(_FIELDS)


def from_directory(folder: Path) -> Iterator[Source]:
    """Yield the audio files of a folder and below it, in order of their paths."""
    files = audio_files(folder)
    stems = Counter(str(PurePosixPath(file.name).with_suffix("")) for file in files)
    for file in files:
        stem = str(PurePosixPath(file.name).with_suffix(""))
        phones = _sidecar(file.phones) if file.phones else None
        yield Source(
            key=stem if stems[stem] == 1 else file.name,
            path=str(file.path),
            text=_sidecar(file.text) if file.text else None,
            phones=tuple(phones.split()) if phones is not None else None,
        )


class _Sidecars:
    """Finds `.txt` and `.phones` files next to audio, listing each folder once: a manifest may name a million clips."""

    def __init__(self) -> None:
        self._names: dict[str, frozenset[str]] = {}

    def read(self, audio: str, suffix: str) -> str | None:
        """Return the text of the sidecar of an audio file, or None where there is none."""
        folder = os.path.dirname(audio)  # noqa: PTH120 - three times as fast as Path, for a million clips
        if folder not in self._names:
            try:
                names = [path.name for path in Path(folder or ".").iterdir()]
            except (OSError, ValueError):  # ValueError: a NUL in the path
                names = []  # the audio is reported as missing when it is decoded
            self._names[folder] = frozenset(name for name in names if name.endswith((".txt", ".phones")))
        if not self._names[folder]:
            return None
        beside = Path(audio).stem + suffix
        return _sidecar(Path(folder, beside)) if beside in self._names[folder] else None


def _sidecar(path: Path) -> str | None:
    if not path.is_file():
        return None
    if path.stat().st_size > _SIDECAR_BYTES:
        raise UsageError(f"{path}: a sidecar of over 1 MiB; is it really the text of one clip?")
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from enumerate(file, 1)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def json_lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each object of a JSON lines file, with its place for messages."""
    for number, line in _lines(path):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{where}: not JSON ({error})") from error
        if not isinstance(record, dict):
            raise UsageError(f"{where}: a JSON object per line is wanted, with at least a 'path'")
        yield where, record


def table_rows(path: Path, delimiter: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the rows of a CSV or TSV manifest without their empty fields."""
    try:
        for number, row in separated_rows(path, delimiter):
            if "path" not in row:
                raise UsageError(f"{path}: the first line must name the columns, 'path' among them; it has {list(row)}")
            yield f"{path}, line {number}", {name: value for name, value in row.items() if value}
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def from_records(records: Iterable[tuple[str, Mapping[str, Any]]], base: Path) -> list[Source]:
    """Return the clips that the records of a manifest name, with paths relative to a folder."""
    sources, sidecars = [], _Sidecars()
    folder = str(base)
    speakers: dict[str | None, str | None] = {}  # one string a speaker, not one a clip
    for where, record in records:
        path = record.get("path")
        if not isinstance(path, str) or not path:
            raise UsageError(
                f"{where}: no 'path'.{did_you_mean('path', map(str, record)) or ' It names the audio file.'}"
            )
        _check_fields(record, where)
        reference = record.get("reference")
        key, phones = record.get("key"), record.get("phones")
        audio, stem = _located(folder, path)
        speaker = _text(record.get("speaker"))
        text = _text(record.get("text"))
        text = sidecars.read(audio, ".txt") if text is None else text
        phones = sidecars.read(audio, ".phones") if phones is None else phones
        sources.append(
            Source(
                key=stem if key is None or key == "" else str(key),
                path=audio,
                text=text,
                speaker=speakers.setdefault(speaker, speaker),
                language=_text(record.get("language")),
                phones=tuple(phones.split() if isinstance(phones, str) else phones) if phones else None,
                reference=_located(folder, str(reference))[0] if reference else None,
                reference_text=_text(record.get("reference_text")),
                prompt_seconds=_seconds(record.get("prompt_seconds"), where),
            )
        )
    return sources


def _located(folder: str, path: str) -> tuple[str, str]:
    """Return where a path of a manifest lies, and the path without its suffix, both as pathlib writes them."""
    if "//" in path or "./" in path or path.endswith((".", "/")) or os.sep != "/":
        return str(Path(folder, path)), Path(path).with_suffix("").as_posix()
    # a million calls of Path take 5 s
    return os.path.join(folder, path) if folder != "." else path, os.path.splitext(path)[0]  # noqa: PTH118, PTH122


def _check_fields(record: Mapping[str, Any], where: str) -> None:
    """Refuse fields of a wrong type, and names that are misspelt: such a column would be left out in silence."""
    if record.keys() <= _FIELD_NAMES and all(type(value) is str for value in record.values()):
        return
    for name, value in record.items():
        if name in _FIELDS:
            phones = name == "phones" and (isinstance(value, str) or _is_text_list(value))
            other = name != "phones" and isinstance(value, str | int | float) and not isinstance(value, bool)
            if value is not None and not phones and not other:
                raise UsageError(f"{where}: {name!r} must be text, not {str(value)[:40]}")
            continue
        meant = _ALIASES.get(name.lower()) or next((field for field in _FIELDS if field == name.strip().lower()), "")
        hint = f" Did you mean {meant!r}?" if meant else did_you_mean(name, _FIELDS)
        if hint and not any(field in record for field in _FIELDS if f"{field!r}" in hint):
            raise UsageError(f"{where}: the column {name!r} is not read.{hint}")


def _is_text_list(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _seconds(value: object, where: str) -> float | None:
    """Return a length in seconds; None where there is none."""
    text = _text(value)
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise UsageError(f"{where}: 'prompt_seconds' must be seconds, 0 or more, not {text[:40]!r}")
    return seconds


def _text(value: object) -> str | None:
    missing = value is None or (isinstance(value, float) and math.isnan(value))  # pandas writes NaN for a missing text
    return None if missing else str(value)


def from_scp(path: Path) -> Iterator[Source]:
    """Read Kaldi's `wav.scp`, with `text` and `utt2spk` next to it where they exist."""
    if (segments := path.with_name("segments")).is_file():
        raise UsageError(
            f"{segments}: utterances within recordings are not read; cut them into files, or move `segments` away to "
            "score whole recordings"
        )
    beside = {name: _table(path.with_name(name)) for name in ("text", "utt2spk")}
    sidecars = _Sidecars()
    for number, line in _lines(path):
        if not line.strip():
            continue
        key, rest = _split(line)
        if problem := _scp_problem(rest):
            raise UsageError(f"{path}, line {number}: {key!r} has {problem}")
        audio = str(path.parent / rest)
        text, phones = beside["text"].get(key), sidecars.read(audio, ".phones")
        yield Source(
            key=key,
            path=audio,
            text=sidecars.read(audio, ".txt") if text is None else text,
            speaker=beside["utt2spk"].get(key),
            phones=tuple(phones.split()) if phones is not None else None,
        )


def _table(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    return dict(_split(line) for _, line in _lines(path) if line.strip())


def _split(line: str) -> tuple[str, str]:
    """Split a line of a Kaldi file at its first white space, tabs included."""
    key, *rest = line.split(None, 1)
    return key, rest[0].strip() if rest else ""


def _scp_problem(rest: str) -> str:
    """Return why an entry of a `wav.scp` is no plain file, or ""."""
    if not rest:
        return "no path"
    if rest.endswith("|"):
        return "a command, and commands from a file are not run; write plain files"
    if re.search(r"\.ark(:\d+)?$", rest):
        return "an offset into an archive, and archives are not read; write plain files"
    if rest.startswith(("~", "file://")):
        return f"{rest.partition('/')[0]!r}, which is not expanded; write the path in full"
    return ""
