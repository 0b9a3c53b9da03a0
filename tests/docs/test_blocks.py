"""The documentation's Python blocks run, and the README names every room there is."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
BLOCKS = [
    (path.name, block)
    for path in sorted((ROOT / "docs").glob("*.md"))
    for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)
]


@pytest.mark.parametrize(("name", "block"), BLOCKS, ids=[f"{name}-{n}" for n, (name, _) in enumerate(BLOCKS)])
def test_a_block_runs(name, block):
    space: dict[str, object] = {"__name__": name}
    exec(compile(block, name, "exec"), space)
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
