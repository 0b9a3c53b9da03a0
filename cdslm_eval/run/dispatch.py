"""Dispatch: hands out pending clips in tasks, collects what comes back, and retries what was lost."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count

from cdslm_eval.core.progress import Progress
from cdslm_eval.core.remote.addresses import is_remote
from cdslm_eval.core.store import FileFacts
from cdslm_eval.plugin.execution import Executor, Finished, Lane, Lost, Produced, Task
from cdslm_eval.run.clip_states import ClipState, ClipStates
from cdslm_eval.run.decoding import Read
from cdslm_eval.run.lanes import DEVICE_BATCHES, ClipQueue, Lanes, runs_on_device
from cdslm_eval.run.worker import DECODING, Measured, Started, Worker

__all__ = ["Dispatch", "RunnerConfig"]

DECODERS = 4
"""Threads that decode clips for the worker of a device while it measures others."""
BATCHES_AHEAD = 4
"""Batches of objects in one task, of which one is not read ahead."""
_COMMIT_S = 0.1


@dataclass(frozen=True, slots=True)
class RunnerConfig:
    """How a run is executed.

    Attributes:
        executor: Where measurements run.
        jobs: Worker processes.
        time_limit_s: Longest time for one clip under one metric, in seconds.
        device: "auto", "cpu", "cuda", or devices by name, which get a worker each; the CPU gets `jobs` besides.
    """

    executor: Executor
    jobs: int
    time_limit_s: float
    device: str


class Dispatch:
    """One pass over what is pending: tasks, retries, and who is charged for what was lost.

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
        self._total, self._done = len(pending), 0
        self._devices = config.executor.devices(config.device)
        self._tasks: dict[int, tuple[int, tuple[int, ...]]] = {}
        self._numbers = count(1)
        self._current: dict[int, int] = {}
        self._lanes = Lanes(clip_states, states, pending, self._queues(pending))
        self._events: list[Read | Measured] = []
        self._committed = time.monotonic()
        self.seconds: defaultdict[tuple[int, int], float] = defaultdict(float)
        self._starts = starts
        # when a task last began something, or sent an outcome: the time between belongs to what sends the next one
        self._marks: dict[int, float] = {}
        # with devices a clip is read by two lanes: uid -> digest of its content when it was read first
        self._read: dict[int, str] = {}
        self._changed: set[int] = set()

    def _queues(self, pending: Sequence[int]) -> list[ClipQueue]:
        """Return the empty queue of each lane: one for all, or those of the CPU and of the devices."""
        config, devices = self._config, self._devices
        executor, measurers = config.executor, self._clip_states.graph.measurers
        batch = max(measurer.batch_clips for measurer in measurers)
        # several batches of objects, so that a worker reads the next one while it measures
        is_far = any(is_remote(self._states[uid].source.path) for uid in pending)
        task_clips = max(executor.task_clips, BATCHES_AHEAD * batch) if is_far else executor.task_clips
        shared = ClipQueue(batch, task_clips, lambda: executor.n_workers(config.jobs))
        if not devices:
            return [shared]
        largest = max((measurer.batch_clips for measurer in measurers if runs_on_device(measurer)), default=1)
        return [shared, ClipQueue(largest, DEVICE_BATCHES * largest, lambda: len(devices))]

    def run(self) -> None:
        """Hand out tasks and collect what comes back, committing as it comes."""
        config, graph = self._config, self._clip_states.graph
        fingerprints = tuple(identity.parts.get("fingerprint") for identity in graph.identities)
        versions = tuple(measurer.version for measurer in graph.measurers)
        device = "cpu" if self._devices else config.device
        shared = Worker(graph.measurers, device, fingerprints=fingerprints, versions=versions)
        of_devices = [replace(shared, device=name, decoders=DECODERS) for name in self._devices]
        lanes = [Lane(shared, lambda: self._next(0), config.jobs)]
        lanes += [Lane(worker, lambda: self._next(1), 1) for worker in of_devices]
        try:
            for event in config.executor.run_lanes(lanes):
                match event:
                    case Produced(ident, value):
                        self._receive(ident, value)
                    case Finished(ident):
                        self._marks.pop(ident, None)
                        self._close(*self._tasks.pop(ident))
                    case Lost(ident, reason):
                        self._retry_or_fail(ident, reason)
                # ten times a second: a killed run loses little more than what was in flight
                if time.monotonic() - self._committed > _COMMIT_S:
                    self._commit()
                    self._report()
        finally:
            self._commit()

    def _next(self, lane: int) -> Task | None:
        """Return the next task of a lane, or None when nothing waits for it."""
        queue = self._lanes.queues[lane]
        while uids := queue.take():
            if self._lanes.exported:
                self._commit()  # upstream outcomes of another lane are read from the store
            units = []
            for uid in uids:
                unit = self._lanes.unit(uid, lane)
                if unit is None:
                    self._lanes.release(uid, lane)
                else:
                    units.append(unit)
            if units:
                ident = next(self._numbers)
                self._tasks[ident] = lane, tuple(unit.uid for unit in units)
                self._current[ident] = DECODING
                # time between two events, of which there is one for each batch at least
                return Task(ident, tuple(units), self._config.time_limit_s * min(len(units), queue.batch))
        return None

    def _receive(self, ident: int, value: Started | Read | Measured) -> None:
        if isinstance(value, Started):
            self._current[ident] = value.measurer
            self._marks[ident] = time.monotonic()
            return
        state = self._states[value.uid]
        if isinstance(value, Measured) and value.uid in self._changed:
            return
        if isinstance(value, Read):
            if value.facts is None:
                self._fail(state, state.left, value.reason)
            elif value.address == state.source.address:
                self._describe(value.uid, value.facts)
            if value.facts is not None and value.address in state.source.addresses[1:]:
                state.reference_digest = value.facts.digest
        else:
            now = time.monotonic()
            number = bisect_right(self._starts, value.uid) - 1
            self.seconds[number, value.measurer] += now - self._marks.get(ident, now)
            self._marks[ident] = now
            if value.measurer in state.left:
                state.discard(value.measurer)
                self._done += state.is_done
            if not value.cacheable or self._clip_states.subject(state, value.measurer) is None:
                state.hold(value.measurer, value.outcome)
                return
            if value.measurer in self._lanes.exported and not self._clip_states.is_usable(
                value.outcome, value.measurer
            ):
                # those of another lane that read it look into the store, which does not vouch for this one
                state.hold(value.measurer, value.outcome)
        self._events.append(value)

    def _describe(self, uid: int, facts: FileFacts) -> None:
        """Take the content of a clip from its file; refuse one that another lane has read with other content."""
        state, digest = self._states[uid], self._states[uid].source.digest_of(facts.digest)
        if self._devices and self._read.setdefault(uid, digest) != digest:
            # what was measured so far is of the earlier content, under whose digest it is kept
            self._commit()
            self._changed.add(uid)
            self._fail(state, state.left, "its file changed while it was measured; repeat the command")
            return
        state.facts, state.digest = facts, digest

    def _fail(self, state: ClipState, numbers: Iterable[int], reason: str) -> None:
        """Charge a failure that the store shall not keep to measurers, which are done with the clip."""
        was_done = state.is_done
        state.fail(numbers, reason)
        self._done += state.is_done and not was_done

    def _close(self, lane: int, uids: Sequence[int]) -> None:
        """End a task: its clips wait for other lanes, or are done."""
        if self._lanes.exported:
            self._commit()
        for uid in uids:
            self._lanes.release(uid, lane)
        self._report()

    def _report(self) -> None:
        if self._progress:
            self._progress(self._done, self._total)

    def _retry_or_fail(self, ident: int, reason: str) -> None:
        """Retry the rest of a lost task in parts; a lone clip's loss is charged to the metric that was running."""
        self._commit()
        self._marks.pop(ident, None)
        lane, lost = self._tasks.pop(ident)
        queue = self._lanes.queues[lane]
        uids = [uid for uid in lost if self._lanes.unit(uid, lane) is not None]
        self._close(lane, [uid for uid in lost if uid not in uids])
        if len(uids) > 1:
            queue.retry(uids)
            return
        for uid in uids:
            state, current = self._states[uid], self._current[ident]
            measurer = None if current == DECODING else self._clip_states.graph.measurers[current]
            failing = {current} if current in state.left or (measurer and measurer.provides) else state.left
            self._fail(state, failing, f"{measurer.name if measurer else 'decoding'}: {reason}")
            if self._lanes.unit(uid, lane) is not None:
                queue.retry((uid,))
            else:
                self._close(lane, (uid,))

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
