"""The rows of a store as partitioned Parquet, for DuckDB, Polars, pandas and Spark; needs pyarrow."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.store import FileFacts, Outcome, Store

__all__ = ["export_rows"]

_BATCH = 5000


def export_rows(store: Store, folder: Path) -> dict[str, int]:
    """Write every row of a store below a new folder, `rows/metric=NAME/identity=ID/rows.parquet`, and `files.parquet`.

    Columns of rows are `subject` (digest of the content), `status`, `reason`, and one per column that was measured:
    numbers, texts, lists of texts, lists of float32 for vectors, and JSON text for whatever else. `files.parquet` has
    the path of each digest. Rows are streamed: memory does not grow with the store.

    Returns:
        Rows written by metric, "damaged rows left out" where there are some, and "files".

    Raises:
        UsageError: The folder holds something, or pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError(f"{folder}: parquet needs pip install pyarrow") from error
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        # rows of another store left in a partition would be read as rows of this one
        raise UsageError(f"{folder}: holds something already; name a new folder")
    written: dict[str, int] = {}
    for (identity,) in store.query("SELECT DISTINCT identity FROM rows ORDER BY identity"):
        parts = store.identity(identity) or {}
        metric = str(parts.get("name") or "unknown")
        columns = _columns(store, identity)
        schema = pa.schema([(name, _types(pa)[kind]) for name, kind in columns.items()])
        # names come from plugins: nothing of them may lead out of the folder
        target = folder / "rows" / f"metric={_safe(metric)}" / f"identity={_safe(identity)}" / "rows.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(target, schema, compression="zstd") as writer:
            for batch in _batches(_rows(store, identity)):
                records = [_record(subject, outcome, columns) for subject, outcome in batch]
                writer.write_table(pa.Table.from_pylist(records, schema))
                written[metric] = written.get(metric, 0) + len(records)
    ((total,),) = store.query("SELECT count(*) FROM rows")
    if damaged := total - sum(written.values()):
        written["damaged rows left out"] = damaged
    written["files"] = _write_files(store, folder, pa, pq)
    return written


def _rows(store: Store, identity: str) -> Iterator[tuple[str, Outcome]]:
    """Yield subject and outcome of the sound rows of an identity, by subject."""
    last = ""
    while True:
        # in pages by key: a cursor held open would keep the write-ahead log from being emptied
        query = "SELECT subject FROM rows WHERE identity = ? AND subject > ? ORDER BY subject LIMIT ?"
        subjects = [subject for (subject,) in store.query(query, [identity, last, _BATCH])]
        if not subjects:
            return
        for subject, outcome in zip(subjects, store.outcomes(identity, subjects), strict=True):
            if outcome is not None:
                yield subject, outcome
        last = subjects[-1]


def _batches(rows: Iterator[tuple[str, Outcome]]) -> Iterator[list[tuple[str, Outcome]]]:
    batch: list[tuple[str, Outcome]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    # also where there is none: an identity without sound rows is an empty table, not an absent one
    yield batch


def _columns(store: Store, identity: str) -> dict[str, str]:
    """Return the kind of every column of an identity, from all of its rows."""
    kinds: dict[str, set[str]] = {}
    for _, outcome in _rows(store, identity):
        for name, value in outcome.row.items():
            kinds.setdefault(name, set()).add(_kind(value))
    columns = {"subject": "text", "status": "text", "reason": "text"}
    for name, found in kinds.items():
        known = found - {"none"}
        own = name if name not in columns else f"{name}_measured"
        columns[own] = _joined(known)
    return columns


def _kind(value: object) -> str:
    simple: Mapping[type, str] = {bool: "flag", int: "count", float: "number", str: "text", type(None): "none"}
    if type(value) in simple:
        kind = simple[type(value)]
        return "number" if kind == "count" and not -(2**63) <= value < 2**63 else kind  # type: ignore[operator]
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return "vector"
    return "texts" if isinstance(value, list) and all(isinstance(part, str) for part in value) else "json"


def _joined(kinds: set[str]) -> str:
    """Return the one kind that holds values of all of these."""
    if len(kinds) == 1:
        return next(iter(kinds))
    return "number" if kinds == {"count", "number"} else "json"


def _types(pa: Any) -> dict[str, Any]:
    return {
        "flag": pa.bool_(),
        "count": pa.int64(),
        "number": pa.float64(),
        "text": pa.string(),
        "vector": pa.list_(pa.float32()),
        "texts": pa.list_(pa.string()),
        "json": pa.string(),
    }


def _record(subject: str, outcome: Outcome, columns: Mapping[str, str]) -> dict[str, Any]:
    record: dict[str, Any] = {"subject": subject, "status": outcome.status, "reason": outcome.reason}
    for name, value in outcome.row.items():
        own = name if name not in record else f"{name}_measured"
        record[own] = _ENCODERS.get(columns[own], _same)(value)
    return record


def _same(value: Any) -> Any:
    return value


def _as_json(value: Any) -> str:
    return json.dumps(value, default=lambda part: part.tolist(), ensure_ascii=True)


_ENCODERS: Mapping[str, Callable[[Any], Any]] = {
    "number": lambda value: None if value is None else float(value),
    "vector": lambda value: None if value is None else value.tolist(),
    "json": lambda value: None if value is None else _as_json(value),
}


def _write_files(store: Store, folder: Path, pa: Any, pq: Any) -> int:
    names = ("path", "part", *FileFacts.__slots__)
    integers = {"size", "mtime_ns", "ctime_ns", "inode", "rate_hz", "channels"}
    numbers = {"seconds", "peak", "dc_offset", "level_dbfs", "cancelled"}
    kinds = {name: "count" if name in integers else "number" if name in numbers else "text" for name in names}
    schema = pa.schema([(name, _types(pa)[kind]) for name, kind in kinds.items()])
    folder.mkdir(parents=True, exist_ok=True)
    # bytes sort after texts in SQLite, so that names which are no UTF-8 come in the last pages
    total, last = 0, ["", "", ""]
    with pq.ParquetWriter(folder / "files.parquet", schema, compression="zstd") as writer:
        while page := store.query(
            f"SELECT {', '.join(names)} FROM files WHERE (path, part, host) > (?, ?, ?) "  # noqa: S608 - only columns
            "ORDER BY path, part, host LIMIT ?",
            [*last, _BATCH],
        ):
            records = [dict(zip(names, values, strict=True)) for values in page]
            last = [records[-1][name] for name in ("path", "part", "host")]
            for record in records:
                if isinstance(record["path"], bytes):
                    # readable, and no text column takes it as it is
                    record["path"] = record["path"].decode("utf-8", "backslashreplace")
            writer.write_table(pa.Table.from_pylist(records, schema))
            total += len(records)
    return total


def _safe(name: str) -> str:
    """Return a name as a folder's: other characters than those of identifiers become their code."""
    return re.sub(r"[^A-Za-z0-9_.-]", lambda match: f"%{ord(match[0]):02X}", name)
