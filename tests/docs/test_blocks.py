"""The documentation's Python blocks run, and CONTRIBUTING names every package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {
    path.name: re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)
    for path in sorted((ROOT / "docs").glob("*.md"))
    # the tutorials' blocks are files of a plugin, which tests/scaffold installs and tests
    if not path.name.startswith("writing-a-")
}


@pytest.mark.parametrize("name", [name for name, blocks in PAGES.items() if blocks])
def test_the_blocks_of_a_page_run_one_after_the_other(name):
    space: dict[str, object] = {"__name__": name}
    for number, block in enumerate(PAGES[name], 1):
        exec(compile(block, f"{name}, block {number}", "exec"), space)


def test_contributing_names_every_package():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for path in (ROOT / "cdslm_eval").iterdir():
        if not path.name.startswith("__") and path.suffix in ("", ".py") and path.name != "py.typed":
            assert path.name in text, path.name
