"""Writes a comparison of two systems as one HTML page: the verdicts first, the table, what to quote."""

from __future__ import annotations

import json
from pathlib import Path

from cdslm_eval.report.html import environment, write_files
from cdslm_eval.results.channel_grid import channel_grids
from cdslm_eval.results.comparison_result import ComparisonResult
from cdslm_eval.results.recognition_gain import gain_lines

__all__ = ["write_comparison"]


def write_comparison(result: ComparisonResult, folder: Path) -> Path:
    """Write `index.html` and `result.json`.

    Args:
        result: What was compared.
        folder: Made when absent; files of an earlier page are replaced.

    Returns:
        The page.

    Raises:
        UsageError: The folder cannot be written.
        StoreError: The disk is full.
    """
    template = environment().get_template("comparison.html.j2")
    grids = [result.grid(), *channel_grids(result.channel, result.estimates)]
    page = template.render(result=result, grids=grids, sentences=_sentences(result), quote=result.quote())
    document = json.dumps(result.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
    write_files(folder, {"index.html": page, "result.json": document})
    return folder / "index.html"


def _sentences(result: ComparisonResult) -> list[str]:
    """Return each verdict with the values it holds for."""
    names: dict[str, list[str]] = {}
    for difference in result.differences:
        names.setdefault(result.verdict(difference), []).append(difference.name)
    gains = (f"{line[:1].upper()}{line[1:]}." for line in gain_lines(result.recognition_gain))
    return [*(f"{', '.join(group)}: {verdict}." for verdict, group in names.items()), *gains]
