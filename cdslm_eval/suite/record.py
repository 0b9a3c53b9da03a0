"""Recorded runs: estimates, identities and rows of one run in one portable file.

The file is a store: one SQLite file that the code which reads stores reads, row by row however large it is, that
`export --store` understands, and that a killed process cannot leave half-written under its name.
"""

from __future__ import annotations

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
from cdslm_eval.results.suite_result import PastValue
from cdslm_eval.run import Measurement
from cdslm_eval.stats.sample import ClipLabel, Sample, gather

__all__ = ["Record", "find_record", "history", "put_roster", "record_run", "records_folder"]

SUFFIX = ".cdslm"
_ROSTER = "roster:"


def records_folder(store: Path) -> Path:
    """Return the folder beside a store where recorded runs lie."""
    return store.with_suffix(".records")


def find_record(name: str, folder: Path) -> Path:
    """Return the file of a recorded run, from its name or its path.

    Raises:
        UsageError: There is none.
    """
    path = Path(name) if _is_path(name) else folder / f"{name}{SUFFIX}"
    if not path.is_file():
        known = sorted(one.stem for one in folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
        hint = did_you_mean(name, known) or f" Recorded: {', '.join(known) or 'none; cdslm-eval record makes one'}."
        raise UsageError(f"there is no recorded run {name!r} ({path}).{hint}")
    return path


def _is_path(name: str) -> bool:
    return name.endswith(SUFFIX) or os.sep in name


def put_roster(store: Store, one: Measurement, metrics: Sequence[Metric]) -> str:
    """Keep which clips a set had, and under which keys their rows lie; return the key of that list."""
    lists: dict[tuple[str | None, ...], int] = {}
    by_metric = {}
    for metric in metrics:
        identity = one.identity(metric)
        number = lists.setdefault(tuple(one.subjects(metric)), len(lists))
        by_metric[metric.name] = [identity.ident, identity.stored.ident, number]
    sources = one.request.clips.sources
    data = {
        "keys": [source.key for source in sources],
        "speakers": [source.speaker for source in sources],
        "digests": one.digests(),
        "metrics": by_metric,
        "lists": [list(some) for some in lists],
    }
    text = json.dumps(data)
    key = _ROSTER + hashlib.sha256(text.encode()).hexdigest()
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
    half = target.with_name(f".{target.name}.part")
    with Store(store) as source:
        chosen = _chosen(source, run)
        try:
            half.unlink(missing_ok=True)
            with Store(half) as copy:
                _copy(source, copy, chosen)
                copy.seal()
            half.replace(target)
        except OSError as error:
            raise StoreError(f"{target}: cannot be written: {error.strerror}") from error
        finally:
            for rest in (half, *(half.with_name(half.name + end) for end in ("-wal", "-shm", "-journal"))):
                rest.unlink(missing_ok=True)
    return dict(chosen["settings"])


def _chosen(store: Store, run: int | None) -> dict[str, Any]:
    runs = [one for one in store.runs() if "rosters" in one["settings"]]
    if run is not None:
        runs = [one for one in runs if one["id"] == run]
    if not runs:
        what = "no run of a suite" if run is None else f"no run {run} of a suite"
        raise UsageError(f"{store.path}: {what} in it; `cdslm-eval run SUITE.toml` makes one")
    return runs[-1]


def _copy(source: Store, copy: Store, run: Mapping[str, Any]) -> None:
    for key in dict.fromkeys(run["settings"]["rosters"].values()):
        text = source.recall(key)
        if text is None:
            raise StoreError(f"{source.path}: the clips of the run are not in it any more; run the suite again")
        roster = json.loads(text)
        copy.remember(key, text)
        for ident, stored, number in roster["metrics"].values():
            with copy.writing():
                for name in dict.fromkeys((ident, stored)):
                    copy.put_identity(name, source.identity(name) or {})
                copy.copy_rows(source, stored, [one for one in roster["lists"][number] if one])
    copy.put_run(run["settings"], source.estimates(run["id"]))
    copy.remember("finished", run["finished"])


@dataclass(slots=True)
class Record:
    """An open recorded run.

    Attributes:
        name: What it is called.
        store: The file.
        settings: The settings of its run.
    """

    name: str
    store: Store
    settings: dict[str, Any]
    _rosters: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store) -> Record:
        """Return the run that an open file holds.

        Raises:
            UsageError: It holds none.
        """
        runs = [one for one in store.runs() if "rosters" in one["settings"]]
        if not runs:
            raise UsageError(f"{store.path}: a store, but not of a recorded run")
        return cls(store.path.stem, store, runs[-1]["settings"])

    @property
    def sets(self) -> list[str]:
        """Names of the sets in it."""
        return list(self.settings["rosters"])

    def roster(self, name: str) -> dict[str, Any]:
        """Return the clips of a set."""
        key = self.settings["rosters"][name]
        if key not in self._rosters:
            self._rosters[key] = json.loads(self.store.recall(key) or "{}")
        return self._rosters[key]

    def identity(self, name: str, metric: str) -> str | None:
        """Return the identity that a set was measured with under a metric, or None where it was not."""
        found = self.roster(name)["metrics"].get(metric)
        return None if found is None else str(found[0])

    def side(self, name: str, metric: str) -> Sample:
        """Return the rows of a set under a metric."""
        roster = self.roster(name)
        _, stored, number = roster["metrics"][metric]
        clusters = [speaker or ("clip", key) for speaker, key in zip(roster["speakers"], roster["keys"], strict=True)]
        labels = [ClipLabel(key) for key in roster["keys"]]
        return gather(self._outcomes(stored, roster["lists"][number]), clusters, labels)

    def _outcomes(self, identity: str, subjects: Sequence[str | None]) -> Iterator[Outcome]:
        for found in self.store.outcomes(identity, (one or "" for one in subjects)):
            yield found or Outcome("failed", "was not measured", {})

    def past_values(self) -> Iterator[PastValue]:
        """Yield the values of the run, for a history."""
        runs = self.store.runs()
        finished = self.store.recall("finished") or runs[-1]["finished"]
        for one in self.store.estimates(runs[-1]["id"]):
            if one["value"] is not None:
                quantity = ("corrected", "corrected_low", "corrected_high")
                chosen = quantity if one["corrected"] is not None else ("value", "low", "high")
                numbers = [float("nan") if one[key] is None else float(one[key]) for key in chosen]
                yield PastValue(self.name, finished, one["system"], one["name"], one["identity"], *numbers)


def history(folder: Path, suite: str) -> list[PastValue]:
    """Return the values of every recorded run of a suite in a folder, oldest first; other files are passed over."""
    found: list[PastValue] = []
    for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else ():
        try:
            with Store(path, read_only=True) as store:
                record = Record.of(store)
                if record.settings.get("suite", {}).get("name") == suite:
                    found += record.past_values()
        except (UsageError, StoreError):
            continue
    return sorted(found, key=lambda one: one.finished)
