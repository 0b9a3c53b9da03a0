"""The documentation's Python blocks run, and the README names every room there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCKS = [
    (path.name, block)
    for path in sorted((ROOT / "docs").glob("*.md"))
    # the tutorials' blocks are files of a plugin, which tests/scaffold installs and tests
    if not path.name.startswith("writing-a-")
    for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)
]


@pytest.mark.parametrize(("name", "block"), BLOCKS, ids=[f"{name}-{n}" for n, (name, _) in enumerate(BLOCKS)])
def test_a_block_runs(name, block):
    exec(compile(block, name, "exec"), {"__name__": name})


def test_the_readme_names_every_module():
    text = (ROOT / "README.md").read_text()
    for path in (ROOT / "cdslm_eval").iterdir():
        if not path.name.startswith("__") and path.suffix in ("", ".py") and path.name != "py.typed":
            assert path.name in text, path.name
