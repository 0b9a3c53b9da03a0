"""The tables of a store, their versions, and the statements that merge two stores."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

__all__ = ["APPLICATION_ID", "PARTS", "SCHEMA", "SOUND_ROW", "TAKE_OVER", "create", "sound_columns", "upgrade"]

SCHEMA = 4
APPLICATION_ID = 0x4344534C  # "CDSL"
_FILES = """CREATE TABLE IF NOT EXISTS files (
  path TEXT NOT NULL, part TEXT NOT NULL, host TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
  ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, digest TEXT NOT NULL, seconds REAL NOT NULL,
  rate_hz INTEGER NOT NULL, channels INTEGER NOT NULL, encoding TEXT NOT NULL, mixdown TEXT NOT NULL, peak REAL,
  dc_offset REAL, level_dbfs REAL, cancelled REAL, truncated TEXT NOT NULL,
  PRIMARY KEY (path, part, host)) WITHOUT ROWID"""
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
# what the program itself writes; anything else was damaged, or edited by hand
SOUND_ROW = (
    "(typeof(reason) = 'text' AND (status IN ('skipped', 'failed') OR (status = 'ok' AND typeof(data) = 'text' AND "
    "CASE WHEN json_valid(data) THEN json_type(data) = 'object' ELSE 0 END)))"
)
_COLUMN_TYPES = "('integer', 'real', 'null', 'array', 'object', 'text')"


def sound_columns(columns: Sequence[str]) -> tuple[str, list[str]]:
    """Return the SQL condition that a measured row has some columns, each of a kind that rows hold, and its values."""
    # a name with a quotation mark cannot be written as a path
    paths = [f'$."{name}"' for name in columns if '"' not in name]
    checks = [f"coalesce(json_type(data, ?), '') IN {_COLUMN_TYPES}" for _ in paths]
    return f"(status != 'ok' OR ({' AND '.join(checks) or 'TRUE'}))", paths


_OBJECT_PARTS = "typeof(id) = 'text' AND CASE WHEN json_valid(parts) THEN json_type(parts) = 'object' ELSE 0 END"
_TEXT_KEYS = "typeof(identity) = 'text' AND typeof(subject) = 'text'"
# what a store takes over from others, sorted by the columns that come first, and how many these are; names of files
# that are no UTF-8 are bytes, which sort behind texts and are not compared with them
PARTS = {
    "files": ("SELECT typeof(path) = 'blob', * FROM files ORDER BY path, part, host", 4),
    "identities": (f"SELECT * FROM identities WHERE {_OBJECT_PARTS} ORDER BY id", 1),  # noqa: S608 - a constant
    "rows": (
        f"SELECT * FROM rows WHERE {_TEXT_KEYS} AND {SOUND_ROW} ORDER BY identity, subject",  # noqa: S608 - constants
        2,
    ),
    "notes": ("SELECT * FROM notes WHERE typeof(key) = 'text' ORDER BY key", 1),
}
TAKE_OVER = {
    # without the first value, which is there to sort by
    "files": f"INSERT OR IGNORE INTO files VALUES ({','.join(f'?{n}' for n in range(2, 20))})",  # noqa: S608 - marks
    "identities": "INSERT OR IGNORE INTO identities VALUES (?, ?)",
    # a row that was measured wins over one that failed, whichever store it comes from
    "rows": "INSERT INTO rows VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (identity, subject) DO UPDATE SET status = excluded.status, reason = excluded.reason, "
    "data = excluded.data "
    "WHERE rows.status = 'failed' AND excluded.status != 'failed'",
    "notes": "INSERT OR IGNORE INTO notes VALUES (?, ?)",
}


def create(db: sqlite3.Connection, *, new: bool) -> None:
    """Make the tables of a new store, and those that were added later without a new schema."""
    if new:
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {SCHEMA}")
        db.executescript(_TABLES)
    db.execute(_NOTES)


def upgrade(db: sqlite3.Connection) -> None:
    """Bring a store of an earlier schema up to date, within a transaction, unless another writer did so already."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version >= SCHEMA:
        return
    if version < 2:
        for statement in _DROP_RESTING_ON_A_FAILED_FEATURE.split(";"):
            db.execute(statement)
    # schema 2 knew a file by size and time of modification alone, schema 3 not on which host: no host is called "", so
    # each file is decoded once more, and its rows are found by its content
    db.execute("ALTER TABLE files RENAME TO former_files")
    db.execute(_FILES)
    db.execute(
        "INSERT INTO files SELECT path, '', '', size, mtime_ns, 0, 0, digest, seconds, rate_hz, channels, encoding, "
        "mixdown, NULL, NULL, NULL, NULL, '' FROM former_files"
    )
    db.execute("DROP TABLE former_files")
    db.execute(f"PRAGMA user_version = {SCHEMA}")
