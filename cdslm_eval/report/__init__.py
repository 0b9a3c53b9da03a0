"""The report: one self-contained HTML page, its figures as SVG files, the result as JSON."""

from __future__ import annotations

from cdslm_eval.report.page import write_report

__all__ = ["write_report"]
