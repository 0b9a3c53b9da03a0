"""Columns of records as the arrays of a RunTable, and rules over them ("loss>3.4"); bad rows are named by line."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UnknownNameError, UsageError, did_you_mean
from cdslm_eval.core.records import Record, has_comma, parse_number, parse_quantity

__all__ = ["ROLES", "Built", "Columns", "build", "matches", "usual"]

_USUAL = {
    "N": ("n", "params", "parameters", "model size", "n params", "num params", "param count"),
    "D": ("d", "tokens", "training tokens", "train tokens", "n tokens", "num tokens"),
    "C": ("c", "flops", "flop", "training flops", "training flop", "train flops", "compute"),
    "F": ("flops per token", "flop per token", "flops/token"),
    "weight": ("weight", "weights"),
    "run": ("run", "run id", "system"),
    "split": ("split",),
    "isoflop": ("isoflop", "budget"),
}
ROLES = tuple(_USUAL)
"""What a column may be to a fit, "F" being FLOPs per token."""
_SPLITS = {"train": "train", "fit": "train", "": "train", "test": "test", "held-out": "test", "heldout": "test"}


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ").replace("-", " ")


def usual(role: str, names: Sequence[str]) -> list[str]:
    """Return the columns whose names a role usually has.

    Example:
        >>> usual("C", ["flops", "n_star", "Training FLOP"])
        ['flops', 'Training FLOP']
    """
    return [name for name in names if _plain(name) in _USUAL[role]]


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column holds what.

    Attributes:
        roles: "N", "D", "C", "F" (FLOPs per token), "weight", "run", "split", "isoflop" -> column name, where it
            exists.
        rest: The other columns, in order: metrics, labels, conventions.
    """

    roles: Mapping[str, str]
    rest: tuple[str, ...]

    @classmethod
    def find(cls, rows: Sequence[Record], given: Mapping[str, str], source: str) -> Columns:
        """Find the columns: as `given`, else by their usual names.

        Raises:
            UsageError: A given column is not there, a role has two candidates, or two of N, D, C are missing.
        """
        if not rows:
            raise UsageError(f"{source}: it has no rows")
        names = list(dict.fromkeys(str(name) for _, row in rows for name in row))
        for role, name in given.items():
            if role not in _USUAL:
                raise UnknownNameError("column role", role, _USUAL)
            if name not in names:
                hint = did_you_mean(name, names) or f" It has: {', '.join(names)}."
                raise UsageError(f"{source}: no column {name!r} for {role}.{hint}")
        roles = dict(given)
        for role in _USUAL:
            if role in roles:
                continue
            candidates = usual(role, [name for name in names if name not in roles.values()])
            numeric = [name for name in candidates if role not in "NDC" or _counts(rows, name)]
            if len(numeric) > 1 and role in numeric:
                numeric = [role]
            if len(numeric) > 1:
                raise UsageError(f"{source}: {' and '.join(numeric)} may both be {role}; choose with {role}=COLUMN")
            if numeric:
                roles[role] = numeric[0]
        missing = [role for role in "NDC" if role not in roles]
        # FLOPs per token turn tokens into compute, and compute into tokens
        if "F" in roles and missing in (["D"], ["C"]):
            missing = []
        if len(missing) > 1:
            raise UsageError(
                f"{source}: two of N, D and C are needed, and {' and '.join(missing)} are not found among the columns "
                f"{', '.join(names)}; name them, such as N=COLUMN,C=COLUMN"
            )
        return cls(roles, tuple(name for name in names if name not in roles.values()))


def _counts(rows: Sequence[Record], name: str) -> bool:
    """Return whether a column holds counts at least half of the times that it holds anything."""
    good = bad = 0
    for _, row in rows:
        try:
            good += not math.isnan(parse_quantity(row.get(name)))
        except ValueError:
            bad += 1
    return good > 0 and good >= bad


class _Usable(NamedTuple):
    """A row with all counts: its line, its cells, its N, D, C and weight by name, and its split."""

    line: int
    row: Mapping[str, Any]
    counts: dict[str, float]
    split: str


@dataclass(slots=True)
class Built:
    """What `build` returns: arrays by the names of RunTable's fields, and what was noted on the way."""

    arrays: dict[str, Any]
    derived: str
    conventions: dict[str, str]
    excluded: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def build(rows: Sequence[Record], columns: Columns, k: float, source: str) -> Built:
    """Turn records into arrays.

    Raises:
        UsageError: No row can be used.
    """
    roles = columns.roles
    derived = "" if "F" in roles else next((role for role in "NDC" if role not in roles), "")
    excluded: list[tuple[int, str]] = []
    usable: list[_Usable] = []
    for line, row in rows:
        try:
            counts = _row_counts(row, roles, k, derived)
            split = _split(row.get(roles["split"]) if "split" in roles else None)
        except ValueError as error:
            excluded.append((line, str(error)))
        else:
            usable.append(_Usable(line, row, counts, split))
    if not usable:
        line, reason = excluded[0]
        raise UsageError(f"{source}: no row can be used; line {line}: {reason}")
    notes: list[str] = []
    conventions, odd = _conventions(usable, columns.rest)
    notes += odd
    computed = np.array(["computed" in entry.counts for entry in usable], bool)
    if computed.all():
        derived, computed = "C", np.zeros(len(usable), bool)
    if computed.any():
        first = usable[int(np.argmax(computed))].line
        where = f"{int(computed.sum())} of {len(usable)} rows, from line {first}"
        conventions["C"] = f"computed as {k:g} N D in {where}, in which it is missing"
    metrics, labels = _values(usable, [name for name in columns.rest if not _is_convention(name)], excluded, source)
    lines = np.array([entry.line for entry in usable], np.int64)
    runs = [_text(entry.row.get(roles["run"])) if "run" in roles else "" for entry in usable]
    arrays: dict[str, Any] = {
        name: np.array([entry.counts[name] for entry in usable], float) for name in ("N", "D", "C", "weight")
    }
    arrays |= {
        "computed": computed,
        "metrics": metrics,
        "labels": labels,
        "line": lines,
        "run": np.array([run or f"line {line}" for run, line in zip(runs, lines, strict=True)], dtype=str),
        "split": np.array([entry.split for entry in usable], dtype=str),
        "isoflop": np.array(
            [_text(entry.row.get(roles["isoflop"])) if "isoflop" in roles else "" for entry in usable], dtype=str
        ),
    }
    return Built(arrays, derived, conventions, sorted(excluded), notes)


def _row_counts(row: Mapping[str, Any], roles: Mapping[str, str], k: float, derived: str) -> dict[str, float]:
    counts: dict[str, float] = {}
    for role in ("N", "D", "C", "F"):
        if role not in roles:
            continue
        try:
            value = parse_quantity(row.get(roles[role]))
        except ValueError as error:
            raise ValueError(f"{role}: {error}") from error
        if math.isnan(value):
            if role == "C" and {"N", "D"} <= counts.keys():
                counts["C"] = math.nan
                continue
            raise ValueError(f"{role} is missing")
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{role} must be above 0 and finite, not {value:g}")
        counts[role] = value
    per_token = counts.pop("F", math.nan)
    if not math.isnan(per_token):
        if math.isnan(counts.get("C", math.nan)):
            counts["C"] = per_token * counts.get("D", math.nan)
        counts.setdefault("D", counts["C"] / per_token)
    if math.isnan(counts.get("C", 0.0)):
        # checkpoints often come without the measured C of their final rows
        counts["C"] = k * counts["N"] * counts["D"]
        counts["computed"] = 1.0
    if derived:
        counts[derived] = {
            "N": lambda: counts["C"] / (k * counts["D"]),
            "D": lambda: counts["C"] / (k * counts["N"]),
            "C": lambda: k * counts["N"] * counts["D"],
        }[derived]()
    weight = parse_number(row.get(roles["weight"])) if "weight" in roles else 1.0
    if not (math.isfinite(weight) and weight > 0):
        raise ValueError(f"the weight must be above 0 and finite, not {weight:g}")
    counts["weight"] = weight
    return counts


def _split(value: Any) -> str:
    word = _text(value).lower()
    if word not in _SPLITS:
        raise ValueError(f"the split must be train or test, not {word!r}")
    return _SPLITS[word]


def _text(value: Any) -> str:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value).strip()


def _is_convention(name: str) -> bool:
    return "convention" in _plain(name).split() or "conventions" in _plain(name).split()


def _conventions(usable: Sequence[_Usable], rest: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the texts of the columns of conventions, and a sentence for each of which the rows disagree."""
    conventions, notes = {}, []
    for name in filter(_is_convention, rest):
        first: dict[str, int] = {}
        for line, row, *_ in usable:
            first.setdefault(_text(row.get(name)), line)
        conventions[name] = " | ".join(first)
        if len(first) > 1:
            which = ", ".join(f"{value or 'nothing'!r} from line {line}" for value, line in first.items())
            notes.append(f"mixed conventions in {name!r}: {which}; fit them apart")
    return conventions, notes


def _values(
    usable: Sequence[_Usable],
    names: Sequence[str],
    excluded: list[tuple[int, str]],
    source: str,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the columns of numbers, and those of texts; a bad cell among numbers is NaN and listed.

    Raises:
        UsageError: Every cell of a column is a number with a decimal comma or separators of thousands.
    """
    metrics, labels = {}, {}
    for name in names:
        values, bad = [], []
        for line, row, *_ in usable:
            try:
                values.append(parse_number(row.get(name)))
            except ValueError as error:
                values.append(math.nan)
                bad.append((line, f"{name}: {error}"))
        filled = sum(not math.isnan(value) for value in values)
        if filled and filled >= len(bad):
            metrics[name] = np.array(values, float)
            excluded += bad
        elif bad and all(has_comma(row.get(name)) for _, row, *_ in usable if _text(row.get(name)).strip()):
            # else the whole column would count as labels
            line, problem = bad[0]
            raise UsageError(f"{source}: line {line}: {problem}")
        elif bad:
            labels[name] = np.array([_text(row.get(name)) for _, row, *_ in usable], dtype=str)
    return metrics, labels


Bools = npt.NDArray[np.bool_]
Arrays = Mapping[str, npt.NDArray[Any]]

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


def matches(columns: Arrays, rule: str) -> Bools:
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
    parsed = _RULE.fullmatch(rule)
    if parsed is None:
        raise UsageError(f"{rule!r} is not a rule; use loss>3.4, run=NAME, line=5,7-9 or highest:loss:5")
    name, sign, wanted = parsed[1], parsed[2].replace("==", "="), parsed[3]
    if name in {"line", "lines"} and sign == "=":
        return _lines(columns["line"], wanted, rule)
    values = _column(columns, name, rule)
    if values.dtype.kind == "U":
        if sign in ("=", "!="):
            return np.asarray(_COMPARISONS[sign](values, wanted), bool)
        values = _numbers(values, rule)
    try:
        return np.asarray(_COMPARISONS[sign](values, parse_quantity(wanted)), bool)
    except ValueError as error:
        raise UsageError(f"{rule!r}: {error}") from error


def _numbers(texts: npt.NDArray[Any], rule: str) -> npt.NDArray[np.float64]:
    """Return the numbers that a column of texts holds: as texts, "9e15" would be above "1e17"."""
    try:
        return np.array([parse_quantity(str(text)) for text in texts], float)
    except ValueError as error:
        raise UsageError(f"{rule!r}: compares by size a column of texts; {error}") from error


def _lines(lines: npt.NDArray[Any], wanted: str, rule: str) -> Bools:
    out = np.zeros(len(lines), bool)
    for part in wanted.split(","):
        match = _LINES.fullmatch(part)
        if match is None:
            raise UsageError(f"{rule!r}: lines are written as 5,7-9")
        out |= (lines >= int(match[1])) & (lines <= int(match[2] or match[1]))
    return out


def _column(columns: Arrays, name: str, rule: str) -> npt.NDArray[Any]:
    if name not in columns:
        raise UnknownNameError(f"column (in the rule {rule!r})", name, columns)
    return columns[name]
