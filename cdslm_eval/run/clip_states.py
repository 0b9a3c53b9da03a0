"""Ledger: what is known of each clip of a run, from the store and from what has gone wrong, and what is left to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cdslm_eval.core.clips import Source
from cdslm_eval.core.store import FileFacts, Outcome, Store
from cdslm_eval.plugin.identity import subject
from cdslm_eval.run.measurer_graph import Roster

__all__ = ["ClipState", "Ledger", "unchanged"]


@dataclass(slots=True, eq=False)
class ClipState:
    """What is known of one clip while a run is under way.

    Attributes:
        source: The clip.
        wanted: Numbers of the measurers whose rows are wanted.
        digest, reference_digest: Of its content and of its reference's, once they are known.
        left: Numbers of the measurers that have still to look at it.
        problems: Number of a measurer -> what became of the clip where the store holds no row of it.
    """

    source: Source
    wanted: tuple[int, ...]
    digest: str | None = None
    reference_digest: str | None = None
    left: set[int] = field(default_factory=set)
    problems: dict[int, Outcome] = field(default_factory=dict)

    def fail(self, numbers: Iterable[int], reason: str) -> None:
        """Charge a failure that the store shall not keep to measurers, which are done with the clip."""
        for number in list(numbers):
            self.problems[number] = Outcome("failed", reason, {})
            self.left.discard(number)


@dataclass(frozen=True, slots=True, eq=False)
class Ledger:
    """Looks up what clips come to.

    Attributes:
        store: Where rows are kept.
        roster: Who measures.
        kept: The statuses of rows that are not measured again.
    """

    store: Store
    roster: Roster
    kept: frozenset[str]

    def subject(self, state: ClipState, number: int) -> str | None:
        """Return the key of a clip's row under a measurer; None while the clip was not decoded."""
        return subject(self.roster.needs[number], state.source, state.digest, state.reference_digest)

    def look_up(self, states: Sequence[ClipState]) -> None:
        """Take digests from the index of files, and find which rows are there already."""
        on_disk = [state for state in states if state.source.decoded is None]
        paths = {path for state in on_disk for path in (state.source.path, state.source.reference) if path}
        known = {path: facts for path, facts in self.store.files(sorted(paths)).items() if unchanged(path, facts)}
        for state in states:
            if state.source.decoded is not None:
                state.digest = state.source.decoded.digest
            elif facts := known.get(state.source.path):
                state.digest = facts.digest
            if state.source.reference and (facts := known.get(state.source.reference)):
                state.reference_digest = facts.digest
        for number, identity in enumerate(self.roster.identities):
            those = [state for state in states if number in state.wanted]
            if why := self.roster.unusable.get(self.roster.measurers[number].name):
                for state in those:
                    state.fail({number}, why)
                continue
            subjects = [self.subject(state, number) for state in those]
            found = self.store.statuses(identity.ident, {one for one in subjects if one is not None})
            for state, one in zip(those, subjects, strict=True):
                if one is None or found.get(one) not in self.kept:
                    state.left.add(number)

    def twins(self, states: Sequence[ClipState]) -> list[tuple[ClipState, int, ClipState]]:
        """Leave each row to the first of the clips that are known to share it; return (clip, measurer, first)."""
        firsts: dict[tuple[int, str], ClipState] = {}
        twins = []
        for state in states:
            for number in sorted(state.left):
                key = self.subject(state, number)
                first = state if key is None else firsts.setdefault((number, key), state)
                if first is not state:
                    state.left.discard(number)
                    twins.append((state, number, first))
        return twins

    def known(self, state: ClipState, number: int) -> Outcome | None:
        """Return what became of a clip under a measurer, where nothing is left to do about it."""
        if number in state.problems:
            return state.problems[number]
        one = self.subject(state, number)
        found = next(self.store.outcomes(self.roster.identities[number].ident, [one]), None) if one else None
        return found if found is not None and found.status in self.kept else None

    def outcomes(self, states: Sequence[ClipState], number: int) -> Iterator[Outcome]:
        """Yield what became of each clip under a measurer; its row is read from the store."""
        lost = Outcome("failed", "was not measured", {})
        subjects = (self.subject(state, number) or "" for state in states)
        stored = self.store.outcomes(self.roster.identities[number].ident, subjects)
        for state, outcome in zip(states, stored, strict=True):
            yield state.problems.get(number) or outcome or lost


def unchanged(path: str, facts: FileFacts) -> bool:
    """Return whether a file still has the size and time of change that its facts vouch for."""
    try:
        stat = Path(path).stat()
    except OSError:
        return False
    return (stat.st_size, stat.st_mtime_ns) == (facts.size, facts.mtime_ns)
