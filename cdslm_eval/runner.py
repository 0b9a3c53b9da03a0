"""From sets and metrics to rows in the store: asks what is missing, hands it out, survives what goes wrong."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cdslm_eval.clips import ClipSet, Source
from cdslm_eval.contract import (
    GIVEN,
    Executor,
    Finished,
    Lost,
    Measurer,
    Metric,
    Produced,
    Recognizer,
    Task,
    Transcriber,
)
from cdslm_eval.errors import EvalError, PluginError
from cdslm_eval.identity import Identity, content_needs, identify, subject, through
from cdslm_eval.measure import DECODING, Begun, Measured, Read, Unit, Workbench
from cdslm_eval.store import FileFacts, Outcome, Store

__all__ = ["Measurement", "Progress", "Request", "Runner", "unchanged"]

_CHUNK_BYTES = 64 << 20
_COMMIT_S = 0.1

Progress = Callable[[int, int], None]
"""Called with (clips done, clips to do)."""


@dataclass(frozen=True, slots=True)
class Request:
    """A set and the metrics that are wanted of it."""

    clips: ClipSet
    metrics: tuple[Metric, ...]


@dataclass(slots=True, eq=False)
class _State:
    """What is known of one clip while a run is under way."""

    source: Source
    wanted: tuple[int, ...]
    digest: str | None = None
    reference_digest: str | None = None
    left: set[int] = field(default_factory=set)
    problems: dict[int, Outcome] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measurement:
    """The rows of one request, read from the store when asked."""

    request: Request
    _runner: Runner
    _states: Sequence[_State]

    def outcomes(self, metric: Metric) -> Iterator[Outcome]:
        """Yield what became of each clip under a metric, in the order of the set."""
        return self._runner._outcomes(self._states, self._runner._number[id(metric)])  # noqa: SLF001 - one class in two parts

    def identity(self, metric: Metric) -> Identity:
        """Return the identity that the metric's rows carry."""
        return self._runner._identity[id(metric)]  # noqa: SLF001 - one class in two parts

    @property
    def unusable(self) -> Mapping[str, str]:
        """Name of each metric of the run that could not even be identified (no weights, say) -> why."""
        return self._runner.unusable

    def subjects(self, metric: Metric) -> list[str | None]:
        """Return the key of each clip's row under a metric; None where the clip was not decoded."""
        number = self._runner._number[id(metric)]  # noqa: SLF001 - one class in two parts
        return [self._runner._subject(state, number) for state in self._states]  # noqa: SLF001

    def fingerprint(self, metric: Metric) -> str:
        """Return a digest of all that the metric's outcomes on this set depend on, without reading rows."""
        subjects, ident = self.subjects(metric), self.identity(metric)
        known = self._runner.store.statuses(ident.stored.ident, {one for one in subjects if one})
        number = self._runner._number[id(metric)]  # noqa: SLF001 - one class in two parts
        own = hashlib.sha256(ident.ident.encode())
        for state, one in zip(self._states, subjects, strict=True):
            problem = state.problems.get(number)
            source = state.source
            line = (source.key, source.speaker, source.path, one, known.get(one or ""), problem and problem.reason)
            own.update(repr(line).encode("utf-8", "surrogatepass"))
        return own.hexdigest()

    def digests(self) -> list[str | None]:
        """Return the content digest of each clip; None where it was not decoded."""
        return [state.digest for state in self._states]


class Runner:
    """Measures requests through one executor into one store.

    Args:
        store: Where rows are kept and looked up.
        executor: Where measurements run.
        recognizer: Gives phones to the metrics that need them.
        jobs: Worker processes.
        time_limit_s: Longest time for one clip under one metric, in seconds.
        device: "auto", "cpu", "cuda".
        keep_failures: Trust failures of earlier runs instead of trying again.
        transcriber: Gives transcripts to the metrics (and the recognizer) that need them.
    """

    def __init__(
        self,
        store: Store,
        executor: Executor,
        recognizer: Recognizer | None,
        *,
        jobs: int = 1,
        time_limit_s: float = 120.0,
        device: str = "auto",
        keep_failures: bool = False,
        transcriber: Transcriber | None = None,
    ) -> None:
        self.store, self.executor = store, executor
        self.givers: dict[str, Measurer] = {one.gives: one for one in (transcriber, recognizer) if one is not None}
        self.jobs, self.time_limit_s, self.device = max(1, jobs), time_limit_s, device
        self._kept = {"ok", "skipped", "failed"} if keep_failures else {"ok", "skipped"}
        self.measurers: list[Measurer] = []
        self.identities: list[Identity] = []
        self._number: dict[int, int] = {}
        self._asks: list[frozenset[str]] = []
        self._identity: dict[int, Identity] = {}
        self._needs: list[frozenset[str]] = []
        self.unusable: dict[str, str] = {}
        """Name of each metric that could not even be identified in the last run (no weights, say) -> why."""
        self.measured = 0
        """Clips that were sent to a worker in the last run."""

    def run(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Measurement]:
        """Measure whatever the store does not hold yet.

        Everything that was measured is in the store when this returns or raises, KeyboardInterrupt included.
        """
        self._enlist(requests)
        states: list[list[_State]] = [
            [
                _State(source, tuple(sorted({self._number[id(metric)] for metric in request.metrics})))
                for source in request.clips.sources
            ]
            for request in requests
        ]
        flat = [state for some in states for state in some]
        self._look_up(flat)
        twins = self._twins(flat)
        pending = [uid for uid, state in enumerate(flat) if state.left]
        self.measured = len(pending)
        if pending:
            _Run(self, flat, pending, progress).go()
        for state, number, first in twins:
            if number in first.problems:
                state.problems[number] = first.problems[number]
        return [Measurement(request, self, some) for request, some in zip(requests, states, strict=True)]

    def _enlist(self, requests: Sequence[Request]) -> None:
        metrics = list({id(metric): metric for request in requests for metric in request.metrics}.values())
        self._identity, self.unusable = {}, {}
        self.measurers, self.identities, self._number = [], [], {}
        asking: list[Measurer] = list(metrics)
        for name in reversed(GIVEN):  # what gives phones may ask for a transcript, never the other way round
            if any(name in through(measurer, self.givers) for measurer in asking):
                asking.insert(0, self.givers[name])
        places: dict[str, int] = {}
        for measurer in asking:
            identity = self._identity[id(measurer)] = self._identified(measurer)
            place = places.setdefault(identity.stored.ident, len(self.measurers))
            self._number[id(measurer)] = place
            if place == len(self.measurers):
                self.measurers.append(measurer)
                self.identities.append(identity.stored)
            elif type(measurer).measure is not type(self.measurers[place]).measure:
                raise PluginError(
                    f"{measurer.name} and {self.measurers[place].name} both claim the rows {measurer.rows!r}"
                )
        self._asks = [frozenset(through(measurer, self.givers)) for measurer in self.measurers]
        self._needs = [content_needs(measurer, self.givers) for measurer in self.measurers]
        known = {one.ident: one for one in (*self.identities, *self._identity.values()) if one.parts}
        with self.store.writing():
            for identity in known.values():
                self.store.put_identity(identity.ident, identity.parts)

    def _identified(self, measurer: Measurer) -> Identity:
        """Return a measurer's identity, or an empty one: its clips are told why, and the other metrics are measured."""
        try:
            return identify(measurer, self.givers)
        except EvalError as error:
            self.unusable[measurer.name] = str(error)
            return Identity(f"{measurer.name}@{measurer.version}#unknown", {})

    def _subject(self, state: _State, number: int) -> str | None:
        return subject(self._needs[number], state.source, state.digest, state.reference_digest)

    def _look_up(self, states: list[_State]) -> None:
        """Take digests from the index of files, and find which rows are there already."""
        paths = {path for state in states for path in (state.source.path, state.source.reference) if path}
        known = {path: facts for path, facts in self.store.files(sorted(paths)).items() if unchanged(path, facts)}
        for state in states:
            if facts := known.get(state.source.path):
                state.digest = facts.digest
            if state.source.reference and (facts := known.get(state.source.reference)):
                state.reference_digest = facts.digest
        for number, identity in enumerate(self.identities):
            those = [state for state in states if number in state.wanted]
            if why := self.unusable.get(self.measurers[number].name):
                for state in those:
                    state.problems[number] = Outcome("failed", why, {})
                continue
            subjects = [self._subject(state, number) for state in those]
            found = self.store.statuses(identity.ident, {one for one in subjects if one is not None})
            for state, one in zip(those, subjects, strict=True):
                if one is None or found.get(one) not in self._kept:
                    state.left.add(number)

    def _twins(self, states: list[_State]) -> list[tuple[_State, int, _State]]:
        """Leave each row to the first of the clips that are known to share it; return (clip, measurer, first)."""
        firsts: dict[tuple[int, str], _State] = {}
        twins = []
        for state in states:
            for number in sorted(state.left):
                key = self._subject(state, number)
                first = state if key is None else firsts.setdefault((number, key), state)
                if first is not state:
                    state.left.discard(number)
                    twins.append((state, number, first))
        return twins

    def _outcomes(self, states: Sequence[_State], number: int) -> Iterator[Outcome]:
        lost = Outcome("failed", "was not measured", {})
        subjects = (self._subject(state, number) or "" for state in states)
        stored = self.store.outcomes(self.identities[number].ident, subjects)
        for state, outcome in zip(states, stored, strict=True):
            yield state.problems.get(number) or outcome or lost


def unchanged(path: str, facts: FileFacts) -> bool:
    """Return whether a file still has the size and time of change that its facts vouch for."""
    try:
        stat = Path(path).stat()
    except OSError:
        return False
    return (stat.st_size, stat.st_mtime_ns) == (facts.size, facts.mtime_ns)


class _Run:
    """One pass over what is pending: chunks, retries, and the blame for what was lost."""

    def __init__(self, runner: Runner, states: list[_State], pending: list[int], progress: Progress | None) -> None:
        self._runner, self._states, self._progress = runner, states, progress
        self._todo = len(pending)
        self._tasks: dict[int, tuple[int, ...]] = {}
        self._at: dict[int, int] = {}
        self._queue: deque[tuple[int, ...]] = deque(self._chunks(pending))
        self._events: list[Read | Measured] = []
        self._committed = time.monotonic()

    def _chunks(self, pending: list[int]) -> Iterator[tuple[int, ...]]:
        """Group clips so that batches fill, but neither memory nor the tail of the run grows."""
        # the last chunks of a run should keep every process busy, so none is more than a small share of the whole
        share = -(-len(pending) // (4 * self._runner.jobs))
        wish = min(share, max(measurer.batch_clips for measurer in self._runner.measurers))
        some: list[int] = []
        size = 0
        for uid in pending:
            try:
                own = Path(self._states[uid].source.path).stat().st_size
            except OSError:
                own = 0  # the worker says what is wrong with it
            if some and (len(some) >= wish or size + own > _CHUNK_BYTES):
                yield tuple(some)
                some, size = [], 0
            some.append(uid)
            size += own
        if some:
            yield tuple(some)

    def go(self) -> None:
        """Hand out tasks and take in what comes back, committing as it comes."""
        runner = self._runner
        worker = Workbench(tuple(runner.measurers), runner.device)
        events = runner.executor.run(worker, self._next, runner.jobs)
        try:
            for event in events:
                match event:
                    case Produced(ident, value):
                        self._take(ident, value)
                    case Finished(ident):
                        self._close(self._tasks.pop(ident))
                    case Lost(ident, reason):
                        self._blame(ident, reason)
                # ten times a second: a killed run loses little more than what was in flight
                if time.monotonic() - self._committed > _COMMIT_S:
                    self._commit()
        finally:
            self._commit()

    def _next(self) -> Task | None:
        if not self._queue:
            return None
        uids = self._queue.popleft()
        ident = (max(self._tasks) if self._tasks else self._at.get(-1, 0)) + 1
        self._at[-1] = ident
        self._tasks[ident] = uids
        self._at[ident] = DECODING
        units = tuple(self._unit(uid) for uid in uids)
        return Task(ident, units, self._runner.time_limit_s * len(units))

    def _unit(self, uid: int) -> Unit:
        state = self._states[uid]
        wanted = set(state.left)
        given: dict[str, Outcome] = {}
        runner = self._runner
        for name in reversed(GIVEN):
            if any(name in runner._asks[number] for number in wanted):  # noqa: SLF001 - one class in two parts
                giver = runner._number[id(runner.givers[name])]  # noqa: SLF001
                known = state.problems.get(giver) or self._stored(state, giver)
                if known is None:
                    wanted.add(giver)
                else:
                    given[name] = known
        return Unit(uid, state.source, tuple(sorted(wanted)), given)

    def _stored(self, state: _State, number: int) -> Outcome | None:
        runner = self._runner
        one = runner._subject(state, number)  # noqa: SLF001 - one class in two parts
        found = next(runner.store.outcomes(runner.identities[number].ident, [one]), None) if one else None
        return found if found is not None and found.status in runner._kept else None  # noqa: SLF001

    def _take(self, ident: int, value: Begun | Read | Measured) -> None:
        if isinstance(value, Begun):
            self._at[ident] = value.measurer
            return
        state = self._states[value.uid]
        if isinstance(value, Read):
            if value.facts is None:
                self._fail(state, set(state.left), value.reason)
            elif value.path == state.source.path:
                state.digest = value.facts.digest
            if value.facts is not None and value.path == state.source.reference:
                state.reference_digest = value.facts.digest
        else:
            state.left.discard(value.measurer)
            if not value.lasting or self._runner._subject(state, value.measurer) is None:  # noqa: SLF001
                state.problems[value.measurer] = value.outcome
                return
        self._events.append(value)

    def _fail(self, state: _State, numbers: set[int], reason: str) -> None:
        for number in numbers:
            state.problems[number] = Outcome("failed", reason, {})
        state.left -= numbers

    def _close(self, uids: tuple[int, ...]) -> None:
        self._todo -= sum(1 for uid in uids if not self._states[uid].left)
        if self._progress:
            total = self._runner.measured
            self._progress(total - self._todo, total)

    def _blame(self, ident: int, reason: str) -> None:
        """Try the rest of a lost chunk clip by clip; a lone clip's loss is charged to the metric it was in."""
        self._commit()
        lost = self._tasks.pop(ident)
        uids = [uid for uid in lost if self._states[uid].left]
        self._close(tuple(uid for uid in lost if uid not in uids))
        if len(uids) > 1:
            self._queue.extendleft((uid,) for uid in reversed(uids))
            return
        for uid in uids:
            state, at = self._states[uid], self._at[ident]
            gives = at != DECODING and self._runner.measurers[at].gives
            guilty = {at} if at in state.left or gives else set(state.left)
            name = "decoding" if at == DECODING else self._runner.measurers[at].name
            self._fail(state, guilty, f"{name}: {reason}")
            if state.left:
                self._queue.appendleft((uid,))
            else:
                self._close((uid,))

    def _commit(self) -> None:
        events, self._events = self._events, []
        self._committed = time.monotonic()
        if not events:
            return
        store, runner = self._runner.store, self._runner
        with store.writing():
            for event in events:
                if isinstance(event, Read):
                    if event.facts is not None:
                        store.put_file(event.path, event.facts)
                    continue
                state = self._states[event.uid]
                key = runner._subject(state, event.measurer)  # noqa: SLF001 - one class in two parts
                assert key is not None  # `_take` keeps rows without a key out of the store
                store.put_row(runner.identities[event.measurer].ident, key, event.outcome)
