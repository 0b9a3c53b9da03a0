"""Rows of a store as partitioned Parquet: every sound row, typed, and nothing outside the folder."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cdslm_eval import UsageError
from cdslm_eval.core import store_parquet
from cdslm_eval.core.spans import Address
from cdslm_eval.core.store import FileFacts, Outcome, Store

dataset = pytest.importorskip("pyarrow.dataset")
FACTS = FileFacts("host", 1, 2, 3, 4, "d", 1.5, 16000, 1, "pcm", "mean")
ROWS = {
    "a": {"level": -20.0, "count": 3, "phones": ["AA", "B"], "vector": np.arange(3, dtype=np.float32), "mixed": 1},
    "b": {"level": None, "count": 2**70, "phones": [], "vector": np.zeros(2, np.float32), "mixed": "x"},
    "c": {"subject": "of the metric", "flag": True, "matrix": np.eye(2, dtype=np.float32)},
}


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store.cdslm") as store:
        store.put_identity("id1", {"name": "../../out of/the folder"})
        with store.writing():
            for subject, row in ROWS.items():
                store.put_row("id1", subject, Outcome("ok", "", row))
            store.put_row("id1", "d", Outcome("skipped", "no phones", {}))
            store.put_row("id2", "e", Outcome("failed", "too long", {}))
            for path in (b"a/bad\xff.wav", "a/clip.wav"):
                store.put_file(Address(path, ""), FACTS)
        yield store


def read(folder):
    table = dataset.dataset(folder / "rows", partitioning="hive").to_table()
    return {row["subject"]: row for row in table.to_pylist()}


@pytest.mark.parametrize("page", [1, 2, 5000])
def test_every_row_is_exported_with_its_types(store, tmp_path, monkeypatch, page):
    monkeypatch.setattr(store_parquet, "_BATCH", page)
    folder = tmp_path / "out"
    assert store_parquet.export_rows(store, folder) == {"../../out of/the folder": 4, "unknown": 1, "files": 2}
    rows = read(folder)
    assert sorted(rows) == ["a", "b", "c", "d", "e"]
    assert (rows["a"]["level"], rows["a"]["count"], rows["a"]["phones"]) == (-20.0, 3.0, ["AA", "B"])
    assert rows["a"]["vector"] == [0.0, 1.0, 2.0]
    assert (rows["b"]["level"], rows["b"]["count"]) == (None, float(2**70))
    # values of several kinds, and arrays of more dimensions, are JSON
    assert [json.loads(rows[name]["mixed"]) for name in "ab"] == [1, "x"]
    assert json.loads(rows["c"]["matrix"]) == [[1.0, 0.0], [0.0, 1.0]]
    # a column of the metric does not hide that of the table
    assert (rows["c"]["subject"], rows["c"]["subject_measured"]) == ("c", "of the metric")
    assert (rows["d"]["status"], rows["d"]["reason"]) == ("skipped", "no phones")
    assert rows["e"]["identity"] == "id2"
    paths = dataset.dataset(folder / "files.parquet").to_table()["path"].to_pylist()
    assert [path.rsplit("/", 1)[1] for path in paths] == ["clip.wav", "bad\\xff.wav"]


def test_nothing_is_written_outside_the_folder_or_over_another_export(store, tmp_path):
    folder = tmp_path / "out"
    store_parquet.export_rows(store, folder)
    assert sorted(path.name for path in tmp_path.iterdir() if "store" not in path.name) == ["out"]
    assert {path.parts[-3] for path in folder.rglob("rows.parquet")} == {
        "metric=..%2F..%2Fout%20of%2Fthe%20folder",
        "metric=unknown",
    }
    with pytest.raises(UsageError, match="holds something already"):
        store_parquet.export_rows(store, folder)


def test_damaged_rows_are_counted_and_columns_without_a_value_are_empty(store, tmp_path):
    with store.writing():
        store.put_row("id3", "g", Outcome("ok", "", {"unknown": None}))
    store.query("INSERT INTO rows VALUES ('id3', 'h', 'ok', '', '{broken')")
    written = store_parquet.export_rows(store, tmp_path / "out")
    assert written["damaged rows left out"] == 1
    own = dataset.dataset(tmp_path / "out" / "rows" / "metric=unknown" / "identity=id3").to_table()
    assert own.select(["subject", "unknown"]).to_pylist() == [{"subject": "g", "unknown": None}]
