"""The report: escaped, self-contained, and working in a real browser."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.report import write_report
from cdslm_eval.results.estimate import Calibration, Estimate
from cdslm_eval.results.score_result import Exemplar, Failure, NgramContribution, ScoreResult, Take

EVIL = "</title><script>alert('x')</script>\"'<img src=x onerror=alert(1)>$\\frac$"


@pytest.fixture
def result(tone_set):
    sources = ClipSet.open(tone_set("s", 3)).sources

    def estimate(system, n, value):
        return Estimate(
            system=system, metric="pjsd", identity=EVIL, name=f"pjsd_{n}", value=value, low=value / 2, high=value,
            interval="bounds", unit="bits", better="lower", n_scored=3, reason=EVIL if n == 1 else "",
            calibration=Calibration(
                floor=value / 3, corrected=value / 2, corrected_low=value / 3, corrected_high=value,
                held_out=-0.01, held_out_common=0.02, common_phones=700, trust="ok",
            ),
        )  # fmt: skip

    estimates = [estimate(system, n, 0.1 * n) for system in (EVIL, "plain") for n in (1, 2, 3)]
    estimates.append(
        Estimate(system=EVIL, metric="signal", identity="i", name="duration", value=math.nan, reason="none")
    )
    return ScoreResult(
        estimates=tuple(estimates),
        failures=(Failure(EVIL, EVIL, EVIL, "failed", EVIL),),
        contributions=(
            NgramContribution(
                system="plain", order=1, ngram=(EVIL, "b"), generated=0.2, reference=0.1, bits=0.01, clips=("c00",)
            ),
        ),
        exemplars=tuple(
            Exemplar(system="plain", rank=rank, key=EVIL, path=source.path, score=1.0, phones=(EVIL,))
            for rank, source in zip(("best", "middle", "worst"), sources, strict=True)
        ),
        warnings=(EVIL,),
        settings={"reference": EVIL, "seed": 0},
        clip_paths={("plain", "c00"): sources[0].path},
    )


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen, self.links = [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]
        assert not any(name.startswith("on") for name, _ in attributes)


def test_nothing_that_strangers_wrote_becomes_html(result, tmp_path):
    page = write_report(result, tmp_path / "out").read_text()
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.seen
    assert all(link.startswith(("#", "data:")) for link in tags.links)
    assert tags.seen.count("title") == 1
    assert "alert(&#39;x&#39;)" in page


@pytest.fixture
def with_takes(result):
    paths = [exemplar.path for exemplar in result.exemplars]
    takes = [
        Take(key=key, system=system, path=path, prompt_seconds=seconds)
        for key in ("k1", EVIL)
        for (system, seconds), path in zip((("", None), (EVIL, 0.125), ("plain", None)), paths, strict=True)
    ]
    return dataclasses.replace(result, takes=tuple(takes))


def test_shared_keys_play_next_to_each_other_with_one_script_of_ours(with_takes, tmp_path):
    page = write_report(with_takes, tmp_path / "out").read_text()
    tags = Tags()
    tags.feed(page)
    assert tags.seen.count("script") == 1
    digest = base64.b64encode(
        hashlib.sha256(re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1].encode()).digest()
    )
    assert f"script-src 'sha256-{digest.decode()}'" in page
    assert all(link.startswith(("#", "data:")) for link in tags.links)
    assert page.count('<div class="take">') == 2
    # a clip of 0.5 s whose first 0.125 s are the prompt, and the prompt itself, for both keys
    assert page.count("width:25.0%") == 2
    assert page.count("width:100%") + page.count("width:100.0%") == 2


def test_the_page_stands_alone_and_unknown_numbers_are_dashes(result, tmp_path):
    page = write_report(result, tmp_path / "out").read_text()
    tags = Tags()
    tags.feed(page)
    assert all(link.startswith(("#", "data:")) for link in tags.links)
    assert not re.search(r"\bnan\b", re.sub(r"data:[^\"]*", "", page).lower())
    assert "—" in page
    assert {path.suffix for path in (tmp_path / "out" / "figures").iterdir()} == {".svg"}
    assert write_report(result, tmp_path / "again").read_text() == page


def test_names_that_no_font_or_encoding_holds_are_drawn_all_the_same(tmp_path):
    names = ("\udce9.wav", "a\x00\x1b", "\u8a9e", "a/b", "a-b")
    measured = [
        Estimate(system=name, metric="m", identity="i", name="x", value=1.0, low=0.5, high=2.0) for name in names
    ]
    page = write_report(ScoreResult(estimates=tuple(measured)), tmp_path / "out")
    assert "\u8a9e" in page.read_text()
    for figure in (tmp_path / "out" / "figures").iterdir():
        ET.fromstring(figure.read_text())


def test_a_real_browser_shows_the_table_and_can_play(result, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on this machine")
    page = write_report(result, tmp_path / "out")
    text = page.read_text()
    probe = (
        "<script>addEventListener('load',()=>{const a=document.querySelector('audio');"
        "const say=()=>{document.body.dataset.seconds=a.error?-1:a.duration;document.body.dataset.rows="
        "document.querySelectorAll('#scores tbody tr').length};"
        "a.preload='auto';a.onloadedmetadata=say;a.load()})</script>"
    )
    # the page itself allows no script; the probe goes into a copy
    probed = tmp_path / "probed.html"
    probed.write_text(re.sub(r"<meta http-equiv[^>]*>", "", text).replace("</body>", probe + "</body>"))

    def open_in_browser(target):
        return subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--enable-logging=stderr",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom", f"file://{target}",
            ],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip

    plain = open_in_browser(page)
    assert "CONSOLE" not in plain.stderr
    assert "<table" in plain.stdout
    for _ in range(10):
        dom = open_in_browser(probed).stdout
        # the browser's virtual time may end before the decoder, which works in real time, on a busy machine
        if length := re.search(r'data-seconds="([\d.]+)"', dom):
            break
    # the decoder took the file: its length is known (0.5 s, and what MP3 frames pad)
    assert 0.4 < float(length[1]) < 0.7
    assert re.search(r'data-rows="9"', dom)


def test_the_keyboard_moves_through_shared_keys_in_a_real_browser(with_takes, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on this machine")
    text = write_report(with_takes, tmp_path / "out").read_text()
    probe = (
        "<script>addEventListener('load',()=>{"
        "const press=key=>document.dispatchEvent(new KeyboardEvent('keydown',{key}));"
        "const shown=()=>[...document.querySelectorAll('.take')].map(t=>t.hidden?0:1).join('');"
        "const played=[];HTMLMediaElement.prototype.play=function(){played.push(this.getAttribute('aria-label'))};"
        "const first=shown();press('n');const second=shown();press('3');press('9');press('n');"
        "document.body.dataset.shown=[first,second,shown()].join();document.body.dataset.played=played.join('|')})</script>"
    )
    probed = tmp_path / "probed.html"
    probed.write_text(re.sub(r"<meta http-equiv[^>]*>", "", text).replace("</body>", probe + "</body>"))
    dom = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--virtual-time-budget=2000",
         f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"file://{probed}"],
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    assert 'data-shown="10,01,10"' in dom
    assert 'data-played="plain, k1"' in dom


def test_every_row_of_every_table_has_a_cell_under_each_heading(result, tmp_path, column_counts):
    page = write_report(result, tmp_path / "out").read_text()
    tables = column_counts(page)
    assert any("used by plain" in caption for caption, _ in tables)
    assert all(len(set(counts)) == 1 and counts[0] > 1 for _, counts in tables), tables
    # the n-gram's order is the second cell, its shares of the two sides in percent the third and fourth
    row = re.search(r"<td>1</td><td>20</td><td>10</td><td>10</td>", page)
    assert row
