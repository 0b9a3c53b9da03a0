"""Gates: the grammar, the judgement on confidence bounds, and how many clips would decide."""

from __future__ import annotations

import dataclasses
import math
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdslm_eval.core.errors import UsageError
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.suite.gates import judge, parse_gate, quantity_of_estimate

NUMBERS = st.floats(-5, 5).map(lambda x: round(x, 3))


def estimate(value, low, high, **more):
    frame = {"system": "s", "metric": "m", "identity": "i", "name": "x", "interval": "95% t", "n_scored": 100}
    return Estimate.from_json({**frame, "value": value, "low": low, "high": high, **more})


def judged(text, judgement, undecided="fail"):
    gate = parse_gate(text)
    return judge(gate, text, "s", quantity_of_estimate(gate, judgement), undecided)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pjsd_2.high < 0.35", ("pjsd_2", "value", "high", "<", "", 0.35)),
        ("dnsmos_ovrl >= baseline - 0.1", ("dnsmos_ovrl", "value", "", ">=", "baseline", -0.1)),
        ("pjsd_2.corrected.low>-1e-3", ("pjsd_2", "corrected", "low", ">", "", -0.001)),
        ("pjsd_1.held_out <= .05", ("pjsd_1", "held_out", "", "<=", "", 0.05)),
        ("wer<recorded", ("wer", "value", "", "<", "recorded", 0.0)),
    ],
)
def test_a_gate_is_read(text, expected):
    gate = parse_gate(text)
    assert (gate.name, gate.part, gate.end, gate.op, gate.against, gate.number) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "character 1: the name of a value is expected here, and the text ends"),
        ("x == 1", "character 3: '==' cannot be judged on an interval"),
        ("x < baselin", "Did you mean 'baseline'?"),
        ("x.hihg < 1", "Did you mean 'high'?"),
        ("x < 1 2", "character 7: '2' is one thing too many"),
        ("x < open", "'open' is no bound"),
        ("x < __import__('os')", "character 15: '(' means nothing here"),
        ("x.high < baseline", "a difference to baseline has an interval of its own"),
        ("x.held_out.low < 1", "held_out is one number"),
        ("x < 1;", "character 6: ';' means nothing here"),
        ("x < 2%", "character 6: '%' means nothing here; write a share as a number: 2% is 0.02"),
        ("x < baseline * 1.05", "character 14: '*' means nothing here; a factor has no interval; write a difference"),
    ],
)
def test_what_is_no_gate_is_reported_with_its_place(text, message):
    with pytest.raises(UsageError) as caught:
        parse_gate(text)
    assert message in str(caught.value)


@given(st.text(max_size=40) | st.text("x.<>=+-1e ", max_size=12))
def test_any_text_is_a_gate_or_a_usage_error(text):
    try:
        gate = parse_gate(text)
    except UsageError:
        return
    assert gate.op in ("<", "<=", ">", ">=")
    assert parse_gate(f"  {gate.text}  ") == dataclasses.replace(gate, text=f"  {gate.text}  ")


@given(NUMBERS, NUMBERS, NUMBERS, st.sampled_from(["<", "<=", ">", ">="]), st.sampled_from(["pass", "fail"]))
def test_a_gate_is_decided_only_when_every_value_of_the_interval_agrees(a, b, bound, op, undecided):
    low, high = sorted((a, b))
    judgement = judged(f"x {op} {bound:.3f}", estimate((low + high) / 2, low, high), undecided)
    compare = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}[op]
    outcomes = {compare(value, bound) for value in (low, (low + high) / 2, high)}
    if compare(low, bound) == compare(high, bound):
        assert judgement.status == ("pass" if outcomes == {True} else "fail")
        assert judgement.counts_as == judgement.status
    else:
        assert judgement.status == "undecided"
        assert judgement.counts_as == undecided


def test_the_lenient_end_alone_asks_only_that_the_contrary_was_not_shown():
    judgement = estimate(0.4, 0.2, 0.6)
    assert judged("x < 0.35", judgement).status == "undecided"
    assert judged("x.high < 0.35", judgement).status == "undecided"
    assert judged("x.low < 0.35", judgement).status == "pass"
    assert judged("x.low < 0.1", judgement).status == "fail"
    assert judged("x.high > 0.7", judgement).status == "fail"


def test_an_open_end_decides_only_what_it_cannot_change():
    judgement = estimate(0.5, 0.4, None, reason="its upper end is open")
    assert judged("x > 0.3", judgement).status == "pass"
    assert judged("x < 0.3", judgement).status == "fail"
    undecided = judged("x < 0.6", judgement)
    assert undecided.status == "undecided"
    assert "0.5 (0.4 … open)" in undecided.sentence
    assert "its upper end is open" in undecided.sentence
    assert undecided.more_clips is None


def test_clips_that_are_all_alike_decide_the_lenient_end_only():
    judgement = estimate(0.5, None, None, reason="all clips have the same value")
    assert judged("x > 0.2", judgement).status == "undecided"
    assert "all clips have the same value" in judged("x > 0.2", judgement).sentence
    assert judged("x.high > 0.2", judgement).status == "pass"
    assert judged("x.high > 0.7", judgement).status == "undecided"


def test_the_clips_that_would_decide_would_bring_the_interval_to_the_bound():
    judgement = judged("x < 0.5", estimate(0.45, 0.35, 0.55))
    assert judgement.status == "undecided"
    # the half-width of 0.1 must become 0.05: four times the 100 clips
    assert judgement.more_clips == pytest.approx(300, abs=1)
    assert "about 300 more clips" in judgement.sentence
    # a value on the bound is decided by no number of clips
    assert judged("x < 0.45", estimate(0.45, 0.35, 0.55)).more_clips is None


def test_a_value_that_is_not_known_never_passes():
    judgement = judged("x < 0.5", estimate(math.nan, math.nan, math.nan, reason="no clips"), "pass")
    assert (judgement.status, judgement.counts_as) == ("unmeasured", "fail")
    assert "no clips" in judgement.sentence
    judgement = judged("x < 0.5", estimate(0.1, math.nan, math.nan), "pass")
    assert (judgement.status, judgement.counts_as) == ("undecided", "pass")


def test_a_corrected_value_that_cannot_be_trusted_decides_nothing():
    numbers = {"corrected": 0.1, "corrected_low": 0.05, "corrected_high": 0.15, "interval": "bounds"}
    trusted = estimate(0.3, 0.0, 0.4, trust="ok", **numbers)
    doubtful = estimate(0.3, 0.0, 0.4, trust="bounds_only", **numbers)
    assert judged("x.corrected < 0.2", trusted).status == "pass"
    assert judged("x.corrected < 0.2", doubtful).status == "undecided"
    assert judged("x.corrected.high < 0.1", trusted).status == "undecided"


def test_a_matched_value_is_judged_and_an_acoustic_one_says_so():
    noisy = estimate(
        0.3, 0.1, 0.4, interval="bounds", trust="acoustic", corrected=0.2, corrected_low=0.15, corrected_high=0.25,
        floor=0.02, matched=0.01, matched_low=-0.01, matched_high=0.03, audible=0.08, audible_clean=0.1,
        audible_clean_low=0.09,
    )  # fmt: skip
    assert noisy.headline().kind == "corrected"
    matched = judged("x.matched < 0.05", noisy)
    assert (matched.status, matched.quantity, matched.high) == ("pass", "matched", 0.03)
    corrected = judged("x.corrected < 0.05", noisy)
    assert corrected.status == "fail"
    assert "its channel alone makes real speech differ as much" in corrected.sentence
    assert "channel" not in judged("x.corrected < 0.05", estimate(0.3, 0.1, 0.4, trust="ok", corrected=0.2)).sentence
    deaf = dataclasses.replace(noisy, acoustics=dataclasses.replace(noisy.acoustics, audible=0.01))
    assert "cannot tell languages apart" in judged("x.matched < 0.05", deaf).sentence
    assert judged("x.matched < 0.05", estimate(0.3, 0.1, 0.4)).status == "unmeasured"
