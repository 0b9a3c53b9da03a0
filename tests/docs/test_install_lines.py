"""No page tells a reader to install from the package index what is not there without saying so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cdslm_eval.plugin.catalogue import OWN_PLUGINS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "docs/ci").iterdir()]
PAGES += (ROOT / "plugins").glob("*/README.md")
# a bare name is looked up on the index; one with an extra is met by an install that is there already
BARE = re.compile(r"pip\s+install\s+(cdslm-eval[a-z-]*)(?![\w\[-])")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_name_of_the_index_stands_beside_the_word_published(page):
    text = page.read_text()
    names = BARE.findall(text)
    assert set(names) <= {"cdslm-eval", *OWN_PLUGINS}
    assert not names or "published" in text


@pytest.mark.parametrize("name", OWN_PLUGINS)
def test_each_plugin_says_what_installs_it_today(name):
    folder = ROOT / "plugins" / name.removeprefix("cdslm-eval-")
    assert f"pip install ./plugins/{folder.name}" in (folder / "README.md").read_text()
