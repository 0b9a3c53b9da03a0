"""Results outside the program: JSON files that are read back, data frames, tables for LaTeX and notebooks."""

from __future__ import annotations

import dataclasses
import html as _html
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cdslm_eval.core.errors import StoreError, UsageError
from cdslm_eval.results.numbers import to_json

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Grid", "build", "frame", "html", "latex", "load", "save"]

T = TypeVar("T")
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "…": r"\ldots{}", "—": "---", "–": "--", "−": "$-$",
    "↓": r"$\downarrow$", "↑": r"$\uparrow$", "±": r"$\pm$",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of text cells.

    Attributes:
        title: Its caption.
        columns: Headings.
        rows: Cells, one per column.
        left: Numbers of the columns that are set flush left; the others hold numbers.
        notes: Sentences below it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: tuple[int, ...] = (0,)
    notes: tuple[str, ...] = ()


def latex(grids: Sequence[Grid]) -> str:
    """Return tables for a document that loads booktabs; every text is escaped."""
    lines = [r"% needs \usepackage{booktabs}"]
    for grid in grids:
        align = "".join("l" if number in grid.left else "r" for number in range(len(grid.columns)))
        lines += [r"\begin{table}", r"\centering", rf"\caption{{{_tex(grid.title)}}}", rf"\begin{{tabular}}{{{align}}}"]
        lines += [r"\toprule", _tex_row(grid.columns), r"\midrule", *map(_tex_row, grid.rows), r"\bottomrule"]
        lines.append(r"\end{tabular}")
        lines += [rf"\par\footnotesize {_tex(note)}" for note in grid.notes]
        lines.append(r"\end{table}")
    return "\n".join(lines) + "\n"


def _tex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_tex, cells)) + r" \\"


def _tex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text if letter.isprintable())


def html(grids: Sequence[Grid]) -> str:
    """Return tables for a notebook; every text is escaped."""
    parts = []
    for grid in grids:
        head = "".join(f"<th>{_html.escape(heading)}</th>" for heading in grid.columns)
        body = ""
        for row in grid.rows:
            cells = (
                f'<td style="text-align:{"left" if number in grid.left else "right"}">{_html.escape(cell)}</td>'
                for number, cell in enumerate(row)
            )
            body += f"<tr>{''.join(cells)}</tr>"
        notes = "".join(f"<p><small>{_html.escape(note)}</small></p>" for note in grid.notes)
        caption = f'<caption style="text-align:left">{_html.escape(grid.title)}</caption>'
        parts.append(f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}")
    return "\n".join(parts)


def frame(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return records as a data frame.

    Raises:
        UsageError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise UsageError("a data frame needs pandas. Install: pip install pandas") from error
    return pd.DataFrame.from_records(
        [{name: math.nan if value is None else value for name, value in record.items()} for record in records]
    )


def save(path: Path | str, document: Mapping[str, Any]) -> Path:
    """Write a document as JSON, whole or not at all, and return its path.

    Raises:
        UsageError: The file cannot be written.
        StoreError: The disk is full.
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(to_json(document), indent=1, ensure_ascii=False, allow_nan=False, default=str)
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(target)
    except OSError as error:
        kind = StoreError if error.errno == 28 else UsageError
        raise kind(f"{target}: cannot be written: {error.strerror}") from error
    return target


def load(path: Path | str, what: str, fields: Sequence[str], form: str) -> dict[str, Any]:
    """Return a document that `save` wrote.

    Args:
        path: The file.
        what: What it is to be, for messages: "a comparison".
        fields: Names that it must have.
        form: The `format` that it must have where it has one.

    Raises:
        UsageError: It cannot be read, or is something else.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not {what}: not JSON ({error})") from error
    if not isinstance(document, dict) or not set(fields) <= set(document):
        raise UsageError(f"{path}: not {what}: it must be an object with {', '.join(fields)}")
    if document.get("format", form) != form:
        raise UsageError(f"{path}: not {what}: its format is {document['format']!r}")
    return document


def build(kind: type[T], record: Any, where: Path | str) -> T:
    """Return a dataclass from its JSON object; null becomes NaN where a float is declared.

    Args:
        kind: The dataclass; its fields may be tuples and mappings of dataclasses.
        record: The JSON object.
        where: The file, for messages.

    Raises:
        UsageError: A field is unknown, lacks, or holds a value of another type.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(_with_nan(kind, record, where))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or kind.__name__
        raise UsageError(f"{where}: {field}: {first['msg']}; the file is damaged or of another version") from error


def _with_nan(hint: Any, value: Any, where: Path | str) -> Any:
    """Return a JSON value with NaN where it is null and its type is float; refuse fields that a type has not."""
    if hint is float:
        return math.nan if value is None else value
    if typing.get_origin(hint) is types.UnionType and isinstance(value, dict):
        # X | None: an object is the X
        hint = next((arm for arm in typing.get_args(hint) if dataclasses.is_dataclass(arm)), hint)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        hints = typing.get_type_hints(hint)
        if unknown := sorted(set(value) - {field.name for field in dataclasses.fields(hint)}):
            # pydantic would pass over them, and a result of a later version would be read in part
            raise UsageError(
                f"{where}: {getattr(hint, '__name__', hint)} has no field {unknown[0]!r}; written by another version"
            )
        return {name: _with_nan(hints[name], item, where) for name, item in value.items()}
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_with_nan(typing.get_args(hint)[0], item, where) for item in value)
    return value
