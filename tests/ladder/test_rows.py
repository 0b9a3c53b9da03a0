"""Columns of a run table that come from a training result's probe, and from the axes of generation."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from cdslm_eval.ladder.execute import LadderRun
from cdslm_eval.ladder.plan import Plan
from cdslm_eval.ladder.points import SampledPoint, TrainedPoint
from cdslm_eval.ladder.rows import as_csv, probe_columns, run_rows
from cdslm_eval.plugin.host import Host


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


def plan_with(axes, generator="silence:rate_hz={rate}"):
    systems = [
        {"name": "a", "train": "python {size} {run}", "generator": generator, "sizes": [1], "budgets": [1.0]},
        {"name": "b", "train": "python {size} {run}", "generator": "silence", "sizes": [2], "budgets": [1.0]},
    ]
    return Plan(name="t", systems=systems, generate={"count": 1, "seconds": 0.5, "axes": axes})


def test_axes_of_generation_are_rows_with_clips_of_their_own(tmp_path):
    run = LadderRun(plan_with({"rate": [8000, 16000]}), tmp_path, Host(pinned=()), lambda _: None)
    assert run.rows() == ["a-1-1-rate8000", "a-1-1-rate16000", "b-2-1"]
    result = {"parameters": 1, "tokens": 1, "flops": 1, "val_loss": 1.0}
    models = [TrainedPoint(training.points[0], tmp_path / "run", result) for training in run.trainings]
    sampled = [SampledPoint(model, axes) for model in models for axes in run.samplings(model.point)]
    rates = [next(iter(run.generate(clips))).rate_hz for clips in sampled]
    assert rates == [8000, 16000, 16000]
    table = list(csv.DictReader(as_csv(run_rows(sampled, [])).splitlines()))
    assert [(row["run"], row["rate"]) for row in table] == [
        ("a-1-1-rate8000", "8000.0"),
        ("a-1-1-rate16000", "16000.0"),
        ("b-2-1", ""),
    ]


def test_a_plan_without_axes_keeps_its_folders(tmp_path):
    run = LadderRun(plan_with({}, "silence"), tmp_path, Host(pinned=()), lambda _: None)
    assert Path(run.clips_folder(run.trainings[0].points[0])).name == "clips-7100e9b2"


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"steps": [1]}, "'steps' names a column"),
        ({"rate": []}, "needs values"),
        ({"rate": [8000, 8000]}, "each once"),
        ({"rate": [8000], "other": [1]}, "no generator names it"),
    ],
)
def test_an_axis_needs_a_name_of_its_own_and_a_generator(axes, message):
    with pytest.raises(ValueError, match=message):
        plan_with(axes)
