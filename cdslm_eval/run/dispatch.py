"""Dispatch: hands out pending clips in chunks, collects what comes back, and retries what was lost clip by clip."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from cdslm_eval.core.progress import Progress
from cdslm_eval.core.remote.addresses import is_remote
from cdslm_eval.core.store import Outcome
from cdslm_eval.plugin.contract import UPSTREAM_FEATURES
from cdslm_eval.plugin.execution import Executor, Finished, Lost, Produced, Task
from cdslm_eval.run.clip_states import ClipState, ClipStates
from cdslm_eval.run.worker import DECODING, Measured, Read, Started, Unit, Worker

__all__ = ["Dispatch", "RunnerConfig"]

_CHUNK_BYTES = 64 << 20
_COMMIT_S = 0.1
_BATCHES_AHEAD = 4


@dataclass(frozen=True, slots=True)
class RunnerConfig:
    """How a run is executed.

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
    """One pass over what is pending: chunks, retries, and who is charged for what was lost.

    Args:
        clip_states: What is known of clips.
        config: How the run is executed.
        states: All clips of the run.
        pending: Indices, into `states`, of those with something left to measure.
        starts: Index, into `states`, of the first clip of each set.
        progress: Called as clips are done.

    Attributes:
        seconds: (number of the set, number of the measurer) -> seconds that its measuring took, over all workers.
    """

    def __init__(
        self,
        clip_states: ClipStates,
        config: RunnerConfig,
        states: list[ClipState],
        pending: list[int],
        starts: Sequence[int],
        progress: Progress | None,
    ) -> None:
        self._clip_states, self._config, self._states, self._progress = clip_states, config, states, progress
        self._total = self._todo = len(pending)
        self._tasks: dict[int, tuple[int, ...]] = {}
        self._numbers = count(1)
        self._current: dict[int, int] = {}
        self._queue: deque[tuple[int, ...]] = deque(self._chunks(pending))
        self._events: list[Read | Measured] = []
        self._committed = time.monotonic()
        self.seconds: defaultdict[tuple[int, int], float] = defaultdict(float)
        self._starts = starts
        # when a task last began something, or sent an outcome: the time between belongs to what sends the next one
        self._marks: dict[int, float] = {}

    def _chunks(self, pending: list[int]) -> Iterator[tuple[int, ...]]:
        """Group clips so that batches fill, but neither memory nor the tail of the run grows."""
        # the last chunks of a run should keep every process busy, so none is more than a small share of the whole
        share = -(-len(pending) // (4 * self._config.jobs))
        batch = max(measurer.batch_clips for measurer in self._clip_states.graph.measurers)
        # several batches of objects, so that a worker reads the next one while it measures
        is_far = any(is_remote(self._states[uid].source.path) for uid in pending)
        most = min(share, batch * (_BATCHES_AHEAD if is_far else 1))
        chunk: list[int] = []
        size = 0
        for uid in pending:
            own = self._states[uid].source.bytes
            if chunk and (len(chunk) >= most or size + own > _CHUNK_BYTES):
                yield tuple(chunk)
                chunk, size = [], 0
            chunk.append(uid)
            size += own
        if chunk:
            yield tuple(chunk)

    def run(self) -> None:
        """Hand out tasks and collect what comes back, committing as it comes."""
        config = self._config
        worker = Worker(self._clip_states.graph.measurers, config.device)
        events = config.executor.run(worker, self._next, config.jobs)
        try:
            for event in events:
                match event:
                    case Produced(ident, value):
                        self._receive(ident, value)
                    case Finished(ident):
                        self._marks.pop(ident, None)
                        self._close(self._tasks.pop(ident))
                    case Lost(ident, reason):
                        self._retry_or_fail(ident, reason)
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
        self._current[ident] = DECODING
        units = tuple(self._unit(uid) for uid in uids)
        return Task(ident, units, self._config.time_limit_s * len(units))

    def _unit(self, uid: int) -> Unit:
        """Return what a worker needs for a clip: upstream outcomes that are known, or their providers as work."""
        state = self._states[uid]
        wanted = set(state.left)
        upstream: dict[str, Outcome] = {}
        graph = self._clip_states.graph
        for feature in reversed(UPSTREAM_FEATURES):
            if any(feature in graph.depends_on[number] for number in wanted):
                provider = graph.number(graph.providers[feature])
                known = self._clip_states.known(state, provider)
                if known is None:
                    wanted.add(provider)
                else:
                    upstream[feature] = known
        return Unit(uid, state.source, tuple(sorted(wanted)), upstream)

    def _receive(self, ident: int, value: Started | Read | Measured) -> None:
        if isinstance(value, Started):
            self._current[ident] = value.measurer
            self._marks[ident] = time.monotonic()
            return
        state = self._states[value.uid]
        if isinstance(value, Read):
            if value.facts is None:
                state.fail(state.left, value.reason)
            elif value.address == state.source.address:
                state.facts, state.digest = value.facts, state.source.digest_of(value.facts.digest)
            if value.facts is not None and value.address in state.source.addresses[1:]:
                state.reference_digest = value.facts.digest
        else:
            now = time.monotonic()
            number = bisect_right(self._starts, value.uid) - 1
            self.seconds[number, value.measurer] += now - self._marks.get(ident, now)
            self._marks[ident] = now
            state.left.discard(value.measurer)
            if not value.lasting or self._clip_states.subject(state, value.measurer) is None:
                state.unstored[value.measurer] = value.outcome
                return
        self._events.append(value)

    def _close(self, uids: tuple[int, ...]) -> None:
        self._todo -= sum(1 for uid in uids if not self._states[uid].left)
        if self._progress:
            self._progress(self._total - self._todo, self._total)

    def _retry_or_fail(self, ident: int, reason: str) -> None:
        """Retry the rest of a lost chunk clip by clip; a lone clip's loss is charged to the metric that was running."""
        self._commit()
        self._marks.pop(ident, None)
        lost = self._tasks.pop(ident)
        uids = [uid for uid in lost if self._states[uid].left]
        self._close(tuple(uid for uid in lost if uid not in uids))
        if len(uids) > 1:
            self._queue.extendleft((uid,) for uid in reversed(uids))
            return
        for uid in uids:
            state, current = self._states[uid], self._current[ident]
            measurer = None if current == DECODING else self._clip_states.graph.measurers[current]
            failing = {current} if current in state.left or (measurer and measurer.provides) else state.left
            state.fail(failing, f"{measurer.name if measurer else 'decoding'}: {reason}")
            if state.left:
                self._queue.appendleft((uid,))
            else:
                self._close((uid,))

    def _commit(self) -> None:
        events, self._events = self._events, []
        self._committed = time.monotonic()
        if not events:
            return
        store, clip_states = self._clip_states.store, self._clip_states
        with store.writing():
            for event in events:
                if isinstance(event, Read):
                    if event.facts is not None:
                        store.put_file(event.address, event.facts)
                    continue
                state = self._states[event.uid]
                key = clip_states.subject(state, event.measurer)
                assert key is not None  # `_receive` keeps rows without a key out of the store
                store.put_row(clip_states.graph.identities[event.measurer].ident, key, event.outcome)
