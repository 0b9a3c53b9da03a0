"""ClipStates: the outcomes of a run's clips, from the store or from failures, and what is left to measure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from cdslm_eval.core.clips import Source
from cdslm_eval.core.remote.addresses import is_remote
from cdslm_eval.core.spans import Address
from cdslm_eval.core.storage import Stamp, Storage, storage_of
from cdslm_eval.core.store import FileFacts, Outcome, Store
from cdslm_eval.plugin.identity import subject
from cdslm_eval.run.measurer_graph import MeasurerGraph
from cdslm_eval.run.row_checks import required_columns, row_check

__all__ = ["ClipState", "ClipStates", "current_stamps"]

_NOTHING: Mapping[int, Outcome] = MappingProxyType({})
_PART = 20_000


@dataclass(slots=True, eq=False)
class ClipState:
    """The state of one clip during a run.

    Attributes:
        source: The clip.
        wanted: Numbers of the measurers whose rows are wanted.
        facts: What was found when its file was decoded, now or before; None for clips in memory, and unknown ones.
        digest, reference_digest: Of its content and of its reference's, once they are known.
        unstored: Number of a measurer -> the outcome of the clip where the store holds no row of it.
    """

    # a run may have millions of clips: a set and a dict for each would take half of its memory

    source: Source
    wanted: tuple[int, ...]
    facts: FileFacts | None = None
    digest: str | None = None
    reference_digest: str | None = None
    unstored: Mapping[int, Outcome] = field(default_factory=lambda: _NOTHING)
    _left: int = 0

    @property
    def left(self) -> frozenset[int]:
        """The numbers of the measurers that have still to measure it."""
        return frozenset(number for number in range(self._left.bit_length()) if self._left >> number & 1)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to measure."""
        return not self._left

    def add(self, number: int) -> None:
        """Note that a measurer has still to measure it."""
        self._left |= 1 << number

    def discard(self, number: int) -> None:
        """Note that a measurer is done with it."""
        self._left &= ~(1 << number)

    def hold(self, number: int, outcome: Outcome) -> None:
        """Hold an outcome that the store does not."""
        self.unstored = {**self.unstored, number: outcome}

    def fail(self, numbers: Iterable[int], reason: str) -> None:
        """Charge a failure that the store shall not keep to measurers, which are done with the clip."""
        for number in numbers:
            self.hold(number, Outcome("failed", reason, {}))
            self.discard(number)


@dataclass(frozen=True, slots=True, eq=False)
class ClipStates:
    """Looks up outcomes of clips.

    Attributes:
        store: Where rows are kept.
        graph: The measurers of the run.
        kept: The statuses of rows that are not measured again.
    """

    store: Store
    graph: MeasurerGraph
    kept: frozenset[str]

    def subject(self, state: ClipState, number: int) -> str | None:
        """Return the key of a clip's row under a measurer; None while the clip was not decoded."""
        return subject(self.graph.needs[number], state.source, state.digest, state.reference_digest)

    def doubtful(self, states: Sequence[ClipState], *, rehash: bool) -> list[Address]:
        """Return the files that the store knows but cannot vouch for: they may hold what they held, or not.

        Args:
            states: The clips.
            rehash: Whether no stamp is trusted, so that every known file is in doubt.
        """
        doubtful: list[Address] = []
        for part in _parts(states):
            known = self.store.files(sorted(_addresses(part)))
            stamps = current_stamps(() if rehash else known)
            doubtful += [
                address
                for address, facts in known.items()
                if rehash or ((stamp := stamps(address.path)) not in (facts.stamp, None) and stamp.size == facts.size)
            ]
        return doubtful

    def look_up(self, states: Sequence[ClipState], distrusted: Collection[Address] = ()) -> None:
        """Take digests from the index of files, and find which rows the store holds already.

        Args:
            states: The clips.
            distrusted: Files whose entry in the index does not count.
        """
        for part in _parts(states):
            self._look_up(part, distrusted)

    def _look_up(self, states: Sequence[ClipState], distrusted: Collection[Address]) -> None:
        files = self.store.files(sorted(_addresses(states).difference(distrusted)))
        stamps = current_stamps(files)
        known = {address: facts for address, facts in files.items() if stamps(address.path) == facts.stamp}
        for state in states:
            if state.source.decoded is not None:
                state.digest = state.source.digest_of(state.source.decoded.digest)
            elif (facts := known.get(state.source.address)) and _allowed(state.source, facts):
                state.facts, state.digest = facts, state.source.digest_of(facts.digest)
            if (
                state.source.reference
                and (facts := known.get(Address(state.source.reference)))
                and _allowed(state.source, facts)
            ):
                state.reference_digest = facts.digest
        for number, identity in enumerate(self.graph.identities):
            wanting = [state for state in states if number in state.wanted]
            if why := self.graph.unusable.get(self.graph.measurers[number].name):
                for state in wanting:
                    state.fail({number}, why)
                continue
            subjects = [self.subject(state, number) for state in wanting]
            columns = required_columns(self.graph.measurers[number])
            statuses = self.store.statuses(identity.ident, {key for key in subjects if key is not None}, columns)
            for state, key in zip(wanting, subjects, strict=True):
                if key is None or statuses.get(key) not in self.kept:
                    state.add(number)

    def duplicates(self, states: Sequence[ClipState]) -> list[tuple[ClipState, int, ClipState]]:
        """Leave each row to the first of the clips that are known to share it; return (clip, measurer, first)."""
        firsts: dict[tuple[int, str], ClipState] = {}
        duplicates = []
        for state in states:
            for number in sorted(state.left):
                key = self.subject(state, number)
                first = state if key is None else firsts.setdefault((number, key), state)
                if first is not state:
                    state.discard(number)
                    duplicates.append((state, number, first))
        return duplicates

    def known(self, state: ClipState, number: int) -> Outcome | None:
        """Return the outcome of a clip under a measurer, where nothing is left to measure."""
        if number in state.unstored:
            return state.unstored[number]
        key = self.subject(state, number)
        outcome = next(self.store.outcomes(self.graph.identities[number].ident, [key]), None) if key else None
        return outcome if outcome is not None and self.is_usable(outcome, number) else None

    def is_usable(self, outcome: Outcome, number: int) -> bool:
        """Return whether an outcome of a measurer that the store holds is not measured again."""
        return outcome.status in self.kept and row_check(self.graph.measurers[number])(outcome)

    def outcomes(self, states: Sequence[ClipState], number: int) -> Iterator[Outcome]:
        """Yield the outcome of each clip under a measurer; rows are read from the store."""
        lost = Outcome("failed", "was not measured", {})
        reason = f"its row in {self.store.path} holds values of another kind; move that store away"
        damaged = Outcome("failed", reason, {})
        is_sound = row_check(self.graph.measurers[number])
        subjects = (self.subject(state, number) or "" for state in states)
        stored = self.store.outcomes(self.graph.identities[number].ident, subjects)
        for state, outcome in zip(states, stored, strict=True):
            known = outcome or lost
            yield state.unstored.get(number) or (known if is_sound(known) else damaged)


def _parts(states: Sequence[ClipState]) -> Iterator[Sequence[ClipState]]:
    """Yield clips in parts: what is looked up of them takes more memory than they do."""
    return (states[start : start + _PART] for start in range(0, len(states), _PART))


def _addresses(states: Iterable[ClipState]) -> set[Address]:
    on_disk = (state.source for state in states if state.source.decoded is None)
    return {address for source in on_disk for address in source.addresses}


def _allowed(source: Source, facts: FileFacts) -> bool:
    """Return whether a clip may be taken from what is known of its file; else it is decoded again, and fails."""
    return source.allow_truncated or not facts.truncated


def current_stamps(addresses: Collection[Address]) -> Callable[[str], Stamp | None]:
    """Return the function that returns the stamp of a path now, None where it is not there.

    Files are checked one by one, objects all at once: a request for each of a million takes an hour.

    Args:
        addresses: All that will be checked.
    """
    by_store: defaultdict[Storage, set[str]] = defaultdict(set)
    for address in addresses:
        if is_remote(address.path):
            by_store[storage_of(address.path)].add(address.path)
    objects = {path: stamp for store, paths in by_store.items() for path, stamp in store.stamps(paths)}

    def stamp_of(path: str) -> Stamp | None:
        if is_remote(path):
            return objects.get(path)
        return next((stamp for _, stamp in storage_of(path).stamps([path])), None)

    return stamp_of
