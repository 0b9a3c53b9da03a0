"""The tables of docs/metrics.md are those of the recorded measurement."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import reactions
from cdslm_eval.plugin.host import Host

ROOT = Path(__file__).parents[2]


def test_the_tables_are_printed_from_the_recorded_file():
    results = json.loads(reactions.RESULT.read_text(encoding="utf-8"))
    page = reactions.PAGE.read_text(encoding="utf-8")
    assert reactions.printed(page, results) == page
    # the page is not blank where it is compared: a moved value shows
    results["values"]["dnsmos_p808"]["real"]["value"] += 1
    assert reactions.printed(page, results) != page


def test_word_error_rates_of_the_page_are_those_recorded():
    recorded = json.loads((ROOT / "benchmarks" / "results" / "word-errors.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8").replace("0.", ".")
    learners, reader = recorded["speechocean762"], recorded["librivox"]
    assert f"{learners['wer']:.3f} ({learners['low']:.3f} to {learners['high']:.3f})".replace("0.", ".") in page
    assert f"{reader['wer']:.3f} on {reader['words']} words".replace("0.", ".") in page
    assert f"at {learners['real_time_factor']:.2f} of real time".replace("0.", ".") in page


def recorded(name):
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def test_the_engines_table_is_the_recorded_one():
    results, page = recorded("transcribers"), (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    for engine in ("transformers float32", "CTranslate2 float32", "CTranslate2 int8"):
        learners, reader = results["speechocean762"][engine], results["librivox"][engine]
        equal = learners["clips_like_transformers"] + reader["clips_like_transformers"]
        cells = [f"{learners['wer']:.3f}", f"{reader['wer']:.3f}"]
        cells.append("" if engine.startswith("transformers") else f"{equal} of {learners['clips'] + reader['clips']}")
        cells.append(f"{learners['real_time_factor']:.3f}")
        row = " | ".join(cell.removeprefix("0") for cell in cells).replace("|  |", "| |")
        assert f"| {engine.split()[1]} | {row} |" in page
    # both engines in float32, the same weights: nothing may differ
    assert results["speechocean762"]["CTranslate2 float32"]["words_unlike_transformers"] == 0


def test_perplexities_of_the_page_are_those_recorded():
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    for name, texts in recorded("perplexities").items():
        if name == "measured":
            continue
        values = [float(f"{texts[way]['gen_ppl']:.3g}") for way in ("as_read", "shuffled")]
        cells = f"| {texts['texts']} | {values[0]:,.0f} | {values[1]:,.0f} | {texts['less_likely_shuffled']} |"
        assert cells in page
        assert texts["shuffled"]["gen_ppl"] > 5 * texts["as_read"]["gen_ppl"]


def test_opinions_stand_between_real_and_noisy_speech():
    conditions = {"real": 4.0, "noise 20 dB": 2.0, "resynthesis": 3.5, "shuffled words": 3.0}
    values = {name: {"value": value, "shift": [-1, -2, -0.5]} for name, value in conditions.items()}
    values |= {"200ms-tGSLM": {"value": 4.0, "shift": [0, -1, 1]}, "GSLM": {"value": 1.0, "shift": [-3, -4, -2]}}
    results = {"values": {"nisqa_mos": values, "pjsd_1": values}}
    assert reactions.standing(results)[2:] == ["| nisqa_mos | 4.00 | 2.00 | 0.25 | 0.50 | 0.00 · | 1.50 |"]


def test_each_of_our_metrics_states_its_limits_and_its_cost_or_why_there_is_none():
    rates = json.loads((ROOT / "benchmarks" / "results" / "rates.json").read_text(encoding="utf-8"))
    known = {entry["name"] for entry in (*rates["rates"], *rates["unmeasured"])}
    for name, registered in Host().registered("metric").items():
        if registered.owner.distribution.startswith("cdslm-eval"):
            assert registered.component.limits, name
            assert name in known


def signed(value):
    return f"{value:+.3f}".replace("0.", ".", 1)


@pytest.mark.parametrize("kind", ["phones", "words"])
def test_rates_of_long_clips_are_those_recorded(kind):
    page = (ROOT / "docs" / "recognizers.md").read_text(encoding="utf-8")
    results = recorded("long-clips")[kind]
    for condition, ways in results["rates"].items():
        first, *others = ways.values()
        cells = [f"{first['rate']:.3f}".removeprefix("0")]
        for way in others:
            low, high = way["interval"]
            cells.append(f"{signed(way['difference'])} [{signed(low)}, {signed(high)}]")
        assert f"| {condition} | {' | '.join(cells)} |" in page


def test_phone_errors_of_transcribed_words_are_those_recorded():
    page = " ".join((ROOT / "docs" / "recognizers.md").read_text(encoding="utf-8").split())
    reader, learners = (recorded("transcribers")[f"{name}, phones"] for name in ("librivox", "speechocean762"))
    rates = [f"{rates[name]:.3f}"[1:] for name in ("asr-phonemes", "phone-ctc") for rates in (reader, learners)]
    assert f"{rates[0]} on the LibriVox clips and {rates[1]} on 240 clips" in page
    assert f"`phone-ctc` has {rates[2]} and {rates[3]} (" in page


def test_languages_of_the_page_are_those_recorded():
    page, results = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8"), recorded("languages")["sets"]
    names = ("language_consistency", "language_probability", "language_switches", "language_fidelity")
    for condition, values in results.items():
        numbers = [f"{values[name]['value']:.2f}" for name in names]
        ends = [values["language_consistency"][side] for side in ("low", "high")]
        # clips that agree in a value between 0 and 1 have no interval
        interval = "" if None in ends else f" [{ends[0]:.2f}, {ends[1]:.2f}]"
        assert f"| {condition} | {values['clips']} | {numbers[0]}{interval} | {' | '.join(numbers[1:])} |" in page
    # what is known beforehand: one language throughout, and one switch in three steps
    assert results["real English"]["language_consistency"]["value"] == 1
    switches = results["one switch half-way, synthetic"]["language_switches"]
    assert switches["low"] <= 1 / 3 <= switches["high"]
