"""Makes text of untrusted origin safe to print on a terminal, in a log, and in cells of CSV."""

from __future__ import annotations

__all__ = ["printable", "printable_lines", "spreadsheet_cell"]

_FORMULA_STARTS = ("=", "+", "-", "@")


def printable(text: str) -> str:
    r"""Return text on one line with every character that is not printable escaped.

    A file name may hold escape sequences that repaint a terminal, a newline that forges a line of a log, a mark that
    reverses what follows, or a byte that is not UTF-8.

    Example:
        >>> print(printable("a\x1b[31m\nb"))
        a\x1b[31m\nb
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode("ascii")
        for letter in text
    )


def printable_lines(text: str) -> str:
    """Return printable lines of which the further ones are indented: a newline in a name forges no line of its own."""
    return "\n  ".join(printable(line) for line in text.split("\n"))


def spreadsheet_cell(value: object) -> object:
    """Return a printable cell of a CSV file; text that a spreadsheet would run gets an apostrophe in front.

    A tab or a carriage return in front of a formula is escaped as every character that is not printable.

    Source: OWASP, CSV injection.
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
