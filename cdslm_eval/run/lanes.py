"""Lanes: which workers measure what of a clip, and the clips that wait for each; models on a device have their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cdslm_eval.core.store import Outcome
from cdslm_eval.plugin.contract import UPSTREAM_FEATURES, Component, Measurer
from cdslm_eval.run.clip_states import ClipState, ClipStates
from cdslm_eval.run.decoding import Unit

__all__ = ["DEVICE_BATCHES", "ClipQueue", "Lanes", "runs_on_device"]

DEVICE_BATCHES = 4
"""Batches in one task of a device: while it works on one, the next is decoded."""
_TAIL = 4
"""Tasks that each worker should still get: the last ones of a run keep every worker busy."""


def runs_on_device(measurer: Measurer) -> bool:
    """Return whether a measurer's model goes to the device: it opens one, and does not declare the CPU alone."""
    return not measurer.cpu_only and type(measurer).open is not Component.open


@dataclass(slots=True)
class ClipQueue:
    """The clips that wait for the workers of a lane.

    Attributes:
        batch: The largest batch of its measurers, in clips.
        task_clips: Clips that a task may hold while many are waiting.
        n_workers: Returns how many of its tasks run at once.
        total: Clips that it began with.
        waiting: Numbers of clips.
        retries: Clips that are measured again together, first.
    """

    batch: int
    task_clips: int
    n_workers: Callable[[], int]
    total: int = 0
    waiting: deque[int] = field(default_factory=deque)
    retries: deque[tuple[int, ...]] = field(default_factory=deque)

    def take(self) -> tuple[int, ...]:
        """Take the clips of the next task, so that batches fill, and the last tasks of a run keep all workers busy."""
        if self.retries:
            return self.retries.popleft()
        tasks = _TAIL * max(1, self.n_workers())
        batch = max(1, min(-(-self.total // tasks), self.batch))
        size = max(batch, min(self.task_clips, len(self.waiting) // tasks) // batch * batch)
        return tuple(self.waiting.popleft() for _ in range(min(size, len(self.waiting))))

    def retry(self, uids: Sequence[int]) -> None:
        """Put clips of a lost task back: in batches, and those of one batch one by one, to find which is at fault."""
        size = self.batch if len(uids) > self.batch else 1
        parts = [tuple(uids[start : start + size]) for start in range(0, len(uids), size)]
        self.retries.extendleft(reversed(parts))


class Lanes:
    """Routes clips to lanes. Lane 0 runs on the CPU; with devices, lane 1 has a worker on each of them.

    Args:
        clip_states: What is known of clips.
        states: All clips of the run.
        pending: Indices, into `states`, of those with something left to measure.
        queues: One per lane, still empty.
    """

    def __init__(
        self,
        clip_states: ClipStates,
        states: Sequence[ClipState],
        pending: Iterable[int],
        queues: Sequence[ClipQueue],
    ) -> None:
        self._clip_states, self._states, self.queues = clip_states, states, queues
        graph = clip_states.graph
        by_device = len(queues) > 1
        self._lane_of = [int(by_device and runs_on_device(measurer)) for measurer in graph.measurers]
        self._reads = [
            tuple((feature, graph.number(graph.providers[feature])) for feature in features)
            for features in graph.depends_on
        ]
        self._held = [bytearray(len(states)) for _ in queues]
        readers = ((number, provider) for number, reads in enumerate(self._reads) for _, provider in reads)
        self.exported = frozenset(
            provider for number, provider in readers if self._lane_of[number] != self._lane_of[provider]
        )
        starts: dict[frozenset[int], list[int]] = {}
        for uid in pending:
            left = states[uid].left if by_device else frozenset()
            if left not in starts:
                wanted = self._with_providers(set(left), lambda _: False)
                starts[left] = [lane for lane in range(len(queues)) if not by_device or self._ready(wanted, {}, lane)]
            for lane in starts[left]:
                queues[lane].waiting.append(uid)
                self._held[lane][uid] = 1
        for queue in queues:
            queue.total = len(queue.waiting)

    def unit(self, uid: int, lane: int) -> Unit | None:
        """Return what the lane can measure of a clip now, with the upstream outcomes that are known; None for nothing.

        Providers of unknown upstream outcomes are work as well, of their own lane.
        """
        state = self._states[uid]
        upstream: dict[str, Outcome] = {}

        def is_known(feature: str) -> bool:
            graph = self._clip_states.graph
            known = self._clip_states.known(state, graph.number(graph.providers[feature]))
            if known is not None:
                upstream[feature] = known
            return known is not None

        wanted = self._with_providers(set(state.left), is_known)
        own = self._ready(wanted, upstream, lane)
        return Unit(uid, state.source, own, upstream) if own else None

    def _with_providers(self, wanted: set[int], is_known: Callable[[str], bool]) -> set[int]:
        graph = self._clip_states.graph
        for feature in reversed(UPSTREAM_FEATURES):
            if any(feature in graph.depends_on[number] for number in wanted) and not is_known(feature):
                wanted.add(graph.number(graph.providers[feature]))
        return wanted

    def _ready(self, wanted: set[int], upstream: dict[str, Any], lane: int) -> tuple[int, ...]:
        """Return the wanted measurers of a lane whose upstream features are known, or are measured in the same task."""
        own: list[int] = []
        for number in sorted(wanted):  # providers come first
            if self._lane_of[number] == lane and all(
                feature in upstream or provider in own for feature, provider in self._reads[number]
            ):
                own.append(number)
        return tuple(own)

    def release(self, uid: int, lane: int) -> None:
        """Note that a lane is done with a clip, and queue it where something more can be measured of it now."""
        self._held[lane][uid] = 0
        if len(self.queues) == 1 or self._states[uid].is_done:
            return
        for other, queue in enumerate(self.queues):
            if other != lane and not self._held[other][uid] and self.unit(uid, other) is not None:
                queue.waiting.append(uid)
                self._held[other][uid] = 1
