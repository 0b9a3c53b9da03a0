"""The store: one SQLite file of content digests, rows, runs and estimates; crash-safe, for several writers."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from cdslm_eval.core.errors import StoreError, UsageError
from cdslm_eval.core.packing import pack, unpack
from cdslm_eval.core.provenance import host_id
from cdslm_eval.core.remote.addresses import is_remote
from cdslm_eval.core.spans import Address
from cdslm_eval.core.storage import Stamp
from cdslm_eval.core.store_schema import APPLICATION_ID, SCHEMA, SOUND_ROW, create, sound_columns, upgrade

__all__ = ["FileFacts", "Outcome", "Store", "default_store_path"]

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
    """What was found when a file, or a part of it, was decoded; vouches for its digest while the file's stamp stays.

    Attributes:
        host: Identity of the machine that decoded it: on another one, an equal stamp may be that of another file. Of an
            object its scheme, as its version is the same from everywhere.
        size, mtime_ns, ctime_ns, inode: The stamp. Size and time of modification alone can be those of another file: an
            archive restores both.
        digest: SHA-256 of the decoded content.
        seconds, rate_hz, channels, encoding, mixdown: As of `Decoded`.
        peak, dc_offset, level_dbfs, cancelled: As of `Levels`; None where a sample is not finite.
        truncated: How the file ends before its header says, or "".
    """

    host: str
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

    @property
    def stamp(self) -> Stamp:
        """The stamp of the file when it was decoded."""
        return Stamp(self.host, self.size, self.mtime_ns, self.ctime_ns, self.inode)


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
        if tables and owner != APPLICATION_ID:
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
        create(self._db, new=not tables)
        if tables and version < SCHEMA:
            with self.writing():
                upgrade(self._db)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn errors of SQLite and the file system into one sentence."""
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
                raise StoreError(f"{self.path}: the disk is full; free some space and repeat the command") from error
            if "malformed" in text or "disk I/O" in text or "corrupt" in text:
                raise self._damaged(text) from error
            raise StoreError(f"{self.path}: {text}") from error
        except UnicodeDecodeError as error:  # text of the database that is not UTF-8
            raise self._damaged(str(error)) from error
        except OSError as error:
            raise UsageError(
                f"{self.path}: the store cannot be opened: {error.strerror}; name another --store"
            ) from error

    def _damaged(self, how: str) -> StoreError:
        return StoreError(
            f"{self.path}: the store is damaged ({how}); move it away, so that rows are measured again, or name "
            "another --store; `cdslm-eval store verify` checks it"
        )

    def _document(self, text: object) -> dict[str, Any]:
        """Return an object that the store holds as JSON."""
        try:
            document = json.loads(text) if isinstance(text, str) else None
        except (ValueError, RecursionError) as error:
            raise self._damaged(f"a record is no JSON: {error}") from error
        if not isinstance(document, dict):
            raise self._damaged("a record is no object")
        return document

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; everything that was written is in it."""
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

    def files(self, addresses: Sequence[Address]) -> dict[Address, FileFacts]:
        """Return the facts of those of `addresses` that are known: this host's, or else another's.

        The index holds absolute paths: folders that share a store have equal relative paths for other files.
        """
        absolute = {address: (_absolute(address.path), address.part) for address in addresses}
        known: dict[tuple[str, str], FileFacts] = {}
        with self._told():
            for chunk in _chunks(sorted({path for path, _ in absolute.values()}), 500):
                marks = ",".join("?" * len(chunk))
                query = f"SELECT * FROM files WHERE path IN ({marks}) ORDER BY host = ?"  # noqa: S608 - only marks
                for path, part, *facts in self._db.execute(query, [*map(_bound, chunk), host_id()]):
                    known[_unbound(path), part] = FileFacts(*facts)
        return {address: known[full] for address, full in absolute.items() if full in known}

    def put_file(self, address: Address, facts: FileFacts) -> None:
        """Keep the facts of a file, or of a part of it, under its absolute path."""
        full = _bound(_absolute(address.path))
        values = [full, address.part, *(getattr(facts, name) for name in FileFacts.__slots__)]
        self._db.execute(f"INSERT OR REPLACE INTO files VALUES ({','.join('?' * len(values))})", values)  # noqa: S608

    def put_identity(self, ident: str, parts: Mapping[str, Any]) -> None:
        """Remember the parts of an identity."""
        with self._told():
            text = json.dumps(parts, sort_keys=True)
            self._db.execute("INSERT OR IGNORE INTO identities VALUES (?, ?)", [ident, text])

    def put_row(self, identity: str, subject: str, outcome: Outcome) -> None:
        """Keep one row, in place of an earlier one of the same identity and subject."""
        data = json.dumps(outcome.row, default=pack, allow_nan=False) if outcome.status == "ok" else None
        self._db.execute(
            "INSERT OR REPLACE INTO rows VALUES (?,?,?,?,?)", [identity, subject, outcome.status, outcome.reason, data]
        )

    def statuses(self, identity: str, subjects: Iterable[str], columns: Sequence[str] = ()) -> dict[str, Status]:
        """Return the status of those of `subjects` that have a row under `identity`; a damaged row counts as absent.

        Args:
            identity: Of the metric.
            subjects: Keys of the rows.
            columns: What a measured row of it must hold.
        """
        statuses: dict[str, Status] = {}
        sound, paths = sound_columns(columns)
        with self._told():
            for chunk in _chunks(list(subjects), 500):
                marks = ",".join("?" * len(chunk))
                query = "SELECT subject, status FROM rows WHERE identity = ? "
                query += f"AND subject IN ({marks}) AND {SOUND_ROW} AND {sound}"
                statuses.update(self._db.execute(query, [identity, *chunk, *paths]).fetchall())
        return statuses

    def drop_unsound(self, identity: str, columns: Sequence[str]) -> int:
        """Delete rows of an identity that are damaged or lack columns of their metric; return how many there were."""
        sound, paths = sound_columns(columns)
        with self.writing():
            query = f"DELETE FROM rows WHERE identity = ? AND NOT coalesce({SOUND_ROW} AND {sound}, 0)"  # noqa: S608 - constants
            return self._db.execute(query, [identity, *paths]).rowcount

    def outcomes(self, identity: str, subjects: Iterable[str]) -> Iterator[Outcome | None]:
        """Yield the outcome of each subject, in order and one at a time; None where there is no row."""
        query = "SELECT status, reason, data FROM rows WHERE identity = ? AND subject = ?"
        with self._told():
            for subject in subjects:
                result = self._db.execute(query, [identity, subject]).fetchone()
                if result is None:
                    yield None
                else:
                    yield _outcome(*result)

    def sizes(self) -> set[int]:
        """Return the sizes in bytes of all files that were ever decoded."""
        with self._told():
            return {size for (size,) in self._db.execute("SELECT DISTINCT size FROM files")}

    def remember(self, key: str, data: str) -> None:
        """Keep a text under a key that identifies what it was made from."""
        with self.writing():
            self._db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", [key, data])

    def recall(self, key: str) -> str | None:
        """Return the text kept under a key, or None."""
        with self._told():
            result = self._db.execute("SELECT data FROM notes WHERE key = ?", [key]).fetchone()
        return None if result is None else str(result[0])

    def keys(self, prefix: str) -> list[str]:
        """Return the keys of kept texts that start with `prefix`."""
        with self._told():
            query = "SELECT key FROM notes WHERE substr(key, 1, ?) = ? ORDER BY key"
            return [key for (key,) in self._db.execute(query, [len(prefix), prefix])]

    def identity(self, ident: str) -> dict[str, Any] | None:
        """Return the parts of an identity, or None where it is not known."""
        with self._told():
            result = self._db.execute("SELECT parts FROM identities WHERE id = ?", [ident]).fetchone()
        return None if result is None else self._document(result[0])

    def copy_rows(self, source: Store, identity: str, subjects: Iterable[str]) -> None:
        """Copy rows of one identity from another store; call it inside `writing`."""
        for chunk in _chunks(list(subjects), 500):
            marks = ",".join("?" * len(chunk))
            query = f"SELECT * FROM rows WHERE identity = ? AND subject IN ({marks})"  # noqa: S608 - only marks
            with source._told():
                result = source._db.execute(query, [identity, *chunk]).fetchall()
            self._db.executemany("INSERT OR REPLACE INTO rows VALUES (?,?,?,?,?)", result)

    def take_over(self, statement: str, rows: Iterable[tuple[int, Sequence[object]]]) -> dict[int, int]:
        """Run one statement for each row, inside `writing`; return how many rows it changed by the number beside it."""
        changed: dict[int, int] = {}
        execute = self._db.cursor().execute
        for number, row in rows:
            changed[number] = changed.get(number, 0) + execute(statement, row).rowcount
        return changed

    def stream(self, sql: str, values: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of one statement as they are read: for whole tables, which may not fit in memory.

        Do not write to the store meanwhile: a long read keeps its write-ahead log from being emptied.
        """
        with self._told():
            # not `yield from`, which would close the cursor of a store that was closed meanwhile
            for row in self._db.execute(sql, values):  # noqa: UP028
                yield row

    def query(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows: for the care of a store, which reads every table."""
        with self._told():
            return self._db.execute(sql, values).fetchall()

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
                ([run, estimate["system"], estimate["name"], json.dumps(estimate)] for estimate in estimates),
            )
        return run

    def runs(self) -> list[dict[str, Any]]:
        """Return the finished runs, oldest first: id, finished (UTC), settings."""
        with self._told():
            result = self._db.execute("SELECT id, finished, settings FROM runs ORDER BY id").fetchall()
        return [{"id": ident, "finished": when, "settings": self._document(text)} for ident, when, text in result]

    def estimates(self, run: int) -> list[dict[str, Any]]:
        """Return the estimates of a run, as `score --json` gave them."""
        with self._told():
            result = self._db.execute("SELECT data FROM estimates WHERE run = ? ORDER BY rowid", [run]).fetchall()
        return [self._document(text) for (text,) in result]


def _chunks(items: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def _absolute(path: str) -> str:
    return path if is_remote(path) else os.path.abspath(path)  # noqa: PTH100 - fast for a million paths


def _bound(path: str | bytes) -> str | bytes:
    """Return a path as SQLite takes it: bytes where it is not UTF-8, as Linux file names need not be."""
    if isinstance(path, bytes):
        return path
    try:
        path.encode()
    except UnicodeEncodeError:
        return path.encode("utf-8", "surrogatepass")
    return path


def _unbound(path: str | bytes) -> str:
    return path if isinstance(path, str) else path.decode("utf-8", "surrogatepass")


def _outcome(status: object, reason: object, data: object) -> Outcome | None:
    """Return a row of the store, or None where it is damaged: it counts as absent and is measured again."""
    if status in ("skipped", "failed") and isinstance(reason, str):
        return Outcome(status, reason, {})
    try:
        row = json.loads(data, object_hook=unpack) if isinstance(data, str) else None
    except (ValueError, TypeError, RecursionError):
        row = None
    return Outcome("ok", "", row) if status == "ok" and isinstance(row, dict) else None
