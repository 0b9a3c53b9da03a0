"""Rules that name rows of a table: "loss>3.4", "run=small-3", "line=5,7-9", "highest:loss:5"."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UnknownNameError, UsageError
from cdslm_eval.core.records import parse_quantity

__all__ = ["matches"]

Bools = npt.NDArray[np.bool_]
Columns = Mapping[str, npt.NDArray[Any]]

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "<=": np.less_equal,
    ">=": np.greater_equal,
    "!=": np.not_equal,
    "<": np.less,
    ">": np.greater,
    "=": np.equal,
}
_RULE = re.compile(r"\s*(.+?)\s*(<=|>=|!=|==|=|<|>)\s*(.+?)\s*")
_RANK = re.compile(r"(highest|lowest):(.+):(\d+)")
_LINES = re.compile(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?")


def matches(columns: Columns, rule: str) -> Bools:
    """Return where a rule holds, `[rows]`.

    Args:
        columns: Name -> values `[rows]`, of numbers or of texts, with "line" among them.
        rule: The rule.

    Raises:
        UsageError: The rule cannot be read.
        UnknownNameError: It names no column.
    """
    if ranked := _RANK.fullmatch(rule.strip()):
        values = _column(columns, ranked[2], rule)
        order = np.sort(values[np.isfinite(values)])
        count = min(int(ranked[3]), len(order))
        if not count:
            return np.zeros(len(columns["line"]), bool)
        return np.asarray(values >= order[-count] if ranked[1] == "highest" else values <= order[count - 1], bool)
    found = _RULE.fullmatch(rule)
    if found is None:
        raise UsageError(f"{rule!r} is no rule; write loss>3.4, run=NAME, line=5,7-9 or highest:loss:5")
    name, sign, wanted = found[1], found[2].replace("==", "="), found[3]
    if name in {"line", "lines"} and sign == "=":
        return _lines(columns["line"], wanted, rule)
    values = _column(columns, name, rule)
    if values.dtype.kind == "U":
        return np.asarray(_COMPARISONS[sign](values, wanted), bool)
    try:
        return np.asarray(_COMPARISONS[sign](values, parse_quantity(wanted)), bool)
    except ValueError as error:
        raise UsageError(f"{rule!r}: {error}") from error


def _lines(lines: npt.NDArray[Any], wanted: str, rule: str) -> Bools:
    out = np.zeros(len(lines), bool)
    for part in wanted.split(","):
        match = _LINES.fullmatch(part)
        if match is None:
            raise UsageError(f"{rule!r}: lines are written as 5,7-9")
        out |= (lines >= int(match[1])) & (lines <= int(match[2] or match[1]))
    return out


def _column(columns: Columns, name: str, rule: str) -> npt.NDArray[Any]:
    if name not in columns:
        raise UnknownNameError(f"column (in the rule {rule!r})", name, columns)
    return columns[name]
