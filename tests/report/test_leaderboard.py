"""The leaderboard: ranks against known truths, escaping, and sorting, filtering and keyboard in a real browser."""

from __future__ import annotations

import dataclasses
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.report.leaderboard import write_leaderboard
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.results.score_result import Exemplar, ScoreResult
from cdslm_eval.results.suite_result import Cell, Change, Judgement, PastValue, SuiteResult
from cdslm_eval.stats.standing import standings

EVIL = "</title></script><script>alert('x')</script>\"'<img src=x onerror=alert(1)>"


def mos(system, value, half=0.05, **more):
    frame = {"metric": "m", "identity": "m@1", "name": "mos", "interval": "95% bootstrap", "unit": "MOS"}
    frame |= {"better": "higher", "n_scored": 50, "se": half / 1.96, "degrees": 10_000}
    return Estimate.from_json(
        {"system": system, "value": value, "low": value - half, "high": value + half, **frame, **more}
    )


@pytest.fixture
def result(tone_set):
    sources = ClipSet.open(tone_set("s", 1)).sources
    estimates = [mos("b", 3.0), mos("a", 2.0), mos(EVIL, 3.02), mos("nan", math.nan, reason=EVIL)]
    estimates += [
        dataclasses.replace(estimate, name="loss", better="lower", value=-estimate.value) for estimate in estimates
    ]
    judged = Judgement(
        gate=EVIL,
        title=EVIL,
        system=EVIL,
        status="undecided",
        counts_as="fail",
        quantity=EVIL,
        sentence=EVIL,
        more_clips=9,
    )
    change = Change(
        system=EVIL, name=EVIL, unit="", better="lower", quantity="value", difference=1.0, low=0.5, high=1.5,
        p_holm=0.01, paired=True, same_clips=False,
    )  # fmt: skip
    return SuiteResult(
        name=EVIL,
        scores=ScoreResult(
            estimates=tuple(estimates),
            exemplars=(Exemplar(system=EVIL, rank="worst", key=EVIL, path=sources[0].path, score=1.0, measure=EVIL),),
            warnings=(EVIL,),
            settings={"suite": {"against": EVIL}, "seed": 0},
        ),
        judgements=(judged,),
        cells=(Cell(EVIL, EVIL, EVIL),),
        changes=(change,),
        over_budget=(EVIL,),
        past=tuple(PastValue(EVIL, f"2026-01-0{n}", "b", "mos", "m@1", 2.5 + n / 10, 2.4, 3.1) for n in (1, 2)),
    )


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen, self.links = [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]
        assert not any(name.startswith("on") for name, _ in attributes)


def test_the_page_holds_one_script_of_ours_and_no_link_outside(result, tmp_path):
    tags = Tags()
    page = write_leaderboard(result, tmp_path).read_text()
    tags.feed(page)
    assert tags.seen.count("script") == 1
    assert all(link.startswith(("#", "data:")) for link in tags.links)
    assert page.count('class="trace"') == 1
    assert write_leaderboard(result, tmp_path / "again").read_text() == page


PROBE = """<script>addEventListener('load', () => {
const all = () => [...document.querySelectorAll('#board tbody tr')];
const rows = () => all().filter((r) => !r.hidden).map((r) => r.cells[0].textContent[0]);
const data = document.body.dataset, heads = document.querySelectorAll('#board thead button');
const seen = [];
heads[1].focus(); data.focused = document.activeElement === heads[1];
heads[1].click(); seen.push(rows().join('')); data.aria = heads[1].closest('th').getAttribute('aria-sort');
heads[1].click(); seen.push(rows().join(''));
heads[0].click(); seen.push(rows().join(''));
const filter = document.getElementById('filter');
filter.value = 'B'; filter.dispatchEvent(new Event('input')); seen.push(rows().join(''));
const box = document.querySelector('input[name=column]'); box.click();
data.hidden = document.querySelector('#board thead tr').cells[1].hidden;
data.seen = seen.join('|');
data.wide = document.documentElement.scrollWidth > innerWidth;
data.dark = getComputedStyle(document.body).backgroundColor;
})</script>"""


def test_a_real_browser_sorts_filters_and_fits_narrow_screens(result, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on this machine")
    page = write_leaderboard(result, tmp_path / "out")

    def open_in_browser(target, *options):
        return subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--enable-logging=stderr",
                "--disable-background-networking", "--disable-component-update", "--disable-sync", *options,
                f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom", f"file://{target}",
            ],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip

    plain = open_in_browser(page, "--window-size=1200,900")
    # the page's policy lets its own script run: it shows the tools, and nothing complains
    assert "CONSOLE" not in plain.stderr
    assert re.search(r'<div id="tools">', plain.stdout)
    probed = tmp_path / "probed.html"
    probed.write_text(re.sub(r"<meta http-equiv[^>]*>", "", page.read_text()).replace("</body>", PROBE + "</body>"))
    dom = open_in_browser(probed, "--window-size=500,900", "--blink-settings=preferredColorScheme=0").stdout
    # best first, worst first (what is not known stays last), by name; "<" is the evil one
    assert re.search(r'data-seen="&lt;ban\|ab&lt;n\|&lt;abn\|b"', dom) or re.search(
        r'data-seen="<ban\|ab<n\|<abn\|b"', dom
    )
    assert 'data-aria="ascending"' in dom
    assert 'data-focused="true"' in dom
    assert 'data-hidden="true"' in dom
    assert 'data-wide="false"' in dom
    assert 'data-dark="rgb(20, 24, 28)"' in dom


def test_places_are_ranges_of_systems_that_differ():
    by_system = standings([mos("a", 4.0), mos("b", 3.0), mos("c", 2.99), mos("d", 1.0), mos("x", math.nan)])
    assert {system: ranked.text for (system, _), ranked in by_system.items()} == {
        "a": "1",
        "b": "2–3",
        "c": "2–3",
        "d": "4",
    }
    assert by_system["b", "mos"].ties == ("c",)
    ranked = standings([mos("a", 3.0), mos("b", 3.0)])
    assert {standing_of.text for standing_of in ranked.values()} == {"1–2"}
    assert not any(standing_of.leads for standing_of in ranked.values())
    assert standings([mos("a", 3.0, better="neither"), mos("b", 2.0, better="neither")]) == {}


def test_bounds_tell_systems_apart_only_when_they_do_not_overlap():
    measured = [
        mos(name, value, better="lower", interval="bounds", trust="bounds_only", n_reference=9)
        for name, value in (("a", 0.1), ("b", 0.15), ("c", 0.9))
    ]
    by_system = {system: standing.text for (system, _), standing in standings(measured).items()}
    assert by_system == {"a": "1–2", "b": "1–2", "c": "3"}
    # against different references there is no common ranking
    apart = standings(measured, {"a": "r", "b": "r", "c": "other"})
    assert {system: ranked.text for (system, _), ranked in apart.items()} == {"a": "1–2", "b": "1–2", "c": "1"}


def test_the_true_places_of_all_systems_lie_in_their_ranges_nearly_always():
    rng = np.random.default_rng(0)
    truth = {"a": 4.0, "b": 3.7, "c": 3.6, "d": 3.6, "e": 3.0}
    error, trials, right = 0.1, 400, 0
    for _ in range(trials):
        measured = [
            mos(name, value + error * rng.standard_normal(), half=1.96 * error) for name, value in truth.items()
        ]
        by_system = {system: standing for (system, _), standing in standings(measured).items()}
        # systems that are truly equal share the better place
        places = {name: 1 + sum(other > value for other in truth.values()) for name, value in truth.items()}
        worst = {name: sum(other >= value for other in truth.values()) for name, value in truth.items()}
        right += all(by_system[name].best <= worst[name] and by_system[name].worst >= places[name] for name in truth)
    assert right / trials >= 0.95


def test_every_row_of_every_table_has_a_cell_under_each_heading(result, tmp_path, column_counts):
    tables = column_counts(write_leaderboard(result, tmp_path).read_text())
    assert len(tables) == 3
    assert all(len(set(counts)) == 1 and counts[0] > 1 for _, counts in tables), tables


def test_it_ends_with_what_to_quote_escaped(result, tmp_path):
    page = write_leaderboard(result, tmp_path).read_text()
    quote = page[page.index('id="quote"') :]
    assert "a: mos 2.000 (1.950 … 2.050) MOS" in quote
    assert "@software{cdslm_eval" in quote
    assert "<script>alert" not in quote


def test_a_gate_has_the_digits_of_its_interval_and_no_end_that_looks_like_its_bound(result, tmp_path):
    judged = [
        dataclasses.replace(result.judgements[0], value=0.15904, low=low, high=high, bound=0.02)
        for low, high in ((0.10961, 0.20851), (0.0196, 0.2985))
    ]
    page = write_leaderboard(dataclasses.replace(result, judgements=tuple(judged)), tmp_path).read_text()
    assert "<td>0.159</td><td>0.110 … 0.209</td><td>0.02</td>" in page
    assert "<td>0.1590</td><td>0.0196 … 0.2985</td><td>0.02</td>" in page


def test_the_row_of_real_speech_stays_first_and_is_no_system(result, tmp_path):
    real = (mos("real speech", 4.5, better="neither"),)
    scores = dataclasses.replace(result.scores, real=real)
    page = write_leaderboard(dataclasses.replace(result, scores=scores), tmp_path).read_text()
    board = page[page.index('id="board"') :]
    row = re.search(r'<tbody><tr class="real">.*?</tbody>', board, re.DOTALL)[0]
    assert "<td>4.500<small>4.450 … 4.550</small></td>" in row
    assert board.index(row) < board.index('data-sort="b"')
