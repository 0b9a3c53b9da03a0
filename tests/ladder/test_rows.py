"""Columns of a run table that come from a training result's probe."""

from __future__ import annotations

from cdslm_eval.ladder.rows import as_csv, probe_columns


def test_the_numbers_of_a_probe_are_columns_and_nothing_else_is():
    probe = {
        "frames": [0, 8],
        "windows": 64,
        "explained_variance": [0.9, 0.4],
        "ridge": [0.91, None],
        "noise_deciles": [0.1] * 10,
        "join_jump": 1.06,
        "other_context_gain_se": None,
    }
    columns = probe_columns(probe)
    assert columns == {
        "probe_windows": 64.0,
        "probe_explained_variance_0": 0.9,
        "probe_explained_variance_8": 0.4,
        "probe_ridge_0": 0.91,
        "probe_join_jump": 1.06,
    }
    assert probe_columns(None) == probe_columns("none") == {}
    header, row = as_csv([{"run": "a", **columns}]).splitlines()
    assert dict(zip(header.split(","), row.split(","), strict=True))["probe_join_jump"] == "1.06"
