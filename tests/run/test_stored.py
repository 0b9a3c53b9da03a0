"""Estimates from a store alone: those that `score` gives of the same rows."""

from __future__ import annotations

import math

import pytest

from cdslm_eval import score
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.store import Outcome, Store
from cdslm_eval.plugin.host import Host
from cdslm_eval.run.stored import estimate_stored


@pytest.fixture
def stored(tone_set, tmp_path):
    folder, path = tone_set("system", 12), tmp_path / "s.cdslm"
    result = score(ClipSet.open(folder), metrics="signal", store=path, jobs=1)
    return folder, path, {estimate.name: estimate for estimate in result.estimates}


def test_rows_of_files_give_what_score_gives(stored):
    folder, path, wanted = stored
    metric = Host().resolve("metric", "signal")
    with Store(path, read_only=True) as store:
        estimates = estimate_stored(store, metric, system=f"{folder}/")
        everything = estimate_stored(store, metric)
    for estimate, whole in zip(estimates, everything, strict=True):
        same = wanted[estimate.name]
        assert estimate.value == same.value or (math.isnan(estimate.value) and math.isnan(same.value))
        assert (estimate.n_scored, estimate.n_skipped) == (same.n_scored, same.n_skipped)
        assert math.isnan(whole.value) or math.isclose(whole.value, same.value)


def test_missing_and_damaged_rows_are_counted_and_paths_without_rows_are_named(stored):
    folder, path, wanted = stored
    metric = Host().resolve("metric", "signal")
    with Store(path) as store:
        ((ident,),) = store.query("SELECT DISTINCT identity FROM rows WHERE identity LIKE 'signal%'")
        first, second, third, fourth, fifth = (
            s for (s,) in store.query("SELECT subject FROM rows WHERE identity = ? ORDER BY subject LIMIT 5", [ident])
        )
        with store.writing():
            store.put_row(ident, first, Outcome("failed", "too loud", {}))
        store.query(
            "UPDATE rows SET data = json_set(data, '$.seconds', 'long') WHERE identity = ? AND subject = ?",
            [ident, second],
        )
        store.query("DELETE FROM rows WHERE identity = ? AND subject = ?", [ident, third])
        # texts that are no objects alone, and two of them together
        store.query("UPDATE rows SET data = '{\"a\": [' WHERE identity = ? AND subject = ?", [ident, fourth])
        store.query("UPDATE rows SET data = ']}, {}' WHERE identity = ? AND subject = ?", [ident, fifth])
    with Store(path, read_only=True) as store:
        duration = estimate_stored(store, metric, system=f"{folder}/")[0]
        assert (duration.n_scored, duration.n_failed) == (wanted["duration"].n_scored - 5, 5)
        with pytest.raises(UsageError, match="no row of signal"):
            estimate_stored(store, metric, system="/elsewhere/")
        with pytest.raises(UsageError, match="no rows of pjsd"):
            estimate_stored(store, Host().resolve("metric", "pjsd"), system="/", reference="/")


def test_damaged_rows_that_make_sound_ones_together_are_failed(stored):
    _, path, wanted = stored
    metric = Host().resolve("metric", "signal")
    with Store(path) as store:
        ((ident,),) = store.query("SELECT DISTINCT identity FROM rows WHERE identity LIKE 'signal%'")
        rows = store.query("SELECT subject, data FROM rows WHERE identity = ? ORDER BY subject LIMIT 2", [ident])
        (first, row), (second, other) = rows
        # as many objects as texts, each with all columns
        damaged = {first: f'{row[:-1]}, "list": [0', second: f"0]}}, {other}"}
        for subject, data in damaged.items():
            store.query("UPDATE rows SET data = ? WHERE identity = ? AND subject = ?", [data, ident, subject])
    with Store(path, read_only=True) as store:
        duration = estimate_stored(store, metric)[0]
    assert (duration.n_scored, duration.n_failed) == (wanted["duration"].n_scored - 2, 2)
