"""The first screen: the sentence, the order and the matrix follow from the numbers; nothing private is published."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import pytest

from cdslm_eval.report import write_report
from cdslm_eval.report.matrix import distance, matrix_of
from cdslm_eval.report.summary import sentences, summarise_page
from cdslm_eval.results.estimate import Calibration, Estimate
from cdslm_eval.results.score_result import ScoreResult


def divergence(system, value, half, trust="ok", clips=20):
    own = Calibration(
        floor=0.02, corrected=value, corrected_low=value - half, corrected_high=value + half,
        held_out=value / 2, held_out_common=value / 2, common_phones=500, trust=trust,
    )  # fmt: skip
    return Estimate(
        system=system, metric="pjsd", identity="pjsd@1", name="pjsd_2", value=value + 0.02, low=value / 2,
        high=value + 0.1, interval="bounds", calibration=own, unit="bits", better="lower", n_scored=clips,
        se=half / 1.96, degrees=10_000,
    )  # fmt: skip


def test_overlapping_systems_are_not_told_apart_and_the_clips_that_would_do_follow_from_the_root_of_n():
    answer = " ".join(sentences([divergence("b", 0.12, 0.03), divergence("a", 0.10, 0.03)]))
    # the error of the difference is .03 * sqrt(2) at 95 %; .02 needs (.0424 / .02)^2 = 4.5 times the 20 clips
    more = int(re.search(r"about (\d+) more each", answer)[1])
    assert more == pytest.approx(20 * (2 * 0.03**2 / 0.02**2) - 20, abs=1)
    assert answer.startswith("a and b are not distinguished by pjsd_2 at 20 clips")
    assert "a and b are further from real speech than real speech is from itself" in answer


def test_a_system_that_leads_is_named_and_one_at_the_floor_is_not_called_different():
    answer = " ".join(sentences([divergence("far", 0.4, 0.03), divergence("near", 0.01, 0.03)]))
    assert answer.startswith("near is the best under pjsd_2, shown to be better than far.")
    assert "far is further from real speech" in answer
    assert "near is not shown to differ from real speech" in answer


def test_bounds_name_no_point_in_sentence_and_table():
    result = ScoreResult(estimates=(divergence("a", 0.1, 0.03, trust="bounds_only"),))
    summary = summarise_page(result)
    assert "only bounds hold" in " ".join(summary.sentences)
    assert summary.rows[0][1][0].text == "0.050 … 0.200"
    assert summary.real[0].text == "0"


def test_the_table_is_in_the_order_of_the_main_value():
    result = ScoreResult(estimates=(divergence("far", 0.1, 0.03), divergence("near", 0.02, 0.03)))
    summary = summarise_page(result)
    assert [system for system, _, _ in summary.rows] == ["near", "far"] == list(summary.systems)


def mos(system, value, half, **more):
    numbers = {"value": value, "low": value - half, "high": value + half}
    return Estimate(system=system, metric="m", identity="m@1", name="mos", better="higher", **{**numbers, **more})


def test_a_distance_is_in_half_widths_of_the_interval_of_the_difference():
    # 3 and 4 are the legs of a triangle: half-widths .3 and .4 make .5 for the difference
    assert distance(mos("a", 3.0, 0.3), mos("real", 4.0, 0.4)) == pytest.approx(-1.0 / 0.5)
    assert distance(divergence("a", 0.1, 0.03), None) == pytest.approx(0.1 / 0.03)
    assert distance(divergence("a", 0.1, 0.03, trust="bounds_only"), None) == pytest.approx(0.05 / 0.075)
    assert math.isnan(distance(mos("a", 3.0, 0.3), None))
    assert math.isnan(distance(mos("a", 3.0, 0.0), mos("real", 4.0, 0.0)))


def test_the_matrix_shades_by_side_and_distance_and_a_page_of_four_values_has_it(tmp_path):
    systems = {"low": 1.9, "near": 3.9, "high": 5.5}
    estimates = [
        dataclasses.replace(mos(system, value, 0.3), name=name)
        for name in ("m1", "m2", "m3", "m4")
        for system, value in systems.items()
    ]
    real = tuple(dataclasses.replace(mos("real speech", 4.0, 0.4), name=name) for name in ("m1", "m2", "m3", "m4"))
    result = ScoreResult(estimates=tuple(estimates), real=real)
    matrix = matrix_of(result, tuple(systems))
    assert {system: cells[0].shade for system, cells in matrix.rows} == {"low": "l3", "near": "", "high": "h2"}
    assert matrix.real[0].text == "4.00"
    page = write_report(result, tmp_path / "four").read_text()
    assert '<table id="matrix">' in page
    assert page.count("<small>-4.2</small>") == 4
    few = ScoreResult(estimates=tuple(e for e in estimates if e.name == "m1"), real=real[:1])
    assert '<table id="matrix">' not in write_report(few, tmp_path / "one").read_text()


def test_the_row_of_real_speech_is_what_the_reference_itself_scores():
    summary = summarise_page(ScoreResult(estimates=(mos("a", 3.0, 0.3),), real=(mos("real speech", 4.0, 0.4),)))
    assert (summary.real[0].text, summary.real[0].interval) == ("4.00", "3.60 … 4.40")


def test_a_published_page_has_no_absolute_path_and_no_list_of_distributions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {
        "reference": str(tmp_path / "real"),
        "sets": {"a": {"origin": "/data/somebody/speech/a"}},
        "versions": {"python": "3.11", "distributions": {"secret-package": "1"}},
    }
    result = ScoreResult(estimates=(divergence("a", 0.1, 0.03),), settings=settings)
    write_report(result, tmp_path / "public")
    for name in ("index.html", "result.json"):
        text = (tmp_path / "public" / name).read_text()
        assert str(tmp_path) not in text
        assert "somebody" not in text
        assert "secret-package" not in text
    write_report(result, tmp_path / "private", private_paths=True)
    private = json.loads((tmp_path / "private" / "result.json").read_text())
    assert private["settings"] == settings
