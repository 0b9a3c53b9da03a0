"""Recorded runs: one run of a suite in one portable file, and what a later run is compared with.

The file is a store: one SQLite file, readable row by row however large it is, that `export --store` understands and
that a killed process cannot leave half-written under its name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cdslm_eval.core.errors import StoreError, UsageError, did_you_mean
from cdslm_eval.core.store import Outcome, Store
from cdslm_eval.plugin.contract import Metric
from cdslm_eval.results.differences import Difference, with_holm
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.results.suite_result import Change, PastValue
from cdslm_eval.run import Measurement
from cdslm_eval.stats.sample import ClipLabel, Sample, gather
from cdslm_eval.suite.plan import Plan

__all__ = [
    "Record",
    "changes",
    "comparable",
    "find_record",
    "history",
    "put_clip_list",
    "record_run",
    "records_folder",
    "refuse_other_identities",
]

SUFFIX = ".cdslm"
_CLIP_LIST = "roster:"


def records_folder(store: Path) -> Path:
    """Return the folder of recorded runs that belongs to a store."""
    return store.with_suffix(".records")


def find_record(name: str, folder: Path) -> Path:
    """Return the file of a recorded run, from its name or its path.

    Raises:
        UsageError: There is none.
    """
    path = Path(name) if name.endswith(SUFFIX) or os.sep in name else folder / f"{name}{SUFFIX}"
    if not path.is_file():
        known = sorted(file.stem for file in folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
        hint = did_you_mean(name, known) or f" Recorded: {', '.join(known) or 'none; cdslm-eval record makes one'}."
        raise UsageError(f"there is no recorded run {name!r} ({path}).{hint}")
    return path


def put_clip_list(store: Store, measurement: Measurement, metrics: Sequence[Metric]) -> str:
    """Store which clips a set had, and the keys of their rows; return the key of that list."""
    lists: dict[tuple[str | None, ...], int] = {}
    by_metric = {}
    for metric in metrics:
        identity = measurement.identity(metric)
        number = lists.setdefault(tuple(measurement.subjects(metric)), len(lists))
        by_metric[metric.name] = [identity.ident, identity.stored.ident, number]
    sources = measurement.request.clips.sources
    data = {
        "keys": [source.key for source in sources],
        "speakers": [source.speaker for source in sources],
        "digests": measurement.digests(),
        "metrics": by_metric,
        "lists": [list(subjects) for subjects in lists],
    }
    text = json.dumps(data)
    key = _CLIP_LIST + hashlib.sha256(text.encode()).hexdigest()
    if store.recall(key) is None:
        store.remember(key, text)
    return key


def record_run(store: Path, target: Path, run: int | None, *, replace: bool = False) -> dict[str, Any]:
    """Copy one finished run of a store, with its rows, into a file of its own; return the run's settings.

    Args:
        store: The store.
        target: The file to write.
        run: Number of the run; None takes the last one of a suite.
        replace: Overwrite an existing file.

    Raises:
        UsageError: There is no such run, or the file exists.
    """
    if target.exists() and not replace:
        raise UsageError(f"{target}: there already; --force replaces it")
    partial = target.with_name(f".{target.name}.part")
    with Store(store) as source:
        settings = _find_run(source, run)
        try:
            partial.unlink(missing_ok=True)
            with Store(partial) as copy:
                _copy(source, copy, settings)
                copy.seal()
            partial.replace(target)
        except OSError as error:
            raise StoreError(f"{target}: cannot be written: {error.strerror}") from error
        finally:
            for path in (partial, *(partial.with_name(partial.name + end) for end in ("-wal", "-shm", "-journal"))):
                path.unlink(missing_ok=True)
    return dict(settings["settings"])


def _find_run(store: Store, number: int | None) -> dict[str, Any]:
    runs = _suite_runs(store)
    if number is not None:
        runs = [run for run in runs if run["id"] == number]
    if not runs:
        what = "no run of a suite" if number is None else f"no run {number} of a suite"
        raise UsageError(f"{store.path}: {what} in it; `cdslm-eval run SUITE.toml` makes one")
    return runs[-1]


def _suite_runs(store: Store) -> list[dict[str, Any]]:
    return [run for run in store.runs() if "rosters" in run["settings"]]


def _copy(source: Store, copy: Store, run: Mapping[str, Any]) -> None:
    for key in dict.fromkeys(run["settings"]["rosters"].values()):
        text = source.recall(key)
        if text is None:
            raise StoreError(f"{source.path}: the clips of the run are not in it any more; run the suite again")
        clip_list = json.loads(text)
        copy.remember(key, text)
        for ident, stored, number in clip_list["metrics"].values():
            with copy.writing():
                for name in dict.fromkeys((ident, stored)):
                    copy.put_identity(name, source.identity(name) or {})
                copy.copy_rows(source, stored, [subject for subject in clip_list["lists"][number] if subject])
    copy.put_run(run["settings"], source.estimates(run["id"]))
    copy.remember("finished", run["finished"])


@dataclass(slots=True)
class Record:
    """An open recorded run.

    Attributes:
        name: Its name.
        store: The file.
        settings: The settings of its run.
    """

    name: str
    store: Store
    settings: dict[str, Any]
    _clip_lists: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store) -> Record:
        """Return the run that an open file holds.

        Raises:
            UsageError: It holds none.
        """
        runs = _suite_runs(store)
        if not runs:
            raise UsageError(f"{store.path}: a store, but not of a recorded run")
        return cls(store.path.stem, store, runs[-1]["settings"])

    @property
    def sets(self) -> list[str]:
        """Names of the sets in it."""
        return list(self.settings["rosters"])

    def clip_list(self, name: str) -> dict[str, Any]:
        """Return the clips of a set, as `put_clip_list` stored them."""
        key = self.settings["rosters"][name]
        if key not in self._clip_lists:
            self._clip_lists[key] = json.loads(self.store.recall(key) or "{}")
        return self._clip_lists[key]

    def identity(self, name: str, metric: str) -> str | None:
        """Return the identity of the metric that measured a set, or None where it did not."""
        entry = self.clip_list(name)["metrics"].get(metric)
        return None if entry is None else str(entry[0])

    def side(self, name: str, metric: str) -> Sample:
        """Return the rows of a set under a metric."""
        clips = self.clip_list(name)
        _, stored, number = clips["metrics"][metric]
        clusters = [speaker or ("clip", key) for speaker, key in zip(clips["speakers"], clips["keys"], strict=True)]
        labels = [ClipLabel(key) for key in clips["keys"]]
        return gather(self._outcomes(stored, clips["lists"][number]), clusters, labels)

    def _outcomes(self, identity: str, subjects: Sequence[str | None]) -> Iterator[Outcome]:
        for outcome in self.store.outcomes(identity, (subject or "" for subject in subjects)):
            yield outcome or Outcome("failed", "was not measured", {})

    def past_values(self) -> Iterator[PastValue]:
        """Yield the values of the run, for a history."""
        runs = self.store.runs()
        finished = self.store.recall("finished") or runs[-1]["finished"]
        for entry in self.store.estimates(runs[-1]["id"]):
            estimate = Estimate.from_json(entry)
            headline = estimate.headline()
            if headline.known:
                numbers = headline.value, headline.low, headline.high
                yield PastValue(self.name, finished, estimate.system, estimate.name, estimate.identity, *numbers)


def history(folder: Path, suite: str) -> list[PastValue]:
    """Return the values of every recorded run of a suite in a folder, oldest first; skip other files."""
    values: list[PastValue] = []
    for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else ():
        try:
            with Store(path, read_only=True) as store:
                record = Record.of(store)
                if record.settings.get("suite", {}).get("name") == suite:
                    values += record.past_values()
        except (UsageError, StoreError):
            continue
    return sorted(values, key=lambda value: value.finished)


def refuse_other_identities(plan: Plan, record: Record) -> None:
    """Check that a plan measures with the identities of a recorded run.

    Raises:
        UsageError: A metric's identity differs; every part that differs is named.
    """
    differing: dict[str, None] = {}
    for system in plan.systems:
        for name in plan.metrics if system in record.sets else ():
            then, now = record.identity(system, name), plan.identities[name]
            if then is not None and then != now.ident:
                parts = differing_parts(record.store.identity(then) or {}, now.parts)
                differing[f"{name}: {'; '.join(parts) or f'{then} then, {now.ident} now'}"] = None
    if differing:
        raise UsageError(
            f"the recorded run {record.name!r} cannot be compared, it was measured with other settings:\n  "
            + "\n  ".join(differing)
            + "\nRun with the old settings, leave the metric out with --only, or record again."
        )


def differing_parts(then: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return a sentence for every part of an identity that differs.

    Example:
        >>> differing_parts({"version": "1", "options": {"k": 1}}, {"version": "1", "options": {"k": 2}})
        ['options.k: 1 recorded, 2 now']
    """
    sentences: list[str] = []
    for name in sorted({*then, *now}):
        before, after = then.get(name), now.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            sentences += differing_parts(before, after, f"{prefix}{name}.")
        elif before != after:
            sentences.append(f"{prefix}{name}: {before!r} recorded, {after!r} now")
    return sentences


def comparable(plan: Plan, record: Record, digests: Mapping[str, Any]) -> Iterator[tuple[str, Metric]]:
    """Yield the systems and metrics that both runs measured.

    Args:
        plan: The present run.
        record: The recorded one.
        digests: Set name -> clips and digest, as in the settings of a run.

    Raises:
        UsageError: The reference of a metric is other audio now.
    """
    then = record.settings["sets"]
    for system in plan.systems:
        for name, metric in plan.metrics.items():
            if system not in record.sets or record.identity(system, name) is None:
                continue
            if any(statistic.needs_reference for statistic in metric.statistics.values()):
                key = record.settings["references"].get(system)
                own = plan.references_of[system]
                before, now = then.get(f"reference {key}", {}), digests.get(f"reference {own}", {})
                if before.get("digest") != now.get("digest"):
                    raise UsageError(
                        f"{name} of {system} cannot be compared with {record.name!r}: its reference is other audio "
                        f"({before.get('clips')} clips then, {now.get('clips')} now); record again"
                    )
            yield system, metric


def changes(differences: Mapping[str, Sequence[Difference]], same_clips: Mapping[str, bool]) -> tuple[Change, ...]:
    """Return all differences to a recorded run, Holm-corrected over those whose audio changed.

    Args:
        differences: System -> now minus recorded, per value.
        same_clips: System -> whether its audio is the same as then.
    """
    flat = [(system, difference) for system, several in differences.items() for difference in several]
    corrected = iter(with_holm([difference for system, difference in flat if not same_clips[system]]))
    shared = {f.name for f in dataclasses.fields(Change)} & {f.name for f in dataclasses.fields(Difference)}
    rows = []
    for system, difference in flat:
        final = difference if same_clips[system] else next(corrected)
        rows.append(
            Change(
                system=system,
                recorded=difference.b,
                now=difference.a,
                same_clips=same_clips[system],
                **{name: getattr(final, name) for name in shared},
            )
        )
    return tuple(rows)
