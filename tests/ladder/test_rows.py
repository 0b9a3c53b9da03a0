"""Columns of a run table that come from a training result's probe, and from the axes of generation."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from cdslm_eval.core.errors import UsageError
from cdslm_eval.ladder.execute import LadderRun
from cdslm_eval.ladder.plan import Plan
from cdslm_eval.ladder.points import SampledPoint, TrainedPoint
from cdslm_eval.ladder.rows import as_csv, estimate_columns, probe_columns, run_rows
from cdslm_eval.plugin.host import Host
from cdslm_eval.results.estimate import Calibration, Estimate
from cdslm_eval.scaling.bootstrap import bootstrap
from cdslm_eval.scaling.fit import fit_law
from cdslm_eval.scaling.table import RunTable


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


def test_a_value_that_is_known_by_its_bounds_only_has_no_corrected_column():
    """Some 10 recognized phones gave a corrected pJSD of .09 between bounds of 0 and .57, and a fit took it."""
    numbers = {"corrected": 0.09, "corrected_low": 0.01, "corrected_high": 0.2, "held_out_common": 0.02}
    names = {"system": "a", "metric": "pjsd", "identity": "pjsd@3", "name": "pjsd_1"}
    columns = {
        trust: estimate_columns(
            [Estimate(**names, value=0.5, low=0.0, high=0.57, calibration=Calibration(trust=trust, **numbers))]
        )
        for trust in ("bounds_only", "sample_limited")
    }
    bounds = {"pjsd_1": 0.5, "pjsd_1_low": 0.0, "pjsd_1_high": 0.57, "pjsd_1_held_out_common": 0.02}
    assert columns["bounds_only"] == bounds
    assert columns["sample_limited"]["pjsd_1_corrected"] == 0.09


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
    assert [(row["row"], row["rate"]) for row in table] == [
        ("a-1-1-rate8000", "8000.0"),
        ("a-1-1-rate16000", "16000.0"),
        ("b-2-1", ""),
    ]
    assert [row["run"] for row in table] == ["a-1-1", "a-1-1", "b-2-1"]


def test_rows_of_one_model_are_worth_no_more_than_one_in_a_fit_by_run(tmp_path):
    """Losses that are equal at two values of an axis leave the interval that one value leaves."""
    sizes = [1e6, 2e6, 4e6, 8e6, 1.6e7]
    budgets = [1e15, 3e15, 1e16]
    family = {"name": "a", "train": "python {size} {run}", "generator": "silence:rate_hz={rate}", "budgets": budgets}
    plan = Plan(name="t", systems=[family | {"sizes": list(range(5))}], generate={"axes": {"rate": [8000, 16000]}})
    run = LadderRun(plan, tmp_path, Host(pinned=()), lambda _: None)
    noise = np.random.default_rng(0)
    sampled = []
    for point in (training.points[0] for training in run.trainings):
        n, c = sizes[point.size], point.budget
        loss = (1.7 + 400 * n**-0.34 + 410 * (c / 6 / n) ** -0.28) * np.exp(0.02 * noise.standard_normal())
        model = TrainedPoint(point, tmp_path, {"parameters": n, "tokens": c / 6 / n, "flops": c, "val_loss": loss})
        sampled += [SampledPoint(model, axes) for axes in run.samplings(point)]
    (tmp_path / "runs.csv").write_text(as_csv(run_rows(sampled, [])))
    table = RunTable.read(tmp_path / "runs.csv")
    assert (len(table), len(set(table.run))) == (30, 15)
    fits = [fit_law(part, "val_loss") for part in (table, table.only("rate=8000"))]
    twice, once = (float(np.std(bootstrap(fit, "run", 100).parameters["beta"])) for fit in fits)
    assert twice == pytest.approx(once, rel=1e-3)
    # taken for independent, the same rows have an interval that is too narrow
    assert np.std(bootstrap(fits[0], "row", 100).parameters["beta"]) < 0.85 * once


def test_clips_of_other_prompts_or_another_seed_have_folders_of_their_own(tmp_path):
    """Both change what is generated, and neither the name of the generator nor the text of the plan's prompts."""

    def folders(*, seed=0, made="cp a {out}", **generate):
        plan = plan_with({}, "silence").model_dump() | {"seed": seed, "prepare": [{"name": "speech", "command": made}]}
        plan["systems"] = plan["systems"][:1]
        plan["generate"] |= {"prompts": "{speech}", "controls": ("silence",), **generate}
        run = LadderRun(Plan(**plan), tmp_path, Host(pinned=()), lambda _: None)
        return Path(run.clips_folder(run.trainings[0].points[0])).name, run.control_folder("silence").name

    first = folders()
    assert folders() == first
    others = [folders(seed=1), folders(made="cp b {out}"), folders(count=2), folders(seconds=2.0)]
    for clips, control in others:
        assert clips != first[0]
        assert control != first[1]
    # controls are made alike, whatever stands beside them
    assert folders(controls=("silence", "noise")) == first


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"steps": [1]}, "'steps' names a column"),
        ({"loss": [1]}, "'loss' names a column"),
        ({"seed": [1]}, "'seed' names a column"),
        ({"n": [1]}, "a fit reads a column 'n' as N"),
        ({"probe_windows": [1]}, "'probe_windows' names a column"),
        ({"weight": [1]}, "a fit reads a column 'weight' as weight"),
        ({"isoflop": [1]}, "a fit reads a column 'isoflop' as isoflop"),
        ({"flops_per_token": [1]}, "a fit reads a column 'flops_per_token' as F"),
        ({"rate": []}, "needs values"),
        ({"rate": [8000, 8000]}, "each once"),
        ({"rate": [8000], "other": [1]}, "no generator names it"),
    ],
)
def test_an_axis_needs_a_name_of_its_own_and_a_generator(axes, message):
    with pytest.raises(ValueError, match=message):
        plan_with(axes)


@pytest.mark.parametrize("axis", ["duration", "level_high", "pjsd_2", "pjsd_2_corrected"])
def test_an_axis_cannot_have_the_name_of_a_column_of_a_metric(axis, tmp_path):
    plan = plan_with({axis: [1, 2]}, f"silence:rate_hz={{{axis}}}")
    with pytest.raises(UsageError, match=f"generate.axes.{axis}: the metric (signal|pjsd) has a column of this name"):
        LadderRun(plan, tmp_path, Host(pinned=()), print)
