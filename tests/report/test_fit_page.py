"""The page of a fit: escaped, self-contained, complete, and working in a real browser from a phone's width on."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from cdslm_eval.report.fit import write_fit_report
from cdslm_eval.scaling.frontier import Resampling
from cdslm_eval.scaling.law import Law
from cdslm_eval.scaling.simulate import Plan, simulate
from cdslm_eval.scaling.study import Settings, study
from cdslm_eval.scaling.table import RunTable

EVIL = "</title><script>alert('x')</script>\"'<img src=x onerror=alert(1)>$\\frac$"


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen, self.links, self.ids = [], [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href")]
        self.ids += [value for name, value in attributes if name == "id"]
        assert not any(name.startswith("on") for name, _ in attributes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    law = Law.of("chinchilla", E=1.8, A=480.0, B=2100.0, alpha=0.35, beta=0.37)
    records = simulate(law, Plan((1e18, 1e19, 1e20), 6, 12.0), 0.004).to_records()
    for row in records:
        row[EVIL], row["convention"] = row["loss"], EVIL
    table = RunTable.from_records(records).excluding("line=2")
    out = tmp_path_factory.mktemp("page") / "out"
    write_fit_report(study(table, EVIL, Settings(resampling=Resampling(replicates=60), loss="loss", baseline=1.5)), out)
    return out


def test_the_page_stands_alone_and_nothing_that_strangers_wrote_becomes_html(folder):
    page = (folder / "index.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert not {"script", "img", "link rel=stylesheet"} & set(tags.seen)
    assert tags.seen.count("title") == 1
    assert "alert(&#39;x&#39;)" in page
    assert all(link.startswith(("#", "data:")) for link in tags.links)
    assert len(tags.ids) == len(set(tags.ids))
    assert {link[1:] for link in tags.links if link.startswith("#")} <= set(tags.ids)


def test_files_beside_the_page_hold_the_same_study(folder):
    pictures = sorted(path.name for path in (folder / "figures").iterdir())
    assert [name for name in pictures if name.endswith(".png")] == [
        name.replace(".svg", ".png") for name in pictures if name.endswith(".svg")
    ]
    assert len(pictures) == 3 * (folder / "index.html").read_text().count("<figure ")
    document = json.loads((folder / "fit.json").read_text())
    page = (folder / "index.html").read_text()
    assert document["settings"]["digest"] in page
    assert f"{document['law']['E']:#.6g}" in page
    assert not re.search(
        r"\b(nan|NaN|None|Infinity)\b", re.sub(r"data:[^\"]*|<svg.*?</svg>", "", page, flags=re.DOTALL)
    )


def test_a_real_browser_shows_it_from_a_phones_width_on(folder, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on this machine")
    text = (folder / "index.html").read_text()
    # the page itself allows no script; the probe goes into a copy, in a frame as wide as a phone
    frame = (
        "<iframe id=f width=360 height=800 srcdoc=''></iframe><script>"
        "onload=()=>{f.onload=()=>{const d=f.contentDocument;"
        "document.body.dataset.wide=d.documentElement.scrollWidth;document.body.dataset.drawn="
        "[...d.querySelectorAll('figure svg')].filter(s=>s.getBoundingClientRect().width>100).length};"
        "f.srcdoc=PAGE}</script>"
    ).replace("PAGE", json.dumps(text).replace("</", "<\\/"))
    probed = tmp_path / "probed.html"
    probed.write_text(f"<!doctype html><meta charset=utf-8><body>{frame}")

    def open_in_browser(target):
        return subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--enable-logging=stderr",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom", f"file://{target}",
            ],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip

    plain = open_in_browser(folder / "index.html")
    assert "CONSOLE" not in plain.stderr
    assert "<table" in plain.stdout
    dom = open_in_browser(probed).stdout
    assert int(re.search(r'data-wide="(\d+)"', dom)[1]) <= 360
    assert int(re.search(r'data-drawn="(\d+)"', dom)[1]) == text.count("<figure ")


def test_every_row_of_every_table_has_a_cell_under_each_heading(folder, column_counts):
    tables = column_counts((folder / "index.html").read_text())
    assert len(tables) > 3
    assert all(len(set(counts)) == 1 and counts[0] > 1 for _, counts in tables), tables


def test_it_ends_with_what_to_cite(folder):
    quote = json.loads((folder / "fit.json").read_text())["quote"]
    assert "@inproceedings{hoffmann2022chinchilla," in quote["bibtex"]
    assert "@inproceedings{hoffmann2022chinchilla," in (folder / "index.html").read_text()
    assert "cdslm-eval 0." in quote["sentences"][0]
