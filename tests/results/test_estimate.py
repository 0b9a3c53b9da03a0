import json
import math

import pytest

from cdslm_eval.cli.tables import markdown
from cdslm_eval.results.estimate import Calibration, Estimate
from cdslm_eval.results.numbers import decimals_of, format_number, format_value, to_json
from cdslm_eval.results.ranking import common_scale, ranked
from cdslm_eval.results.score_result import ScoreResult, grids
from cdslm_eval.stats.standing import standings


def divergence(system="a", trust="ok", **more):
    numbers = {"floor": 0.01, "corrected": 0.2, "corrected_low": 0.15, "corrected_high": 0.25, "trust": trust, **more}
    return Estimate(
        system=system, metric="pjsd", identity="i", name="pjsd_3", value=0.4, low=0.1, high=0.5, interval="bounds",
        calibration=Calibration(**numbers), better="lower", n_reference=9,
    )  # fmt: skip


def test_a_value_without_trust_mark_counts_itself():
    estimate = Estimate(system="a", metric="m", identity="i", name="x", value=2.0, low=1.0, high=3.0)
    headline = estimate.headline()
    assert (headline.kind, headline.value, headline.low, headline.high) == ("value", 2.0, 1.0, 3.0)


@pytest.mark.parametrize("trust", ["ok", "sample_limited"])
def test_a_trusted_divergence_counts_corrected(trust):
    headline = divergence(trust=trust).headline()
    assert (headline.kind, headline.value, headline.low, headline.high) == ("corrected", 0.2, 0.15, 0.25)


def test_nothing_is_taken_from_bounds_only_as_a_point():
    headline = divergence(trust="bounds_only").headline()
    assert headline.kind == "bounds"
    assert math.isnan(headline.value)
    assert (headline.low, headline.high) == (0.1, 0.5)
    assert "0.2" not in str(headline)
    assert str(headline) == "within 0.10 … 0.50"


def test_a_distance_with_a_singular_covariance_has_no_interval_and_separates_nothing():
    def distance(system, value, corrected):
        numbers = {"corrected": corrected, "corrected_low": corrected - 1, "corrected_high": corrected + 1}
        return Estimate(
            system=system, metric="fad", identity="i", name="fad", value=value, low=value - 1, high=value + 1,
            interval="95% jackknife", better="lower", n_reference=9,
            calibration=Calibration(floor=1.0, trust="rank_deficient", **numbers),
        )  # fmt: skip

    few, many = distance("few", 90.0, 52.0), distance("many", 30.0, 0.0)
    headline = few.headline()
    assert headline.kind == "uncorrected"
    assert math.isnan(headline.low)
    assert all(standing.text == "1–2" for standing in standings([few, many]).values())


def test_one_system_known_by_bounds_puts_all_on_the_held_out_scale():
    clear = divergence("clear", held_out=0.3, held_out_common=0.02, common_phones=500)
    short = divergence("short", trust="bounds_only", held_out=0.01, held_out_common=0.01, common_phones=500)
    assert [quantity.kind for quantity in common_scale([clear, short])] == ["held-out", "held-out"]
    assert [estimate.system for estimate in ranked([clear, short])] == ["short", "clear"]
    assert [quantity.kind for quantity in common_scale([clear, clear])] == ["corrected", "corrected"]


def test_estimates_return_from_json_number_for_number():
    plain = Estimate(system="a", metric="m", identity="i", name="x", value=math.nan, reason="none", n_failed=2)
    for estimate in (divergence(), plain):
        text = json.dumps(estimate.as_json(), allow_nan=False)
        again = Estimate.from_json(json.loads(text))
        assert again.as_json() == estimate.as_json()
        assert (again.calibration is None) == (estimate.calibration is None)
    assert "trust" in plain.as_json()  # the keys are the same for every kind


@pytest.mark.parametrize(
    ("low", "high", "decimals"), [(0.31, 0.42, 3), (1200.0, 1400.0, 0), (0.0, 1e-9, 6), (2.0, 2.0, None)]
)
def test_an_interval_decides_the_decimals(low, high, decimals):
    assert decimals_of(low, high) == decimals


def test_unknown_numbers_are_a_dash_for_readers_and_null_for_machines():
    assert format_number(None) == format_number(math.inf) == "—"
    assert format_number(-0.0004, 2) == "0.00"
    assert format_value(0.5, math.nan, math.nan) == "0.5"
    assert to_json({"a": (1, math.inf), "b": {"c": math.nan}}) == {"a": [1, None], "b": {"c": None}}


def test_real_speech_has_a_row_of_its_own_in_tables_for_papers_and_notebooks():
    result = ScoreResult(estimates=(divergence("a"), divergence("b")))
    (grid,) = grids(result)
    assert grid.rows[0] == ("real speech", "0 (floor 0.010)")
    assert [row[0] for row in grid.rows] == ["real speech", "a", "b"]
    assert "real speech" in result.to_latex()
    plain = Estimate(system="a", metric="m", identity="i", name="x", value=2.0)
    assert [row[0] for row in grids(ScoreResult(estimates=(plain,)))[0].rows] == ["a"]
    assert "| real speech | 0.010 |" in markdown(result)
