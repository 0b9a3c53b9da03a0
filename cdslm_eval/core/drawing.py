"""What figures share: colour-blind safe ink, a plain style, and SVG, PNG and PDF that repeat byte for byte."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BLUE", "GREEN", "GREY", "INK", "ORANGE", "PURPLE", "gap", "pdf", "png", "shown", "style", "svg"]

INK, GREY = "#1b1f24", "#9aa4ae"
BLUE, ORANGE, GREEN, PURPLE = "#2f6f9f", "#c8641e", "#2a8a6a", "#8a5a9e"

_STYLE: Mapping[str, Any] = {
    "svg.hashsalt": "cdslm-eval",
    # TrueType: journals refuse the Type 3 fonts that are the default
    "pdf.fonttype": 42,
    "font.size": 9.0,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


@contextmanager
def style(**more: Any) -> Iterator[None]:
    """Draw in one style.

    Args:
        more: Further rc parameters, dots written as double underscores: `svg__fonttype="path"`.
    """
    from matplotlib import rc_context

    merged: Any = {**_STYLE, **{name.replace("__", "."): value for name, value in more.items()}}
    with rc_context(merged):
        yield


def shown(text: str, length: int = 60) -> str:
    """Return a name as a figure can hold it: no control characters, no halves of characters, not too long."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text[:length])


def gap(value: float) -> float:
    """Return a number that is not finite as NaN, which matplotlib leaves out."""
    return value if math.isfinite(value) else math.nan


def svg(figure: Figure) -> str:
    """Return a figure as an `<svg>` element, the same bytes for the same figure."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    FigureCanvasSVG(figure)
    out = io.StringIO()
    with _glyphs_may_lack():
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def png(figure: Figure, dots_per_inch: int = 200) -> bytes:
    """Return a figure as PNG, the same bytes for the same figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    out = io.BytesIO()
    with _glyphs_may_lack():
        figure.savefig(out, format="png", dpi=dots_per_inch, metadata={"Software": None})
    return out.getvalue()


def pdf(figure: Figure) -> bytes:
    """Return a figure as PDF with TrueType letters, the same bytes for the same figure."""
    from matplotlib.backends.backend_pdf import FigureCanvasPdf

    FigureCanvasPdf(figure)
    out = io.BytesIO()
    with _glyphs_may_lack():
        figure.savefig(out, format="pdf", metadata={"CreationDate": None, "ModDate": None, "Creator": None})
    return out.getvalue()


@contextmanager
def _glyphs_may_lack() -> Iterator[None]:
    """Let a third-party name hold what no font here draws."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield
