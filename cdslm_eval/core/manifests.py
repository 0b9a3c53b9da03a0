"""Reads what names clips: directories, JSONL, CSV and TSV manifests; strictly, with line numbers."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.folders import audio_files
from cdslm_eval.core.foreign_manifests import FOREIGN, ForeignManifest
from cdslm_eval.core.json_text import parse_json
from cdslm_eval.core.languages import language_tag
from cdslm_eval.core.manifest_fields import check_names, phones_of, prompt_seconds_of, span_of, text_of
from cdslm_eval.core.packed_sources import PackedSources
from cdslm_eval.core.remote.addresses import has_scheme, is_remote, joined
from cdslm_eval.core.remote.paths import AnyPath
from cdslm_eval.core.separated import separated_rows
from cdslm_eval.core.sidecars import Sidecars, sidecar_text, text_lines
from cdslm_eval.core.sources import Source
from cdslm_eval.core.spans import Span

__all__ = ["from_directory", "from_records", "json_lines", "table_rows"]


def from_directory(folder: Path) -> Iterator[Source]:
    """Yield the audio files of a folder and below it, in order of their paths."""
    files = audio_files(folder)
    stems = Counter(str(PurePosixPath(file.name).with_suffix("")) for file in files)
    for file in files:
        stem = str(PurePosixPath(file.name).with_suffix(""))
        phones = sidecar_text(file.phones) if file.phones else None
        yield Source(
            key=stem if stems[stem] == 1 else file.name,
            path=str(file.path),
            text=sidecar_text(file.text) if file.text else None,
            phones=tuple(phones.split()) if phones is not None else None,
        )


def json_lines(path: AnyPath) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield each object of a JSON lines file, with its line."""
    for number, line in text_lines(path):
        if line.isspace():
            continue
        record = parse_json(line, (path, number))
        if type(record) is not dict:
            raise UsageError(f"{path}, line {number}: a JSON object per line is wanted, with at least a 'path'")
        yield number, record


def table_rows(path: AnyPath, delimiter: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the rows of a CSV or TSV manifest, with their lines."""
    try:
        yield from separated_rows(path, delimiter)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def from_records(
    records: Iterable[tuple[int, Mapping[str, Any]]], manifest: AnyPath, ignored: Sequence[str] = ()
) -> PackedSources:
    """Return the clips that the records of a manifest name, with paths relative to its folder.

    Args:
        records: Each with its line.
        manifest: The file they come from.
        ignored: Patterns of columns that are passed over.

    Raises:
        UsageError: A record names no file, has a column that is not read, or a value of a wrong type; with its line.
    """
    rows = _Rows(str(manifest.parent))
    checked: set[tuple[str, ...]] = set()

    def read() -> Iterator[Source]:
        """Yield the clips of the records, each in its manifest's own columns."""
        kinds: dict[tuple[str, ...], ForeignManifest | None] = {}
        for number, row in records:
            if (names := tuple(row)) not in kinds:
                kinds[names] = next((foreign for foreign in FOREIGN if foreign.reads(row)), None)
            kind = kinds[names]
            try:
                record = row if kind is None else kind.translated(row)
                if (names := tuple(record)) not in checked:
                    check_names(names, ignored, f"{manifest}, line {number}")
                    checked.add(names)
                yield rows.source(record)
            except ValueError as error:
                raise UsageError(f"{manifest}, line {number}: {error}") from error

    return PackedSources(read())


class _Rows:
    """Turns the rows of one manifest into sources."""

    def __init__(self, folder: str) -> None:
        self._prefix = "" if folder == "." else f"{folder.rstrip('/')}/"
        self._folder, self._is_remote = folder, is_remote(folder)
        self._sidecars = Sidecars()
        # one string a speaker and language, not one a clip
        self._shared: dict[str, dict[str | None, str | None]] = {"speaker": {None: None}, "language": {None: None}}

    def source(self, record: Mapping[str, Any]) -> Source:
        """Return the clip of a row.

        Raises:
            ValueError: A value is of a wrong type, or no file is named.
        """
        get = record.get
        path, key, text, phones = get("path"), get("key"), get("text"), get("phones")
        if type(path) is not str or not path:
            raise ValueError("no 'path'. It names the audio file.")
        audio = self._located(path)
        span = span_of(record) if get("offset") or get("duration") or get("offset") == 0 else None
        if type(text) is not str or not text:
            text = text_of("text", text)
        phones = phones_of(phones)
        if span is None and (text is None or phones is None) and self._sidecars.beside(audio):
            # those of a recording are not those of its parts
            text = self._sidecars.read(audio, ".txt") if text is None else text
            phones = phones_of(self._sidecars.read(audio, ".phones")) if phones is None else phones
        if type(key) is not str or not key:
            key = text_of("key", key) or _default_key(path, span)
        reference = text_of("reference", get("reference"))
        return Source(
            key=key if key.isascii() else unicodedata.normalize("NFC", key),
            path=audio,
            span=span,
            text=text,
            speaker=self._label("speaker", get("speaker")),
            language=self._label("language", get("language")),
            phones=phones,
            reference=None if reference is None else self._located(reference),
            reference_text=text_of("reference_text", get("reference_text")),
            prompt_seconds=prompt_seconds_of(get("prompt_seconds")),
        )

    def _label(self, name: str, value: object) -> str | None:
        """Return a speaker or a language, composed, so that one name is one label."""
        try:
            return self._shared[name][value]  # type: ignore[index] # whatever the manifest holds; most is known text
        except (KeyError, TypeError):
            text = text_of(name, value)
            text = text if text is None or text.isascii() else unicodedata.normalize("NFC", text)
            if name == "language" and text is not None:
                text = language_tag(text)
            return self._shared[name].setdefault(value if isinstance(value, str) else text, text)

    def _located(self, path: str) -> str:
        """Return where a path of the manifest lies, as pathlib writes it; an object where it or the manifest is one."""
        if self._is_remote or has_scheme(path):
            return joined(self._folder, path)
        if "//" in path or "./" in path or path.endswith((".", "/")) or os.sep != "/":
            path = str(Path(self._folder, path))
        elif not path.startswith("/"):
            # a million calls of Path take 5 s
            path = self._prefix + path
        return path if path.isascii() else _as_on_disk(path)


def _as_on_disk(path: str) -> str:
    """Return the form, composed or decomposed, in which a name is on the disk: archives of macOS hold the latter."""
    forms = dict.fromkeys((path, *(unicodedata.normalize(form, path) for form in ("NFC", "NFD"))))
    try:
        return next((form for form in forms if os.path.lexists(form)), path)
    except ValueError:  # a NUL or a lone surrogate: no file has such a name
        return path


def _default_key(path: str, span: Span | None) -> str:
    """Return the key of a clip that names none: its path without suffix, and where in the recording it is."""
    if ("//" in path or "./" in path or path.endswith((".", "/")) or os.sep != "/") and not has_scheme(path):
        stem = Path(path).with_suffix("").as_posix()
    else:
        stem = os.path.splitext(path)[0]  # noqa: PTH122 - as in `_located`
    return stem if span is None else f"{stem}{span}"
