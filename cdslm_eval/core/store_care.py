"""Care of a store: what it holds, what to drop, and whether it is whole."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.provenance import host_id
from cdslm_eval.core.remote.addresses import EXTRAS
from cdslm_eval.core.store import Store
from cdslm_eval.core.store_schema import SOUND_ROW

__all__ = ["drop", "problems", "summarise"]


def summarise(store: Store) -> dict[str, Any]:
    """Return the size in bytes, the schema, counts of files and runs, and rows by identity and status."""
    rows: dict[str, dict[str, int]] = {}
    for identity, status, count in store.query(
        "SELECT identity, status, count(*) FROM rows GROUP BY identity, status ORDER BY identity, status"
    ):
        rows.setdefault(str(identity), {})[str(status)] = count
    parts = {ident: _parts(text) for ident, text in store.query("SELECT id, parts FROM identities")}
    ((runs, first, last),) = store.query("SELECT count(*), min(finished), max(finished) FROM runs")
    identities = [
        {
            "identity": ident,
            "name": str(parts.get(ident, {}).get("name", "")),
            "version": str(parts.get(ident, {}).get("version", "")),
            "rows": counts,
        }
        for ident, counts in rows.items()
    ]
    marks = ",".join("?" * (1 + len(EXTRAS)))
    return {
        "path": str(store.path),
        "bytes": store.path.stat().st_size,
        "schema": store.query("PRAGMA user_version")[0][0],
        "files": store.query("SELECT count(*) FROM files")[0][0],
        "files_of_other_hosts": store.query(
            f"SELECT count(*) FROM files WHERE host NOT IN ({marks})",  # noqa: S608 - only marks
            [host_id(), *EXTRAS],
        )[0][0],
        "runs": runs,
        "first_run": first,
        "last_run": last,
        "identities": sorted(identities, key=lambda entry: (entry["name"], entry["version"], entry["identity"])),
    }


def _parts(text: object) -> dict[str, Any]:
    try:
        parts = json.loads(str(text))
    except (ValueError, RecursionError):
        return {}
    return parts if isinstance(parts, dict) else {}


def drop(
    store: Store,
    older_than_days: float | None,
    identities: Sequence[str],
    *,
    missing_files: bool,
    dry_run: bool,
) -> dict[str, int]:
    """Drop runs by age, rows by identity and facts of missing files; return how many of each.

    Args:
        store: Open for writing.
        older_than_days: Age of the runs to drop, in days; None drops none.
        identities: Whose rows to drop.
        missing_files: Whether to forget files that are no longer there.
        dry_run: Count only.

    Raises:
        UsageError: The store has no rows of an identity.
    """
    dropped = {"runs": 0, "rows": 0, "files": 0}
    with store.writing():
        for identity in identities:
            ((count,),) = store.query("SELECT count(*) FROM rows WHERE identity = ?", [identity])
            if not count:
                raise UsageError(f"{store.path}: no rows of {identity!r}; see `cdslm-eval store info`")
            dropped["rows"] += count
            if not dry_run:
                store.query("DELETE FROM rows WHERE identity = ?", [identity])
                store.query("DELETE FROM identities WHERE id = ?", [identity])
        if older_than_days is not None:
            # ISO dates of one time zone are ordered as text
            oldest = (datetime.now(UTC) - timedelta(days=older_than_days)).isoformat(timespec="seconds")
            old = [ident for (ident,) in store.query("SELECT id FROM runs WHERE finished < ?", [oldest])]
            dropped["runs"] = len(old)
            for ident in old if not dry_run else ():
                store.query("DELETE FROM estimates WHERE run = ?", [ident])
                store.query("DELETE FROM runs WHERE id = ?", [ident])
        if missing_files:
            # whether files of another host are there cannot be seen from here
            paths = [path for (path,) in store.query("SELECT DISTINCT path FROM files WHERE host = ?", [host_id()])]
            gone = [path for path in paths if not os.path.exists(path)]  # noqa: PTH110 - bytes where not UTF-8
            dropped["files"] = len(gone)
            for path in gone if not dry_run else ():
                store.query("DELETE FROM files WHERE path = ? AND host = ?", [path, host_id()])
    if not dry_run and any(dropped.values()):
        store.query("VACUUM")
    return dropped


def problems(store: Store) -> list[str]:
    """Return a sentence for everything that is damaged: the database and its rows."""
    sentences = [f"database: {text}" for (text,) in store.query("PRAGMA integrity_check(20)") if text != "ok"]
    ((rows,),) = store.query(f"SELECT count(*) FROM rows WHERE NOT coalesce({SOUND_ROW}, 0)")  # noqa: S608 - a constant
    if rows:
        sentences.append(f"{rows} rows cannot be read; they are measured again when they are needed")
    return sentences
