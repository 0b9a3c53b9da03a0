"""The documentation's Python blocks run, and the README names every room there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# the tutorials' blocks are files of a plugin, which tests/scaffold installs and tests
PAGES = [path for path in sorted((ROOT / "docs").glob("*.md")) if not path.name.startswith("writing-a-")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run_one_after_the_other(page):
    space: dict[str, object] = {"__name__": page.name}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        exec(compile(block, page.name, "exec"), space)


def test_the_readme_names_every_module():
    text = (ROOT / "README.md").read_text()
    for path in (ROOT / "cdslm_eval").iterdir():
        if not path.name.startswith("__") and path.suffix in ("", ".py") and path.name != "py.typed":
            assert path.name in text, path.name
