"""Estimates from the rows of a store alone, streamed: no audio, no manifest, and memory for one column a number."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.packing import unpack
from cdslm_eval.core.store import Outcome, Store
from cdslm_eval.core.store_schema import SOUND_ROW
from cdslm_eval.plugin.contract import Metric
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.run.row_checks import required_columns, row_check
from cdslm_eval.run.samples import context_of
from cdslm_eval.stats.sample import Sample, SampleBuilder

__all__ = ["estimate_stored"]

_CHUNK = 5000
_LARGEST = 1e300
_NUMBERS = {int, float, type(None)}
_ROWS = (
    f"SELECT NULL, NULL, subject, status, reason, CASE WHEN {SOUND_ROW} THEN data END FROM rows "  # noqa: S608 - constants
    "WHERE identity = ? ORDER BY subject"
)
_ROWS_OF_FILES = (
    "SELECT path, part, digest, status, reason, "  # noqa: S608 - constants
    f"CASE WHEN {SOUND_ROW} THEN data END FROM files LEFT JOIN rows ON rows.identity = ? AND rows.subject = digest "
    "WHERE path >= ? AND path < ? ORDER BY path, part, host"
)


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
        any_row = any_row or any(status is not None for *_, status, _, _ in chunk)
        _add(builder, chunk, columns, is_sound)
    if not any_row:
        where = f"files whose path starts with {start!r}" if start is not None else "its clips"
        raise UsageError(
            f"{store.path}: no row of {ident} is one of {where}; paths are absolute, and rows of metrics that read "
            "more than audio belong to no file"
        )
    return builder.done()


def _each_file_once(rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Leave out files that several hosts know by one path and content."""
    last: tuple[Any, ...] = ()
    for row in rows:
        if row[:3] != last:
            yield row
        last = row[:3]


def _add(builder: SampleBuilder, chunk: Sequence[tuple[Any, ...]], columns: Sequence[str], is_sound: Any) -> None:
    """Add rows of a store, many at once where they are measured and hold numbers alone."""
    texts = [data for *_, data in chunk if data is not None]
    # one text for many rows: parsing each alone takes twice as long; each is an object, so that none can end another
    joined = f"[{','.join(texts)}]"
    parsed = iter(json.loads(joined, object_hook=unpack if '"float32"' in joined else None))
    if len(texts) == len(chunk):
        rows = list(parsed)
        if (values := _number_columns(rows, columns)) is not None:
            builder.add_numbers(values, len(rows))
            return
        parsed = iter(rows)
    for *_, status, reason, data in chunk:
        row: Mapping[str, Any] = next(parsed) if data is not None else {}
        if status is None:
            builder.add_missing("failed", "was not measured")
        elif status in ("skipped", "failed") and isinstance(reason, str):
            builder.add_missing(status, reason)
        elif data is not None and is_sound(Outcome("ok", "", row)):
            builder.add_row({name: row[name] for name in columns})
        else:
            builder.add_missing("failed", "its row in the store is damaged")


def _number_columns(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> dict[str, list[float | None]] | None:
    """Return the columns of rows that all hold numbers or nothing there, else None."""
    values: dict[str, list[float | None]] = {}
    for name in columns:
        try:
            values[name] = [row[name] for row in rows]
        except KeyError:
            return None
        if not set(map(type, values[name])) <= _NUMBERS:
            return None
        if max((abs(value) for value in values[name] if value is not None), default=0.0) > _LARGEST:
            return None
    return values
