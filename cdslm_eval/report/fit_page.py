"""What the pages of fits share: sections, figures as SVG, PNG and PDF, the page itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cdslm_eval.core.drawing import pdf, png, svg
from cdslm_eval.report.html import environment, inline
from cdslm_eval.scaling.output.figures.parts import paper_style
from cdslm_eval.scaling.output.text import View
from cdslm_eval.scaling.table import Excluded

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

__all__ = ["Picture", "Section", "drawn", "picture", "render"]

_MOST_EXCLUDED = 200
# at this width the figures' 8 pt letters are as large as the page's small print
_REM_PER_INCH = 7.5


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure on the page."""

    svg: Markup
    caption: str
    width_rem: float


@dataclass(slots=True)
class Section:
    """A part of the page.

    Attributes:
        anchor, title: Its id and heading.
        paragraphs, tables, figures: What it holds, in this order but for figures, which come before tables.
        links: (words, address) of further pages.
    """

    anchor: str
    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[View] = ()
    figures: list[Picture] = field(default_factory=list)
    links: Sequence[tuple[str, str]] = ()


def picture(figure: Figure, name: str, index: int, caption: str, files: dict[str, str | bytes]) -> Picture:
    """Return a figure for the page, and add its files below `figures/`.

    Args:
        figure: Drawn, but not laid out.
        name: Of the files.
        index: Of the figure on the page, so that no id repeats.
        caption: In words.
        files: To which the figure's are added.
    """
    text = drawn(figure, f"figures/{name}", files)
    return Picture(inline(text, index), caption, round(_REM_PER_INCH * figure.get_figwidth() + 1, 1))


def drawn(figure: Figure, stem: str, files: dict[str, str | bytes]) -> str:
    """Add a figure's files, and return it as SVG."""
    with paper_style():
        text = svg(figure)
        # laid out by now; a second time would find the same
        figure.set_layout_engine("none")
        files |= {f"{stem}.svg": text, f"{stem}.png": png(figure), f"{stem}.pdf": pdf(figure)}
    return text


def render(
    *,
    title: str,
    headline: str,
    sections: Sequence[Section],
    data: Sequence[tuple[str, Any]],
    document: Mapping[str, Any],
    verdict: str = "",
    warnings: Sequence[str] = (),
    excluded: Sequence[Excluded] = (),
) -> str:
    """Return the page.

    Args:
        title: Of the page.
        headline, verdict: Its first lines.
        sections: Its parts.
        data: (name, text) of what is known of the rows.
        document: The JSON beside it, of which `quote` and `settings` are shown.
        warnings: What a reader must know.
        excluded: Rows that are not used.
    """
    return (
        environment()
        .get_template("fit.html.j2")
        .render(
            title=title,
            headline=headline,
            verdict=verdict,
            warnings=warnings,
            sections=sections,
            data=data,
            excluded=excluded,
            unused=[(entry.line, entry.reason) for entry in excluded[:_MOST_EXCLUDED]],
            most=_MOST_EXCLUDED,
            quote=document["quote"],
            settings=json.dumps(document["settings"], indent=1, ensure_ascii=False),
        )
    )
