"""Merging stores: the same as one after the other, whatever the order of their rows and the limit of open files."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest

from cdslm_eval.core.errors import StoreError, UsageError
from cdslm_eval.core.store import Outcome, Store
from cdslm_eval.core.store_merge import merge_stores

TABLES = ("files", "identities", "rows", "notes")


def shards(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Write stores that share rows, some failed in one and measured in another, some differing."""
    rng = np.random.default_rng(seed)
    paths = [folder / f"{number}.cdslm" for number in range(count)]
    for number, path in enumerate(paths):
        with Store(path) as store:
            store.put_identity("m@1#a", {"name": "m"})
            store.put_identity(f"n@1#{number}", {"name": "n"})
            store.remember(f"note {number % 3}", str(number))
            with store.writing():
                for subject in rng.integers(0, 40, 25):
                    status = ("ok", "failed", "skipped")[rng.integers(3)]
                    row = Outcome(status, "" if status == "ok" else f"by {number}", {"x": number})
                    store.put_row(("m@1#a", f"n@1#{number}")[rng.integers(2)], f"{subject:02d}", row)
                for name in rng.choice(10, 4, replace=False):
                    values = [f"/{name}", "", "host", *range(4), str(number), 1.0, 8000, 1, "WAV", "none"]
                    store._db.execute(
                        f"INSERT OR REPLACE INTO files VALUES ({','.join('?' * 18)})", [*values, *[None] * 4, ""]
                    )
                odd = [b"/\xff", *values[1:7], str(number), *values[8:], *[None] * 4, ""]
                store._db.execute(f"INSERT INTO files VALUES ({','.join('?' * 18)})", odd)
    return paths


def one_after_the_other(parts: list[Path]) -> dict[str, dict]:
    """Return the tables by key as reading the stores in turn leaves them: an independent, plain merge."""
    tables: dict[str, dict] = {table: {} for table in TABLES}
    for part in parts:
        with Store(part, read_only=True) as store:
            for table, width in zip(TABLES, (3, 1, 2, 1), strict=True):
                for row in store.query(f"SELECT * FROM {table}"):
                    known = tables[table].get(row[:width])
                    if known is None or (table == "rows" and known[2] == "failed" != row[2]):
                        tables[table][row[:width]] = row
    return tables


def tables_of(path: Path) -> dict[str, dict]:
    return one_after_the_other([path])


@pytest.mark.parametrize("limit", [None, 128 + 3 * 4])
def test_one_pass_equals_one_store_after_the_other(tmp_path, limit):
    parts = shards(tmp_path, 12)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with pytest.MonkeyPatch.context() as patch:
        if limit:
            patch.setattr(resource, "getrlimit", lambda _: (limit, limit))
            patch.setattr(resource, "setrlimit", lambda *_: None)
        with Store(tmp_path / "all.cdslm") as target:
            gained = merge_stores(target, parts[:1])
            gained += merge_stores(target, parts[1:])
    assert tables_of(tmp_path / "all.cdslm") == one_after_the_other(parts)
    with Store(tmp_path / "all.cdslm", read_only=True) as target:
        ((identities,),) = target.query("SELECT count(*) FROM identities")
        ((files,),) = target.query("SELECT count(*) FROM files")
    assert sum(entry["identities"] for entry in gained) == identities
    assert sum(entry["files"] for entry in gained) == files
    with Store(tmp_path / "all.cdslm") as target:
        assert all(not any(entry.values()) for entry in merge_stores(target, parts))
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] == hard
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= soft


def test_a_damaged_part_is_named_and_leaves_the_target_as_it_was(tmp_path):
    parts = shards(tmp_path, 3)
    damaged = bytearray(parts[1].read_bytes())
    damaged[4096 * 2 :] = b"\x55" * (len(damaged) - 4096 * 2)
    parts[1].write_bytes(damaged)
    with Store(tmp_path / "all.cdslm") as target, pytest.raises((StoreError, UsageError), match=r"1\.cdslm"):
        merge_stores(target, parts)
    assert not any(tables_of(tmp_path / "all.cdslm").values())
