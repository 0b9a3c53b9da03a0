"""Records: rows of a table file (CSV, TSV, JSON, JSON lines, parquet), each with its line; quantities such as `7B`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.json_text import parse_json
from cdslm_eval.core.separated import separated_rows

__all__ = ["Record", "has_comma", "parse_number", "parse_quantity", "read_records", "without_columns"]

Record = tuple[int, Mapping[str, Any]]

_PREFIX = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18, "Z": 1e21, "Y": 1e24}
_UNIT = r"(?:flops?|params?|parameters|tokens?)?"
_QUANTITY = re.compile(
    rf"([-+]?(?:\d{{1,3}}(?:,\d{{3}})+\.?\d*|\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([KMBGTPEZY]?)\s*{_UNIT}",
    re.IGNORECASE,
)
_COMMA = re.compile(r"[-+]?\d[\d.]*,[\d,.]*(?:[eE][-+]?\d+)?\s*[A-Za-z]?")
_MISSING = {"", "-", "na", "n/a", "nan", "none", "null"}


def parse_number(value: object) -> float:
    """Return a plain number; NaN where there is none.

    Raises:
        ValueError: It is neither a number nor a sign that one is missing.
    """
    if value is None or (isinstance(value, str) and value.strip().lower() in _MISSING):
        return math.nan
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a number")  # noqa: TRY004 - one kind of error for every bad cell
    try:
        return float(value)  # type: ignore[arg-type] # anything that float takes
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is not a number{_comma_hint(value)}") from None


def has_comma(value: object) -> bool:
    """Return whether a cell is a number with a decimal comma or separators of thousands, such as "2,5" or "1.234,5"."""
    return isinstance(value, str) and _COMMA.fullmatch(value.strip()) is not None


def _comma_hint(value: object) -> str:
    return "; write a point for decimals, and no separators of thousands" if has_comma(value) else ""


def parse_quantity(value: object) -> float:
    """Return a count that may carry a decimal prefix and a unit.

    Args:
        value: A number, or text such as "7e9", "7B", "1.5T tokens", "300M", "2.5 EFLOPs", "1,000,000". Prefixes are
            decimal and their case does not count; B and G are both 1e9.

    Raises:
        ValueError: It is not such a count.

    Example:
        >>> parse_quantity("7B"), parse_quantity("1.5T tokens"), parse_quantity("3e20")
        (7000000000.0, 1500000000000.0, 3e+20)
    """
    if not isinstance(value, str) or value.strip().lower() in _MISSING:
        return parse_number(value)
    match = _QUANTITY.fullmatch(value.strip())
    # "1e" is a broken exponent rather than an exa
    if match is None or match[2] == "e":
        raise ValueError(f"{value!r} is not a count (7e9, 7B, 300M, 1.5T are){_comma_hint(value)}")
    # times a power of ten in float would miss the nearest number: 2.3 * 1e9 is not 2.3e9
    exponent = round(math.log10(_PREFIX[match[2].upper()]))
    digits, _, power = match[1].replace(",", "").replace("_", "").lower().partition("e")
    return float(f"{digits}e{int(power or 0) + exponent}")


def read_records(path: Path | str) -> list[Record]:
    """Return the rows of a table file, each with its line (CSV, JSON lines) or its number from 1 (JSON, parquet).

    Raises:
        UsageError: The file is absent, is of no known kind, or is broken; the message names the line.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise UsageError(f"{path}: tables are read from {', '.join(sorted(_READERS))}")
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file")
    try:
        return list(_READERS[suffix](path))
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def without_columns(row: Mapping[str, Any], patterns: Sequence[str]) -> dict[str, Any]:
    """Return a row without the columns whose names match a pattern, such as "wall_*"."""
    return {
        name: value for name, value in row.items() if not any(fnmatchcase(str(name), pattern) for pattern in patterns)
    }


def _json_lines(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, _object(parse_json(line, (path, number)), f"{path}, line {number}")


def _json(path: Path) -> Iterator[Record]:
    document = parse_json(path.read_text(encoding="utf-8-sig"), str(path))
    rows = document.get("runs", document.get("rows")) if isinstance(document, dict) else document
    if not isinstance(rows, list):
        raise UsageError(f"{path}: a list of objects is wanted, or an object with one under 'runs'")
    for number, row in enumerate(rows, 1):
        yield number, _object(row, f"{path}, row {number}")


def _parquet(path: Path) -> Iterator[Record]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError(f"{path}: parquet needs pip install pyarrow") from error
    try:
        rows = pq.read_table(path).to_pylist()
    except pa.ArrowException as error:
        raise UsageError(f"{path}: not a parquet file ({str(error).splitlines()[0]})") from error
    yield from enumerate(rows, 1)


def _object(row: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(row, dict):
        raise UsageError(f"{where}: an object with named fields is wanted, not {type(row).__name__}")
    return row


_READERS: dict[str, Callable[[Path], Iterator[Record]]] = {
    ".csv": partial(separated_rows, delimiter=","),
    ".tsv": partial(separated_rows, delimiter="\t"),
    ".json": _json,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}
