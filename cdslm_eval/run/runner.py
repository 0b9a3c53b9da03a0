"""Runner: measures requests through one executor into one store, and hands out what they came to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.progress import Progress
from cdslm_eval.core.store import Outcome, Store
from cdslm_eval.plugin.contract import Executor, Measurer, Metric, Recognizer, Transcriber
from cdslm_eval.plugin.identity import Identity
from cdslm_eval.run.clip_states import ClipState, Ledger
from cdslm_eval.run.dispatch import Dispatch, Means
from cdslm_eval.run.measurer_graph import enlist

__all__ = ["Measurement", "Request", "Runner"]


@dataclass(frozen=True, slots=True)
class Request:
    """A set and the metrics that are wanted of it."""

    clips: ClipSet
    metrics: tuple[Metric, ...]


@dataclass(frozen=True, slots=True)
class Measurement:
    """The rows of one request, read from the store when asked."""

    request: Request
    _ledger: Ledger
    _states: Sequence[ClipState]

    def outcomes(self, metric: Metric) -> Iterator[Outcome]:
        """Yield what became of each clip under a metric, in the order of the set."""
        return self._ledger.outcomes(self._states, self._ledger.roster.number(metric))

    def identity(self, metric: Metric) -> Identity:
        """Return the identity that the metric's rows carry."""
        return self._ledger.roster.identity(metric)

    @property
    def unusable(self) -> Mapping[str, str]:
        """Name of each metric of the run that could not even be identified (no weights, say) -> why."""
        return self._ledger.roster.unusable

    def subjects(self, metric: Metric) -> list[str | None]:
        """Return the key of each clip's row under a metric; None where the clip was not decoded."""
        number = self._ledger.roster.number(metric)
        return [self._ledger.subject(state, number) for state in self._states]

    def fingerprint(self, metric: Metric) -> str:
        """Return a digest of all that the metric's outcomes on this set depend on, without reading rows."""
        subjects, ident = self.subjects(metric), self.identity(metric)
        known = self._ledger.store.statuses(ident.stored.ident, {one for one in subjects if one})
        number = self._ledger.roster.number(metric)
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

    Attributes:
        executor: Where measurements run.
        measured: Clips that were sent to a worker in the last run.
        unusable: Name of each metric that could not even be identified in the last run -> why.
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
        self.executor = executor
        self.measured = 0
        self.unusable: Mapping[str, str] = {}
        self._store = store
        self._givers: dict[str, Measurer] = {one.gives: one for one in (transcriber, recognizer) if one is not None}
        self._means = Means(executor, max(1, jobs), time_limit_s, device)
        self._kept = frozenset({"ok", "skipped", "failed"} if keep_failures else {"ok", "skipped"})

    def run(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Measurement]:
        """Measure whatever the store does not hold yet.

        Everything that was measured is in the store when this returns or raises, KeyboardInterrupt included.
        """
        roster = enlist((metric for request in requests for metric in request.metrics), self._givers)
        with self._store.writing():
            for identity in roster.written():
                self._store.put_identity(identity.ident, identity.parts)
        self.unusable = roster.unusable
        ledger = Ledger(self._store, roster, self._kept)
        states = []
        for request in requests:
            wanted = tuple(sorted({roster.number(metric) for metric in request.metrics}))
            states.append([ClipState(source, wanted) for source in request.clips.sources])
        flat = [state for some in states for state in some]
        ledger.look_up(flat)
        twins = ledger.twins(flat)
        pending = [uid for uid, state in enumerate(flat) if state.left]
        self.measured = len(pending)
        if pending:
            Dispatch(ledger, self._means, flat, pending, progress).go()
        for state, number, first in twins:
            if number in first.problems:
                state.problems[number] = first.problems[number]
        return [Measurement(request, ledger, some) for request, some in zip(requests, states, strict=True)]
