"""Runner: measures requests through one executor into one store, and returns their outcomes."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.progress import Progress
from cdslm_eval.core.store import FileFacts, Outcome, Store
from cdslm_eval.plugin.contract import Measurer, Metric, Recognizer, Transcriber
from cdslm_eval.plugin.execution import Executor
from cdslm_eval.plugin.identity import Identity
from cdslm_eval.results.score_result import Failure
from cdslm_eval.run.clip_states import ClipState, ClipStates
from cdslm_eval.run.contents import read_contents
from cdslm_eval.run.dispatch import Dispatch, RunnerConfig
from cdslm_eval.run.measurer_graph import resolve
from cdslm_eval.run.rates import RateBook, forecast

__all__ = ["Measurement", "Request", "Runner", "unscored"]

_logger = logging.getLogger("cdslm_eval")


@dataclass(frozen=True, slots=True)
class Request:
    """A set and the metrics to measure on it."""

    clips: ClipSet
    metrics: tuple[Metric, ...]


@dataclass(frozen=True, slots=True)
class Measurement:
    """The rows of one request, read from the store when they are used."""

    request: Request
    _clip_states: ClipStates
    _states: Sequence[ClipState]
    _seconds: Mapping[int, float] = field(default_factory=dict)

    def outcomes(self, metric: Metric) -> Iterator[Outcome]:
        """Yield the outcome of each clip under a metric, in the order of the set."""
        return self._clip_states.outcomes(self._states, self._clip_states.graph.number(metric))

    def upstream(self, feature: str) -> Iterator[Outcome]:
        """Yield the outcome of each clip under the provider of a feature; nothing where no metric depends on it."""
        graph = self._clip_states.graph
        if any(feature in features for features in graph.depends_on):
            yield from self._clip_states.outcomes(self._states, graph.number(graph.providers[feature]))

    def narrowed(self, metrics: Sequence[Metric]) -> Measurement:
        """Return the same rows as the answer to a request of fewer metrics."""
        return dataclasses.replace(self, request=Request(self.request.clips, tuple(metrics)))

    def identity(self, metric: Metric) -> Identity:
        """Return the identity that the metric's rows carry."""
        return self._clip_states.graph.identity(metric)

    @property
    def unusable(self) -> Mapping[str, str]:
        """Name of each metric of the run that could not be identified (no weights, for instance) -> why."""
        return self._clip_states.graph.unusable

    def subjects(self, metric: Metric) -> list[str | None]:
        """Return the key of each clip's row under a metric; None where the clip was not decoded."""
        number = self._clip_states.graph.number(metric)
        return [self._clip_states.subject(state, number) for state in self._states]

    def fingerprint(self, metric: Metric) -> str:
        """Return a digest of all that the metric's outcomes on this set depend on, without reading rows."""
        subjects, ident = self.subjects(metric), self.identity(metric)
        known = self._clip_states.store.statuses(ident.stored.ident, {key for key in subjects if key})
        number = self._clip_states.graph.number(metric)
        own = hashlib.sha256(ident.ident.encode())
        for state, key in zip(self._states, subjects, strict=True):
            problem = state.unstored.get(number)
            source = state.source
            line = (source.key, source.speaker, source.path, key, known.get(key or ""), problem and problem.reason)
            own.update(repr(line).encode("utf-8", "surrogatepass"))
            if part := source.address.part:
                own.update(part.encode())
        return own.hexdigest()

    def seconds(self, metric: Metric) -> float:
        """Return the seconds that the run spent on a metric's rows and what they depend on; 0 if all were stored."""
        graph = self._clip_states.graph
        number = graph.number(metric)
        upstream = (graph.number(graph.providers[feature]) for feature in graph.depends_on[number])
        return sum(self._seconds.get(part, 0.0) for part in (number, *upstream))

    def failures(self, metric: Metric) -> list[Failure]:
        """Return the clips that a metric did not score, each with its reason."""
        clips = self.request.clips
        return [
            Failure(clips.name, source.key, metric.name, outcome.status, outcome.reason)
            for source, outcome in zip(clips.sources, self.outcomes(metric), strict=True)
            if outcome.status != "ok"
        ]

    def facts(self) -> list[FileFacts]:
        """Return what was found in the files of those clips that were decoded, now or before."""
        return [state.facts for state in self._states if state.facts is not None]

    def digests(self) -> list[str | None]:
        """Return the content digest of each clip; None where it was not decoded."""
        return [state.digest for state in self._states]


class Runner:
    """Measures requests through one executor into one store.

    Args:
        store: Where rows are kept and looked up.
        executor: Where measurements run.
        recognizer: Provides phones to the metrics that need them.
        jobs: Worker processes.
        time_limit_s: Longest time for one clip under one metric, in seconds.
        device: "auto", "cpu", "cuda", or devices by name: "cuda:0,cuda:1".
        keep_failures: Trust failures of earlier runs instead of trying again.
        transcriber: Provides transcripts to the metrics (and the recognizer) that need them.
        rehash: Decode every file again, whatever the store knows of it.
        announce: Called before measuring with a sentence on how long it will take, where that is worth one.

    Attributes:
        store: Where rows are.
        executor: Where measurements run.
        measured: Clips that were sent to a worker in the last run.
        unusable: Name of each metric that could not be identified in the last run -> why.
        measurements: Of the last run, in the order of its requests.
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
        rehash: bool = False,
        announce: Callable[[str], None] | None = None,
    ) -> None:
        self.executor = executor
        self.measured = 0
        self.unusable: Mapping[str, str] = {}
        self.measurements: list[Measurement] = []
        self.store = store
        self._providers: dict[str, Measurer] = {
            measurer.provides: measurer for measurer in (transcriber, recognizer) if measurer is not None
        }
        self._config = RunnerConfig(executor, max(1, jobs), time_limit_s, device)
        self._rehash, self._announce = rehash, announce
        self._kept = frozenset({"ok", "skipped", "failed"} if keep_failures else {"ok", "skipped"})

    def run(
        self, requests: Sequence[Request], progress: Progress | None = None, *, recognizer: Recognizer | None = None
    ) -> list[Measurement]:
        """Measure whatever the store does not hold yet.

        Everything that was measured is in the store when this returns or raises, KeyboardInterrupt included.

        Args:
            requests: Sets and metrics.
            progress: Called with (clips done, clips to do).
            recognizer: Provides the phones this time; by default the runner's own.
        """
        providers = self._providers if recognizer is None else {**self._providers, recognizer.provides: recognizer}
        graph = resolve((metric for request in requests for metric in request.metrics), providers)
        with self.store.writing():
            for identity in graph.stored_identities():
                self.store.put_identity(identity.ident, identity.parts)
        self.unusable = graph.unusable
        clip_states = ClipStates(self.store, graph, self._kept)
        states = []
        for request in requests:
            wanted = tuple(sorted({graph.number(metric) for metric in request.metrics}))
            states.append([ClipState(source, wanted) for source in request.clips.sources])
        flat = [state for group in states for state in group]
        # an unpacked archive or a changed mode alters the stamp of a file and not its content: decoding costs less than
        # measuring again
        doubtful = clip_states.doubtful(flat, rehash=self._rehash)
        read = read_contents(self.store, self.executor, doubtful, self._config.jobs, progress)
        clip_states.look_up(flat, distrusted=set(doubtful) - read)
        duplicates = clip_states.duplicates(flat)
        pending = [uid for uid, state in enumerate(flat) if not state.is_done]
        self.measured = len(pending)
        _logger.info("%d clips in %d sets, %d of them to measure", len(flat), len(requests), len(pending))
        if pending and self._announce and (text := self._forecast(clip_states, [flat[uid] for uid in pending])):
            self._announce(text)
        starts = [0, *itertools.accumulate(len(group) for group in states)]
        seconds: Mapping[tuple[int, int], float] = {}
        if pending:
            dispatch = Dispatch(clip_states, self._config, flat, pending, starts, progress)
            dispatch.run()
            seconds = dispatch.seconds
            _logger.info("measured")
        for state, number, first in duplicates:
            if number in first.unstored:
                state.hold(number, first.unstored[number])
        self.measurements = [
            Measurement(
                request,
                clip_states,
                group,
                {part: spent for (owner, part), spent in seconds.items() if owner == number},
            )
            for number, (request, group) in enumerate(zip(requests, states, strict=True))
        ]
        return self.measurements

    def _forecast(self, clip_states: ClipStates, left: list[ClipState]) -> str:
        """Return how long the clips that are left will take, or why that is not known."""
        try:
            rates = RateBook().rates()
            n_devices = len(self.executor.devices(self._config.device))
            return forecast(rates, clip_states, left, self._config.jobs, self._config.device, n_devices)
        except UsageError as error:
            # a damaged file of rates costs the forecast, and not the measurement
            return str(error)


def unscored(measurements: Sequence[Measurement], metrics: Sequence[Metric]) -> list[str]:
    """Return a sentence with the commonest reasons for every set and metric of which no clip was scored."""
    sentences = []
    for measurement in measurements:
        for metric in metrics:
            failures = measurement.failures(metric)
            total = len(measurement.request.clips)
            if len(failures) == total:
                reasons = Counter(f"{failure.status}: {failure.reason}" for failure in failures).most_common(3)
                text = "; ".join(f"{count} {reason}" for reason, count in reasons)
                name = measurement.request.clips.name
                sentences.append(f"{name}, {metric.name}: none of {total} clips was scored ({text})")
    return sentences
