"""What pages share: an environment that escapes, figures that follow the page's colours, files."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from cdslm_eval.core.drawing import BLUE, GREEN, GREY, INK, ORANGE, PURPLE
from cdslm_eval.core.errors import StoreError, UsageError
from cdslm_eval.results.numbers import format_number, format_p

__all__ = ["environment", "file_name", "inline", "own_script", "raised", "write_files"]

# colours of a figure -> CSS variables of the page, so that figures turn dark with it
_THEME = {
    INK: "var(--ink)",
    GREY: "var(--grey)",
    BLUE: "var(--blue)",
    ORANGE: "var(--orange)",
    GREEN: "var(--green)",
    PURPLE: "var(--purple)",
    "#ffffff": "var(--paper)",
    "#000000": "var(--ink)",
}
_EXPONENT = re.compile(r"\^(-?)([A-Za-z]+|[0-9.]*[0-9](?:e[+-]?[0-9]+)?)")
_GREEK = {"alpha": "α", "beta": "β", "gamma": "γ"}
_COLOUR = re.compile("|".join(_THEME), re.IGNORECASE)


def environment() -> Environment:
    """Return templates that escape untrusted text and refuse undefined names."""
    templates = Environment(
        loader=PackageLoader("cdslm_eval.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["number"] = format_number
    templates.filters["p"] = format_p
    templates.filters["raised"] = raised
    return templates


def raised(text: str) -> Markup:
    """Return text with the exponents of its formulas ("C^-0.18", "N^-alpha") as superscripts; all else escaped.

    Example:
        >>> str(raised("A N^-alpha < C^0.5"))
        'A N<sup>−α</sup> &lt; C<sup>0.5</sup>'
    """

    def lift(match: re.Match[str]) -> str:
        return f"<sup>{match[1].replace('-', '−')}{_GREEK.get(match[2], match[2])}</sup>"

    # escaped before the tags are put in, so that no name can bring its own
    return Markup(_EXPONENT.sub(lift, str(escape(text))))  # noqa: S704


def inline(svg: str, number: int) -> Markup:
    """Return one of our own SVGs for a page: ids that no other figure has, colours of the page's theme."""
    svg = re.sub(r'\bid="([^"]+)"', rf'id="f{number}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#f{number}-\1)", svg)
    svg = re.sub(r'xlink:href="#([^"]+)"', rf'xlink:href="#f{number}-\1"', svg)
    # only inside style="...": a system's name may be a colour
    svg = re.sub(r'style="[^"]*"', lambda m: _COLOUR.sub(lambda c: _THEME[c[0].lower()], m[0]), svg)
    # text without a colour of its own is black in SVG
    return Markup(svg.replace("<svg ", '<svg fill="currentColor" ', 1))  # noqa: S704 - our own SVG, text escaped by matplotlib


def own_script(*names: str) -> dict[str, Markup | str]:
    """Return our own scripts as one for a template: their text, and the hash that the page's policy allows.

    Args:
        names: Files beside the templates; each keeps its names in a block of its own.
    """
    folder = files("cdslm_eval.report") / "templates"
    text = "".join((folder / name).read_text(encoding="utf-8") for name in names)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return {"script": Markup(text), "script_hash": digest}  # noqa: S704 - our own file


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
            # untrusted names need not be UTF-8; what is not becomes a question mark
            target.write_bytes(content.encode("utf-8", errors="replace") if isinstance(content, str) else content)
    except OSError as error:
        kind = StoreError if error.errno == 28 else UsageError
        raise kind(f"{folder}: the report cannot be written: {error.strerror}") from error
