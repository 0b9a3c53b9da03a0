"""Estimates from the rows of a store alone, streamed: no audio, no manifest, and memory for one column a number."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.packing import unpack
from cdslm_eval.core.store import Outcome, Store
from cdslm_eval.plugin.contract import Metric
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.run.row_checks import required_columns, row_check
from cdslm_eval.run.samples import context_of
from cdslm_eval.stats.sample import Sample, SampleBuilder

__all__ = ["estimate_stored"]

Floats = npt.NDArray[np.float64]

_Check = Callable[[Outcome], bool]
_CHUNK = 5000
_LARGEST = 1e300
_NUMBERS = {int, float, type(None)}
_ROWS = "SELECT status, reason, data FROM rows WHERE identity = ? ORDER BY subject"
_ROWS_OF_FILES = (
    "SELECT path, part, digest, status, reason, data "
    "FROM files LEFT JOIN rows ON rows.identity = ? AND rows.subject = digest "
    "WHERE path >= ? AND path < ? ORDER BY path, part, host"
)
_Stored = tuple[object, object, object]
"""Status, reason and data of a row as the database has them: any of them may be damaged."""


def estimate_stored(
    store: Store,
    metric: Metric,
    *,
    system: str | None = None,
    reference: str | None = None,
    identity: str | None = None,
    seed: int = 0,
) -> list[Estimate]:
    """Return the estimates of a metric from rows that a store holds, each clip taken for independent.

    Speakers and names of clips are not in a store: intervals are those of clips that are all of different speakers, and
    nothing is diagnosed.

    Args:
        store: Holds the rows.
        metric: Whose statistics are computed.
        system: What the paths of the system's files start with, as they were when the rows were measured; None is all
            rows of the metric, each content once.
        reference: The same of real speech.
        identity: Of the rows; None where the store has one identity of the metric.
        seed: Randomness of every interval, draw and fold.

    Raises:
        UsageError: The store has no such rows, or rows of several identities; or a statistic needs a reference.
    """
    ident = identity or _identity(store, metric)
    if reference is None and (lacking := [n for n, s in metric.statistics.items() if s.needs_reference]):
        raise UsageError(f"{', '.join(lacking)} compares with real speech: name the start of its paths, --reference")
    sides = [_sample(store, ident, metric, start) for start in (system, reference)[: 1 if reference is None else 2]]
    estimates: list[Estimate] = []
    for name, statistic in metric.statistics.items():
        context = context_of(metric, name, statistic, identity=ident, system=system or "store", seed=seed)
        versus = (
            sides[-1] if reference is not None and (statistic.needs_reference or statistic.wants_reference) else None
        )
        estimates += statistic.estimate(sides[0], versus, context).estimates
    return estimates


def _identity(store: Store, metric: Metric) -> str:
    """Return the identity of a metric's rows in a store."""
    name, _, version = metric.rows.rpartition("@") if metric.rows else (metric.name, "", metric.version)
    known = [ident for (ident,) in store.query("SELECT DISTINCT identity FROM rows ORDER BY identity")]
    fitting = [
        ident
        for ident in known
        if (parts := store.identity(ident)) and (parts.get("name"), parts.get("version")) == (name, version)
    ]
    if not fitting:
        raise UsageError(f"{store.path}: no rows of {name} {version}; see `cdslm-eval store info`")
    if len(fitting) > 1:
        raise UsageError(f"{store.path}: rows of {len(fitting)} identities of {name}; use --identity: {fitting}")
    return str(fitting[0])


def _sample(store: Store, ident: str, metric: Metric, start: str | None) -> Sample:
    """Read the rows of a metric: all of them, or those of the files whose paths start with a text."""
    if start is None:
        rows = store.stream(_ROWS, [ident])
    else:
        # no path has a character above the last one of Unicode
        rows = _each_file_once(store.stream(_ROWS_OF_FILES, [ident, start, start + chr(0x10FFFF)]))
    columns, builder = required_columns(metric), SampleBuilder()
    is_sound = row_check(metric)
    any_row = False
    while chunk := list(islice(rows, _CHUNK)):
        any_row = any_row or any(status is not None for status, _, _ in chunk)
        _add(builder, chunk, columns, is_sound)
    if not any_row:
        where = f"files whose path starts with {start!r}" if start is not None else "its clips"
        raise UsageError(
            f"{store.path}: no row of {ident} is one of {where}; paths are absolute, and rows of metrics that read "
            "more than audio belong to no file"
        )
    return builder.done()


def _each_file_once(rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Yield status, reason and data, without files that several hosts know by one path and content."""
    last: tuple[Any, ...] = ()
    for row in rows:
        if row[:3] != last:
            yield row[3:]
        last = row[:3]


def _add(builder: SampleBuilder, chunk: Sequence[_Stored], columns: Sequence[str], is_sound: _Check) -> None:
    """Add rows of a store, many at once where they are measured and hold numbers alone."""
    measured = [row for row in chunk if row[0] == "ok"]
    rows = _parsed([data for _, _, data in measured])
    if rows is not None and (values := _number_columns(rows, columns)) is not None:
        # which clip of a set a row belongs to is not in a store, so that those that were not scored may follow
        builder.add_numbers(values, len(rows))
        chunk = [row for row in chunk if row[0] != "ok"]
    for status, reason, data in chunk:
        if status is None:
            builder.add_missing("failed", "was not measured")
        elif status in ("skipped", "failed") and isinstance(reason, str):
            builder.add_missing(str(status), reason)
        elif status == "ok" and (own := _parsed([data])) and is_sound(Outcome("ok", "", own[0])):
            builder.add_row({name: own[0][name] for name in columns})
        else:
            builder.add_missing("failed", "its row in the store is damaged")


def _parsed(texts: Sequence[object]) -> list[dict[str, Any]] | None:
    """Return the objects of JSON texts, or None where one is no such text."""
    if not texts or set(map(type, texts)) != {str}:
        return None
    # one text for many rows: parsing each alone takes twice as long
    # damaged texts may end, or continue, each other; a number that none can contain shows where each began and ended
    border = secrets.randbits(62)
    joined = f"[{f',{border},'.join(texts)}]"  # type: ignore[arg-type] # all are texts
    try:
        parsed = json.loads(joined, object_hook=unpack if '"float32"' in joined else None)
    except (ValueError, TypeError, RecursionError):
        return None
    rows, borders = parsed[::2], parsed[1::2]
    is_whole = len(rows) == len(texts) and borders == [border] * (len(texts) - 1) and set(map(type, rows)) == {dict}
    return rows if is_whole else None


def _number_columns(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> dict[str, Floats] | None:
    """Return the columns of rows that all hold finite numbers or nothing there, `[rows]`, else None."""
    values: dict[str, Floats] = {}
    for name in columns:
        try:
            entries = [row[name] for row in rows]
            kinds = set(map(type, entries))
            if not kinds <= _NUMBERS:
                return None
            # numpy reads None as NaN
            column = np.array(entries, np.float64)
        except (KeyError, OverflowError):  # a whole number of a thousand digits
            return None
        absent = entries.count(None) if type(None) in kinds else 0
        if np.count_nonzero(np.abs(column) <= _LARGEST) != len(column) - absent:
            return None
        values[name] = column
    return values
