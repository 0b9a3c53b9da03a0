"""The store: one SQLite file of content digests, rows, runs and estimates; crash-safe, for several writers."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from cdslm_eval.core.errors import StoreError, UsageError

__all__ = ["FileFacts", "Outcome", "Store", "default_store_path"]

SCHEMA = 3
_APPLICATION_ID = 0x4344534C  # "CDSL"
_FILES = """CREATE TABLE IF NOT EXISTS files (
  path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
  inode INTEGER NOT NULL, digest TEXT NOT NULL, seconds REAL NOT NULL, rate_hz INTEGER NOT NULL,
  channels INTEGER NOT NULL, encoding TEXT NOT NULL, mixdown TEXT NOT NULL, peak REAL, dc_offset REAL,
  level_dbfs REAL, cancelled REAL, truncated TEXT NOT NULL) WITHOUT ROWID"""
_TABLES = f"""
{_FILES};
CREATE TABLE IF NOT EXISTS identities (id TEXT PRIMARY KEY, parts TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rows (
  identity TEXT NOT NULL, subject TEXT NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL, data TEXT,
  PRIMARY KEY (identity, subject)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (id INTEGER PRIMARY KEY, finished TEXT NOT NULL, settings TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS estimates (
  run INTEGER NOT NULL REFERENCES runs(id), system TEXT NOT NULL, name TEXT NOT NULL, data TEXT NOT NULL);
"""
# added without a new schema: an older program leaves it alone
_NOTES = "CREATE TABLE IF NOT EXISTS notes (key TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID"
# Schema 1 kept what rested on a recognizer or transcriber that failed to open: "skipped: no phones", or "ok" without
# phones where they are optional. Such rows cannot be told from those of clips that have none; both are measured again.
_DROP_RESTING_ON_A_FAILED_FEATURE = """
DELETE FROM rows WHERE status = 'skipped' AND (reason LIKE 'no %phones%' OR reason LIKE 'no %transcript%');
DELETE FROM rows WHERE status = 'ok' AND (data LIKE '%"phones": null%' OR data LIKE '%"transcript": null%');
DELETE FROM notes WHERE key LIKE 'score result:%' OR key LIKE 'difference:%';
"""
_ABSORB = {
    "files": "INSERT OR IGNORE INTO files SELECT * FROM theirs.files",
    "identities": "INSERT OR IGNORE INTO identities SELECT * FROM theirs.identities",
    # a row that was measured wins over one that failed, whichever store it comes from
    "rows": "INSERT INTO rows SELECT * FROM theirs.rows WHERE true ON CONFLICT (identity, subject) DO UPDATE SET "
    "status = excluded.status, reason = excluded.reason, data = excluded.data "
    "WHERE rows.status = 'failed' AND excluded.status != 'failed'",
}

Status = Literal["ok", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one clip under one metric.

    Attributes:
        status: "ok", "skipped" (outside the metric's domain) or "failed" (should have been measured, but was not).
        reason: Why it is not "ok"; "" otherwise.
        row: The measured columns; empty unless "ok".
    """

    status: Status
    reason: str
    row: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What was found when a file was decoded; vouches for its digest as long as the file's stamp stays.

    Attributes:
        size, mtime_ns, ctime_ns, inode: The stamp. Size and time of modification alone can be those of another file: an
            archive restores both.
        digest: SHA-256 of the decoded content.
        seconds, rate_hz, channels, encoding, mixdown: As of `Decoded`.
        peak, dc_offset, level_dbfs, cancelled: As of `Levels`; None where a sample is not finite.
        truncated: How the file ends before its header says, or "".
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    digest: str
    seconds: float
    rate_hz: int
    channels: int
    encoding: str
    mixdown: str
    peak: float | None = None
    dc_offset: float | None = None
    level_dbfs: float | None = None
    cancelled: float | None = None
    truncated: str = ""


def default_store_path() -> Path:
    """Return the per-user store: `$CDSLM_EVAL_STORE`, or `cdslm-eval/store.cdslm` under the user's cache folder."""
    if given := os.environ.get("CDSLM_EVAL_STORE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cdslm-eval" / "store.cdslm"


class Store:
    """An open store; use as a context manager.

    Args:
        path: The file; it and its folder are made when absent.
        read_only: Open an existing store without the right to write.

    Raises:
        UsageError: The file is not a store, is of a newer schema, or may not be written.
        StoreError: The disk is full or the file cannot be opened.
    """

    def __init__(self, path: Path | str, *, read_only: bool = False) -> None:
        self.path = Path(path)
        if read_only and not self.path.is_file():
            raise UsageError(f"{self.path}: there is no such store; `cdslm-eval score` makes one")
        with self._told():
            if not read_only:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            mode = "ro" if read_only else "rwc"
            self._db = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode={mode}", uri=True, timeout=60.0, isolation_level=None
            )
        try:
            with self._told():
                self._check(read_only=read_only)
        except Exception:
            self._db.close()
            raise

    def _check(self, *, read_only: bool) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        owner = self._db.execute("PRAGMA application_id").fetchone()[0]
        tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and owner != _APPLICATION_ID:
            raise UsageError(f"{self.path}: a database, but not a store of cdslm-eval; name another --store")
        if version > SCHEMA:
            raise UsageError(
                f"{self.path}: written by a newer cdslm-eval (schema {version}, this one knows {SCHEMA}); "
                "upgrade it or name another --store"
            )
        if read_only:
            return
        if os.path.exists(self.path) and not os.access(self.path, os.W_OK):  # noqa: PTH110 - one line with os.access
            raise UsageError(f"{self.path}: the store may not be written; name another --store")
        self._db.execute("PRAGMA journal_mode = WAL")
        # a killed process loses nothing that was committed; only a power cut may lose the last commits
        self._db.execute("PRAGMA synchronous = NORMAL")
        if not tables:
            self._db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version = {SCHEMA}")
            self._db.executescript(_TABLES)
        self._db.execute(_NOTES)
        if tables and version < SCHEMA:
            self._upgrade()

    def _upgrade(self) -> None:
        """Bring a store of an earlier schema up to date, once, whichever of several writers comes first."""
        with self.writing():
            if self._db.execute("PRAGMA user_version").fetchone()[0] < SCHEMA:
                if self._db.execute("PRAGMA user_version").fetchone()[0] < 2:
                    for statement in _DROP_RESTING_ON_A_FAILED_FEATURE.split(";"):
                        self._db.execute(statement)
                # schema 2 knew a file by size and time of modification alone, and nothing of its levels: the files are
                # read once more, the rows stay
                self._db.execute("DROP TABLE files")
                self._db.execute(_FILES)
                self._db.execute(f"PRAGMA user_version = {SCHEMA}")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what SQLite and the file system say into one sentence."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            text = str(error)
            if "readonly" in text or "unable to open" in text:
                raise UsageError(
                    f"{self.path}: the store may not be written here ({text}); name another --store"
                ) from error
            if "not a database" in text:
                raise UsageError(f"{self.path}: not a store of cdslm-eval; name another --store") from error
            if "full" in text:
                raise StoreError(f"{self.path}: the disk is full; make room and run the same command again") from error
            raise StoreError(f"{self.path}: {text}") from error
        except OSError as error:
            raise UsageError(
                f"{self.path}: the store cannot be opened: {error.strerror}; name another --store"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Group writes into one transaction."""
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def files(self, paths: Sequence[str]) -> dict[str, FileFacts]:
        """Return the facts of those of `paths` that are known.

        The index holds absolute paths: folders that share a store have equal relative paths for other files.
        """
        absolute = {path: os.path.abspath(path) for path in paths}  # noqa: PTH100 - fast for a million paths
        known: dict[str, FileFacts] = {}
        with self._told():
            for chunk in _chunks(sorted(set(absolute.values())), 500):
                marks = ",".join("?" * len(chunk))
                for path, *facts in self._db.execute(f"SELECT * FROM files WHERE path IN ({marks})", chunk):  # noqa: S608 - only marks
                    known[path] = FileFacts(*facts)
        return {path: known[full] for path, full in absolute.items() if full in known}

    def put_file(self, path: str, facts: FileFacts) -> None:
        """Keep the facts of a file under its absolute path."""
        values = [getattr(facts, name) for name in FileFacts.__slots__]
        full = os.path.abspath(path)  # noqa: PTH100 - as in `files`
        self._db.execute("INSERT OR REPLACE INTO files VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", [full, *values])

    def put_identity(self, ident: str, parts: Mapping[str, Any]) -> None:
        """Remember what an identity stands for."""
        with self._told():
            text = json.dumps(parts, sort_keys=True)
            self._db.execute("INSERT OR IGNORE INTO identities VALUES (?, ?)", [ident, text])

    def put_row(self, identity: str, subject: str, outcome: Outcome) -> None:
        """Keep one row, in place of an earlier one of the same identity and subject."""
        data = json.dumps(outcome.row, default=_pack, allow_nan=False) if outcome.status == "ok" else None
        self._db.execute(
            "INSERT OR REPLACE INTO rows VALUES (?,?,?,?,?)", [identity, subject, outcome.status, outcome.reason, data]
        )

    def statuses(self, identity: str, subjects: Iterable[str]) -> dict[str, Status]:
        """Return the status of those of `subjects` that have a row under `identity`."""
        found: dict[str, Status] = {}
        with self._told():
            for some in _chunks(list(subjects), 500):
                marks = ",".join("?" * len(some))
                query = f"SELECT subject, status FROM rows WHERE identity = ? AND subject IN ({marks})"  # noqa: S608 - only marks
                found.update(self._db.execute(query, [identity, *some]).fetchall())
        return found

    def outcomes(self, identity: str, subjects: Iterable[str]) -> Iterator[Outcome | None]:
        """Yield the outcome of each subject, in order and one at a time; None where there is no row."""
        query = "SELECT status, reason, data FROM rows WHERE identity = ? AND subject = ?"
        with self._told():
            for subject in subjects:
                found = self._db.execute(query, [identity, subject]).fetchone()
                if found is None:
                    yield None
                else:
                    row = json.loads(found[2], object_hook=_unpack) if found[2] else {}
                    yield Outcome(found[0], found[1], row)

    def sizes(self) -> set[int]:
        """Return the sizes in bytes of all files that were ever decoded."""
        with self._told():
            return {size for (size,) in self._db.execute("SELECT DISTINCT size FROM files")}

    def remember(self, key: str, data: str) -> None:
        """Keep a text under a key that says what it was made from."""
        with self.writing():
            self._db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", [key, data])

    def recall(self, key: str) -> str | None:
        """Return the text kept under a key, or None."""
        with self._told():
            found = self._db.execute("SELECT data FROM notes WHERE key = ?", [key]).fetchone()
        return None if found is None else str(found[0])

    def keys(self, prefix: str) -> list[str]:
        """Return the keys of kept texts that start with `prefix`."""
        with self._told():
            query = "SELECT key FROM notes WHERE substr(key, 1, ?) = ? ORDER BY key"
            return [key for (key,) in self._db.execute(query, [len(prefix), prefix])]

    def identity(self, ident: str) -> dict[str, Any] | None:
        """Return what an identity stands for, or None where it is not known."""
        with self._told():
            found = self._db.execute("SELECT parts FROM identities WHERE id = ?", [ident]).fetchone()
        return None if found is None else json.loads(found[0])

    def copy_rows(self, source: Store, identity: str, subjects: Iterable[str]) -> None:
        """Copy rows of one identity from another store; call it inside `writing`."""
        for some in _chunks(list(subjects), 500):
            marks = ",".join("?" * len(some))
            query = f"SELECT * FROM rows WHERE identity = ? AND subject IN ({marks})"  # noqa: S608 - only marks
            with source._told():
                found = source._db.execute(query, [identity, *some]).fetchall()
            self._db.executemany("INSERT OR REPLACE INTO rows VALUES (?,?,?,?,?)", found)

    def absorb(self, other: Path) -> dict[str, int]:
        """Take over the digests, identities, rows and notes of another store; return how many rows each table gained.

        Raises:
            UsageError: The other file is not a store, or of a newer schema.
        """
        with Store(other) as source, source._told():  # brings an older one up to date, and refuses what is not a store
            source._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        gained = {}
        with self._told():
            self._db.execute("ATTACH ? AS theirs", [f"{other.absolute().as_uri()}?mode=ro"])
            try:
                with self.writing():
                    for table, query in _ABSORB.items():
                        gained[table] = self._db.execute(query).rowcount
                    self._db.execute("INSERT OR IGNORE INTO notes SELECT * FROM theirs.notes")
            finally:
                self._db.execute("DETACH theirs")
        return gained

    def seal(self) -> None:
        """Make the file stand alone, without a write-ahead log beside it, so that it can be copied."""
        with self._told():
            self._db.execute("PRAGMA journal_mode = DELETE")

    def put_run(self, settings: Mapping[str, Any], estimates: Iterable[Mapping[str, Any]]) -> int:
        """Keep a finished run: its settings and its estimates; return its number."""
        with self.writing():
            finished = datetime.now(UTC).isoformat(timespec="seconds")
            cursor = self._db.execute(
                "INSERT INTO runs (finished, settings) VALUES (?, ?)", [finished, json.dumps(settings)]
            )
            run = int(cursor.lastrowid or 0)
            self._db.executemany(
                "INSERT INTO estimates VALUES (?,?,?,?)",
                ([run, one["system"], one["name"], json.dumps(one)] for one in estimates),
            )
        return run

    def runs(self) -> list[dict[str, Any]]:
        """Return the finished runs, oldest first: id, finished (UTC), settings."""
        with self._told():
            found = self._db.execute("SELECT id, finished, settings FROM runs ORDER BY id").fetchall()
        return [{"id": ident, "finished": when, "settings": json.loads(text)} for ident, when, text in found]

    def estimates(self, run: int) -> list[dict[str, Any]]:
        """Return the estimates of a run, as `score --json` gave them."""
        with self._told():
            found = self._db.execute("SELECT data FROM estimates WHERE run = ? ORDER BY rowid", [run]).fetchall()
        return [json.loads(text) for (text,) in found]


def _chunks(items: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def _pack(value: object) -> Any:
    if isinstance(value, np.ndarray):
        data = np.ascontiguousarray(value, dtype="<f4")
        return {"float32": base64.b64encode(data.tobytes()).decode(), "shape": data.shape}
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a row cannot hold a {type(value).__name__}")


def _unpack(value: dict[str, Any]) -> Any:
    if value.keys() == {"float32", "shape"}:
        return np.frombuffer(base64.b64decode(value["float32"]), "<f4").reshape(value["shape"])
    return value
