"""The tables of docs/metrics.md are those of the recorded measurement."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from cdslm_eval.plugin.host import Host

ROOT = Path(__file__).parents[2]


def reactions():
    spec = importlib.util.spec_from_file_location("reactions", ROOT / "benchmarks" / "reactions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_printed_from_the_recorded_file():
    module = reactions()
    results = json.loads(module.RESULT.read_text(encoding="utf-8"))
    page = module.PAGE.read_text(encoding="utf-8")
    assert module.printed(page, results) == page
    # the page is not blank where it is compared: a moved value shows
    results["values"]["dnsmos_p808"]["real"]["value"] += 1
    assert module.printed(page, results) != page


def test_word_error_rates_of_the_page_are_those_recorded():
    recorded = json.loads((ROOT / "benchmarks" / "results" / "word-errors.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8").replace("0.", ".")
    learners, reader = recorded["speechocean762"], recorded["librivox"]
    assert f"{learners['wer']:.3f} ({learners['low']:.3f} to {learners['high']:.3f})".replace("0.", ".") in page
    assert f"{reader['wer']:.3f} on {reader['words']} words".replace("0.", ".") in page
    assert f"at {learners['real_time_factor']:.2f} of real time".replace("0.", ".") in page


def test_each_of_our_metrics_states_its_limits_and_its_cost_or_why_there_is_none():
    rates = json.loads((ROOT / "benchmarks" / "results" / "rates.json").read_text(encoding="utf-8"))
    known = {entry["name"] for entry in (*rates["rates"], *rates["unmeasured"])}
    for name, registered in Host().registered("metric").items():
        if registered.owner.distribution.startswith("cdslm-eval"):
            assert registered.component.limits, name
            assert name in known
