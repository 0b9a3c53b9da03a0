"""Reads CSV and TSV strictly: every row has the header's fields, and a quotation mark cannot swallow rows."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.remote.paths import AnyPath

__all__ = ["MAX_FIELD", "separated_rows"]

MAX_FIELD = 1 << 24
"""Longest field in characters; csv's own limit of 131,072 is under a long transcript."""


def separated_rows(path: AnyPath, delimiter: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row of a table by its first line's names, with its line.

    A TSV has no quoting: neither tabs nor line ends can occur in its fields, so a quotation mark is text. A CSV is read
    strictly: an unclosed quotation mark is an error rather than the end of the table.

    Raises:
        UsageError: The header is empty or names a column twice, a row has more or fewer fields, or it is no table.
        UnicodeDecodeError, OSError: The file cannot be read as UTF-8 text.
    """
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD))
    with path.open(encoding="utf-8-sig", newline="") as file:
        if delimiter == "\t":
            rows = csv.reader(file, delimiter=delimiter, quoting=csv.QUOTE_NONE)
        else:
            rows = csv.reader(file, delimiter=delimiter, strict=True)
        number = 1
        try:
            names = [name.strip() for name in next(rows, [])]
            _check_header(path, names, delimiter)
            width, number = len(names), rows.line_num + 1
            for row in rows:
                if len(row) == width:
                    yield number, dict(zip(names, row))  # noqa: B905 - as long as each other; strict costs a tenth
                elif row:
                    hint = " (quote a text that holds commas)" if delimiter == "," and len(row) > width else ""
                    raise UsageError(f"{path}, line {number}: {len(row)} fields where the header names {width}{hint}")
                number = rows.line_num + 1
        except csv.Error as error:
            raise UsageError(f"{path}, line {number}: not a table ({error})") from error


def _check_header(path: AnyPath, names: list[str], delimiter: str) -> None:
    if len(names) == 1 and ";" in names[0]:
        mark = "tabs" if delimiter == "\t" else "commas"
        raise UsageError(f"{path}: the fields are separated by semicolons; write {mark}, and points for decimals")
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice:
        what = f"the column {twice[0]!r} occurs twice" if twice else "it is empty"
        raise UsageError(f"{path}: the first line must name the columns, each once; {what}")
