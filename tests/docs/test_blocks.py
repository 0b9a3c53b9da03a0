"""The documentation's Python blocks run, and the README names every room there is."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PAGES = {
    path.name: re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)
    for path in sorted((ROOT / "docs").glob("*.md"))
}


@pytest.mark.parametrize("name", [name for name, blocks in PAGES.items() if blocks])
def test_the_blocks_of_a_page_run_one_after_the_other(name):
    space: dict[str, object] = {"__name__": name}
    for number, block in enumerate(PAGES[name], 1):
        exec(compile(block, f"{name}, block {number}", "exec"), space)
    metrics = [value for value in space.values() if isinstance(value, type) and hasattr(value, "statistics")]
    for metric in metrics:
        from cdslm_eval import Clip, Metric

        if metric is not Metric:
            clip = Clip(key="k", samples=np.zeros(16000, np.float32), rate_hz=16000)
            assert list(metric().measure([clip])) == [{"share": 1.0}]


def test_the_readme_names_every_module():
    text = (ROOT / "README.md").read_text()
    for path in (ROOT / "cdslm_eval").iterdir():
        if not path.name.startswith("__") and path.suffix in ("", ".py") and path.name != "py.typed":
            assert path.name in text, path.name
