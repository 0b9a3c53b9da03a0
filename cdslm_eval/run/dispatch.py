"""Dispatch: hands out what is pending in chunks, takes in what comes back, and settles who is to blame for losses."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from cdslm_eval.core.progress import Progress
from cdslm_eval.core.store import Outcome
from cdslm_eval.plugin.contract import GIVEN, Executor, Finished, Lost, Produced, Task
from cdslm_eval.run.clip_states import ClipState, Ledger
from cdslm_eval.run.worker import DECODING, Begun, Measured, Read, Unit, Workbench

__all__ = ["Dispatch", "Means"]

_CHUNK_BYTES = 64 << 20
_COMMIT_S = 0.1


@dataclass(frozen=True, slots=True)
class Means:
    """What a run works with.

    Attributes:
        executor: Where measurements run.
        jobs: Worker processes.
        time_limit_s: Longest time for one clip under one metric, in seconds.
        device: "auto", "cpu", "cuda".
    """

    executor: Executor
    jobs: int
    time_limit_s: float
    device: str


class Dispatch:
    """One pass over what is pending: chunks, retries, and the blame for what was lost.

    Args:
        ledger: What is known of clips.
        means: What the run works with.
        states: All clips of the run.
        pending: Places, in `states`, of those with something left to do.
        progress: Told how many are done.
    """

    def __init__(
        self, ledger: Ledger, means: Means, states: list[ClipState], pending: list[int], progress: Progress | None
    ) -> None:
        self._ledger, self._means, self._states, self._progress = ledger, means, states, progress
        self._total = self._todo = len(pending)
        self._tasks: dict[int, tuple[int, ...]] = {}
        self._numbers = count(1)
        self._at: dict[int, int] = {}
        self._queue: deque[tuple[int, ...]] = deque(self._chunks(pending))
        self._events: list[Read | Measured] = []
        self._committed = time.monotonic()

    def _chunks(self, pending: list[int]) -> Iterator[tuple[int, ...]]:
        """Group clips so that batches fill, but neither memory nor the tail of the run grows."""
        # the last chunks of a run should keep every process busy, so none is more than a small share of the whole
        share = -(-len(pending) // (4 * self._means.jobs))
        wish = min(share, max(measurer.batch_clips for measurer in self._ledger.roster.measurers))
        some: list[int] = []
        size = 0
        for uid in pending:
            own = self._states[uid].source.bytes
            if some and (len(some) >= wish or size + own > _CHUNK_BYTES):
                yield tuple(some)
                some, size = [], 0
            some.append(uid)
            size += own
        if some:
            yield tuple(some)

    def go(self) -> None:
        """Hand out tasks and take in what comes back, committing as it comes."""
        means = self._means
        worker = Workbench(self._ledger.roster.measurers, means.device)
        events = means.executor.run(worker, self._next, means.jobs)
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
        ident = next(self._numbers)
        self._tasks[ident] = uids
        self._at[ident] = DECODING
        units = tuple(self._unit(uid) for uid in uids)
        return Task(ident, units, self._means.time_limit_s * len(units))

    def _unit(self, uid: int) -> Unit:
        state = self._states[uid]
        wanted = set(state.left)
        given: dict[str, Outcome] = {}
        roster = self._ledger.roster
        for name in reversed(GIVEN):
            if any(name in roster.asks[number] for number in wanted):
                giver = roster.number(roster.givers[name])
                known = self._ledger.known(state, giver)
                if known is None:
                    wanted.add(giver)
                else:
                    given[name] = known
        return Unit(uid, state.source, tuple(sorted(wanted)), given)

    def _take(self, ident: int, value: Begun | Read | Measured) -> None:
        if isinstance(value, Begun):
            self._at[ident] = value.measurer
            return
        state = self._states[value.uid]
        if isinstance(value, Read):
            if value.facts is None:
                state.fail(state.left, value.reason)
            elif value.path == state.source.path:
                state.digest = value.facts.digest
            if value.facts is not None and value.path == state.source.reference:
                state.reference_digest = value.facts.digest
        else:
            state.left.discard(value.measurer)
            if not value.lasting or self._ledger.subject(state, value.measurer) is None:
                state.problems[value.measurer] = value.outcome
                return
        self._events.append(value)

    def _close(self, uids: tuple[int, ...]) -> None:
        self._todo -= sum(1 for uid in uids if not self._states[uid].left)
        if self._progress:
            self._progress(self._total - self._todo, self._total)

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
            measurer = None if at == DECODING else self._ledger.roster.measurers[at]
            guilty = {at} if at in state.left or (measurer and measurer.gives) else state.left
            state.fail(guilty, f"{measurer.name if measurer else 'decoding'}: {reason}")
            if state.left:
                self._queue.appendleft((uid,))
            else:
                self._close((uid,))

    def _commit(self) -> None:
        events, self._events = self._events, []
        self._committed = time.monotonic()
        if not events:
            return
        store, ledger = self._ledger.store, self._ledger
        with store.writing():
            for event in events:
                if isinstance(event, Read):
                    if event.facts is not None:
                        store.put_file(event.path, event.facts)
                    continue
                state = self._states[event.uid]
                key = ledger.subject(state, event.measurer)
                assert key is not None  # `_take` keeps rows without a key out of the store
                store.put_row(ledger.roster.identities[event.measurer].ident, key, event.outcome)
