"""What pages share: an environment that escapes, figures inlined side by side, files that are written or named."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cdslm_eval.core.errors import StoreError, UsageError
from cdslm_eval.results.numbers import format_number

__all__ = ["environment", "file_name", "inline", "write_files"]


def environment() -> Environment:
    """Return templates that escape whatever strangers wrote and refuse what is not defined."""
    made = Environment(
        loader=PackageLoader("cdslm_eval.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["number"] = format_number
    return made


def inline(svg: str, place: int) -> Markup:
    """Make the ids of one of our own SVGs its own, so that several can stand on a page."""
    svg = re.sub(r'\bid="([^"]+)"', rf'id="f{place}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#f{place}-\1)", svg)
    return Markup(re.sub(r'xlink:href="#([^"]+)"', rf'xlink:href="#f{place}-\1"', svg))  # noqa: S704 - our own SVG, text escaped by matplotlib


def file_name(name: str) -> str:
    """Return a name as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:100] or "figure"


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write a report's files below a folder; files of an earlier report are replaced.

    Raises:
        UsageError: The folder cannot be written.
        StoreError: The disk is full.
    """
    try:
        for name, content in files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            # names of strangers need not be UTF-8; what is not becomes a question mark
            target.write_bytes(content.encode("utf-8", errors="replace") if isinstance(content, str) else content)
    except OSError as error:
        kind = StoreError if error.errno == 28 else UsageError
        raise kind(f"{folder}: the report cannot be written: {error.strerror}") from error
