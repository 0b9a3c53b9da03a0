"""The components of a run, made from what the caller named: metrics, recognizer, transcriber, and their licences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdslm_eval.core import defaults
from cdslm_eval.core.citation import Citation
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.provenance import host_facts, versions
from cdslm_eval.core.store import Store
from cdslm_eval.plugin.contract import Component, Metric, Recognizer, Transcriber
from cdslm_eval.plugin.execution import Executor
from cdslm_eval.plugin.host import Host, transcriber_for
from cdslm_eval.plugin.identity import cited
from cdslm_eval.plugin.recognition import cautions
from cdslm_eval.plugin.specs import split_specs
from cdslm_eval.run.channel import profiler_for
from cdslm_eval.run.recognition_gain import TextPhones, phones_of_texts
from cdslm_eval.run.runner import Runner

__all__ = ["NO_STUDIES", "Components", "Execution", "Note", "Studies"]

Note = Callable[[str], None]
"""Called with a sentence that the user is to see: whose weights are used, what is being generated."""


@dataclass(frozen=True, slots=True)
class Execution:
    """Where and how a run measures: executor, workers (0: one per processor), seconds per clip, device, rehashing."""

    executor: Executor
    jobs: int
    time_limit_s: float
    device: str
    rehash: bool


@dataclass(frozen=True, slots=True)
class Studies:
    """What is measured next to values of phones.

    Attributes:
        profiler: The metric whose rows are channel profiles, where channels are measured.
        texts: How texts of the reference become phones, where it has any.
    """

    profiler: Metric | None = None
    texts: TextPhones | None = None


NO_STUDIES = Studies()


@dataclass(frozen=True, slots=True)
class Components:
    """The components of a run, made from what the caller named."""

    metrics: tuple[Metric, ...]
    recognizer: Recognizer
    transcriber: Transcriber | None
    names: Mapping[str, str | None]
    requested: Any

    @classmethod
    def resolve(cls, host: Host, metrics: Any, recognizer: Any, transcriber: Any, note: Note) -> Components:
        """Make the components, and name whose weights they load and under which licence."""
        listed = split_specs(metrics, list(host.registered("metric"))) if isinstance(metrics, str) else metrics
        listed = [listed] if isinstance(listed, Metric | type) else list(listed)
        chosen = tuple(host.resolve("metric", metric) for metric in listed)
        if not chosen:
            raise UsageError("no metric to measure: name at least one")
        names = [metric.name for metric in chosen]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(f"metrics: {', '.join(twice)} is named twice")
        recognizes: Recognizer = host.resolve("recognizer", recognizer)
        transcribes = transcriber_for([*chosen, recognizes], host, transcriber)
        reads_phones = any("phones" in metric.needs for metric in chosen)
        _note_weights([*chosen, *([recognizes] if reads_phones else []), transcribes], note)
        specs = {
            "metrics": ",".join(_spec(metric) for metric in listed),
            "recognizer": recognizes.name if recognizer == defaults.RECOGNIZER else _spec(recognizer),
            "transcriber": None if transcribes is None else _spec(transcriber or transcribes),
        }
        return cls(chosen, recognizes, transcribes, specs, recognizer)

    def choices(self, store: Path) -> str:
        """Return what was chosen, by the user or by default, for the log."""
        names = ", ".join(metric.name for metric in self.metrics)
        return f"metrics {names}; recognizer {self.recognizer.name}; store {store}"

    def runner(
        self, store: Store, execution: Execution, *, keep_failures: bool = False, note: Note | None = None
    ) -> Runner:
        """Return what measures with these components into a store.

        Args:
            store: Takes the rows.
            execution: Where and how to measure.
            keep_failures: Do not repeat earlier failures.
            note: Called with a sentence on how long measuring will take, where rates were measured.
        """
        return Runner(
            store,
            execution.executor,
            self.recognizer,
            jobs=execution.jobs or defaults.default_jobs(),
            time_limit_s=execution.time_limit_s,
            device=execution.device,
            keep_failures=keep_failures,
            transcriber=self.transcriber,
            rehash=execution.rehash,
            announce=None if note is None else lambda text: note(f"note: {text}"),
        )

    def studies(self, host: Host, reference: ClipSet | None, channel: bool | None, seed: int) -> Studies:
        """Return what is to be measured next to values of phones.

        Args:
            host: Makes the measurers.
            reference: Real speech.
            channel: Whether channels are; None leaves it to the recognizer's cost.
            seed: Chooses clips of the reference where there are many.

        Raises:
            UsageError: Channels are wanted, and the recognizer does not read audio.
        """
        profiler = profiler_for(host, self.metrics, self.recognizer, channel)
        return Studies(profiler, phones_of_texts(host, self.metrics, self.recognizer, reference, seed))

    def cautions(self, host: Host, systems: Sequence[ClipSet], reference: ClipSet | None) -> list[str]:
        """Return what the user must know of the recognizer, on these sets, before quoting a value."""
        sets = [*systems, *([reference] if reference else [])]
        return cautions(host, self.requested, self.recognizer, self.metrics, sets)

    def citations(self) -> tuple[Citation, ...]:
        """Return what to cite with the numbers: of the metrics, and of what they read."""
        upstream = (self.transcriber, self.recognizer)
        return tuple(cited(self.metrics, {measurer.provides: measurer for measurer in upstream if measurer}))

    def settings(self, host: Host, reference: ClipSet | None) -> dict[str, Any]:
        """Return what a result records of how it was made."""
        return {
            **self.names,
            "reference": reference.origin if reference else None,
            "versions": versions(host.versions()),
            "host": host_facts(),
        }


def _spec(component: str | Component | type[Component]) -> str:
    return component if isinstance(component, str) else component.name


def _note_weights(components: Sequence[Component | None], note: Note) -> None:
    """Name whose weights are used and under which licence, before they are."""
    for component in components:
        if component is not None and component.weights_licence:
            weights = component.attribution or "weights"
            note(f"note: {component.name} uses {weights}, licence {component.weights_licence}")
