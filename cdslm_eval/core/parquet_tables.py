"""Parquet tables with audio in them, as Hugging Face `datasets` writes them; needs pyarrow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.languages import language_tag
from cdslm_eval.core.manifest_fields import text_of
from cdslm_eval.core.packed import ParquetCell
from cdslm_eval.core.remote.paths import AnyPath, ObjectPath
from cdslm_eval.core.sources import Source
from cdslm_eval.core.storage import storage_of

__all__ = ["from_parquet"]

_FIELDS = ("key", "text", "speaker", "language", "reference_text")


def from_parquet(path: AnyPath, ignored: Sequence[str] = ()) -> Iterator[Source]:
    """Yield the rows of a table with one audio column, a struct of `bytes` and `path`; audio is not read here.

    Keys are the column `key`, else the paths in the struct, where these differ, else the rows' numbers.

    Args:
        path: The file.
        ignored: Patterns of columns that are passed over; any other column that is not read is an error.

    Raises:
        UsageError: It is no Parquet file, has no audio column or several, or a column that is not read.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError(f"{path}: parquet needs pip install pyarrow") from error
    try:
        version = storage_of(str(path)).version(str(path))
        with path.open("rb") as opened, pq.ParquetFile(opened if isinstance(path, ObjectPath) else path) as file:
            column = _audio_column(file.schema_arrow, pa, path, ignored)
            present = [name for name in _FIELDS if name in file.schema_arrow.names]
            located: list[tuple[ParquetCell, str | None, Mapping[str, Any]]] = []
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=[f"{column}.path", *present])
                structs = table[column].to_pylist()
                for row, (struct, record) in enumerate(zip(structs, table.select(present).to_pylist(), strict=True)):
                    located.append((ParquetCell(group, row, column, version), (struct or {}).get("path"), record))
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{path}: not readable as Parquet ({error}); is it cut?") from error
    names = [name for _, name, _ in located]
    telling = None not in names and len(set(names)) == len(names)
    for number, (cell, name, record) in enumerate(located):
        try:
            fields = {field: text_of(field, record.get(field)) for field in _FIELDS}
            if fields["language"]:
                fields["language"] = language_tag(fields["language"])
        except ValueError as error:
            raise UsageError(f"{path}, row {number}: {error}") from error
        stem = str(Path(name).with_suffix("")) if telling and name else f"{number:07d}"
        yield Source(
            key=fields["key"] or stem,
            path=str(path),
            text=fields["text"],
            speaker=fields["speaker"],
            language=fields["language"],
            reference_text=fields["reference_text"],
            packed=cell,
        )


def _audio_column(schema: Any, pa: Any, path: AnyPath, ignored: Sequence[str]) -> str:
    """Return the name of the one column with audio, having refused columns that are not read."""
    audio = [
        field.name
        for field in schema
        if pa.types.is_struct(field.type) and {"bytes", "path"} <= {part.name for part in field.type}
    ]
    if len(audio) != 1 or not audio[0].isidentifier():
        named = ", ".join(audio) or "none"
        raise UsageError(f"{path}: one column of audio is wanted, a struct of bytes and path; the table has {named}")
    unread = [
        name
        for name in schema.names
        if name not in (*_FIELDS, audio[0]) and not any(fnmatchcase(name, pattern) for pattern in ignored)
    ]
    if unread:
        raise UsageError(f"{path}: columns not read: {', '.join(unread)}; --ignore-columns {','.join(unread)}")
    return str(audio[0])
