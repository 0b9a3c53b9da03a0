"""Scores systems against a reference: measures, estimates, and gathers what explains the numbers."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.remote.addresses import is_remote
from cdslm_eval.core.store import Outcome
from cdslm_eval.plugin.contract import Metric
from cdslm_eval.results.channel import ChannelEffect, ChannelReport
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.results.over_time import Track
from cdslm_eval.results.recognition_gain import RecognitionGain
from cdslm_eval.results.score_result import Exemplar, Failure, NgramContribution, ScoreResult
from cdslm_eval.run import Measurement, Progress, Request, Runner
from cdslm_eval.run.channel import ChannelStudy, inaudible, sees_channel, study_channels
from cdslm_eval.run.components import NO_STUDIES, Studies
from cdslm_eval.run.over_time import follow
from cdslm_eval.run.real_row import measurable, real_estimates
from cdslm_eval.run.recognition_gain import TextRows, gains_of, measure_texts
from cdslm_eval.run.samples import context_of, sample_of
from cdslm_eval.run.set_notes import set_notes, unnamed_speakers
from cdslm_eval.run.shared_keys import shared_takes
from cdslm_eval.stats.sample import Sample
from cdslm_eval.stats.statistic import ChannelProbes, Diagnostics, Estimation

__all__ = ["REFERENCE", "over_budget", "requests_for", "score", "set_digest", "summarise"]

REFERENCE = "reference"
_NAMED = 3


def score(
    runner: Runner,
    systems: Sequence[ClipSet],
    reference: ClipSet | None,
    metrics: Sequence[Metric],
    *,
    seed: int = 0,
    progress: Progress | None = None,
    settings: Mapping[str, Any] | None = None,
    studies: Studies = NO_STUDIES,
    real_row: bool = True,
    prompts: ClipSet | None = None,
    window_s: float | None = None,
) -> ScoreResult:
    """Score systems with metrics.

    Args:
        runner: Measures what the store does not hold.
        systems: The sets to score; their names must differ.
        reference: Real speech; needed by metrics that compare with it.
        metrics: What to measure.
        seed: Randomness of every interval, draw and fold.
        progress: Called with (clips done, clips to do).
        settings: Goes into the result as it is, with the digests of the sets added.
        studies: What is measured next to divergences: channels, and the reference's texts.
        real_row: Measure the reference under metrics that compare with nothing too.
        prompts: What the systems continued, to be listened to next to the clips of its keys.
        window_s: Length in seconds of windows that values are followed through; None measures whole clips only.

    Raises:
        UsageError: A metric needs a reference and there is none, or two systems have one name.
    """
    versus = [metric for metric in metrics if any(s.needs_reference for s in metric.statistics.values())]
    if versus and reference is None:
        names = ", ".join(metric.name for metric in versus)
        raise UsageError(f"{names} compares with real speech: name it with --reference DIR")
    if len({system.name for system in systems}) < len(systems):
        raise UsageError("two systems have one name")
    profiler = studies.profiler
    measured = runner.run(requests_for(systems, reference, metrics, profiler, real_row=real_row), progress)
    real = measured[-1] if len(measured) > len(systems) else None
    of_systems, channel = measured[: len(systems)], None
    if profiler is not None and real is not None and sees_channel(metrics):
        channel = study_channels(runner, of_systems, real, metrics, profiler, seed=seed, progress=progress)
    result = summarise(
        of_systems,
        real,
        metrics,
        reference=reference,
        seed=seed,
        settings=settings,
        channel=channel,
        texts=measure_texts(runner, studies.texts, metrics, progress),
    )
    warnings = (*result.warnings, *unnamed_speakers(result.settings["sets"]))
    row = real_estimates(real, metrics, seed) if real is not None and real_row else ()
    takes = shared_takes(systems, prompts)
    tracks: list[Track] = []
    if window_s is not None:
        tracks, notes = follow(runner, systems, real, metrics, window_s, seed=seed, progress=progress)
        warnings = (*warnings, *notes)
    return dataclasses.replace(result, warnings=warnings, real=row, takes=takes, over_time=tuple(tracks))


def requests_for(
    systems: Sequence[ClipSet],
    reference: ClipSet | None,
    metrics: Sequence[Metric],
    profiler: Metric | None = None,
    *,
    real_row: bool = False,
) -> list[Request]:
    """Return what must be measured: every system under every metric, then the reference where it is compared with.

    Args:
        systems: The systems.
        reference: Real speech.
        metrics: The metrics of the run.
        profiler: Measures the channel of every set, where that is wanted.
        real_row: Measure the reference also where nothing is compared with it, for a row of its own.
    """
    further = () if profiler is None else (profiler,)
    requests = [Request(system, (*metrics, *further)) for system in systems]
    versus = [m for m in metrics if any(s.needs_reference or s.wants_reference for s in m.statistics.values())]
    if reference is not None and real_row:
        own = measurable(reference, metrics)
        versus = [metric for metric in metrics if metric in versus or metric in own]
    if reference is not None and versus:
        requests.append(Request(reference, (*versus, *further)))
    return requests


def summarise(
    measured: Sequence[Measurement],
    real: Measurement | None,
    metrics: Sequence[Metric],
    *,
    reference: ClipSet | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    channel: ChannelStudy | None = None,
    texts: TextRows | None = None,
) -> ScoreResult:
    """Turn rows into a result.

    Args:
        measured: The systems.
        real: The reference, where it was measured.
        metrics: What was measured.
        reference: The reference set.
        seed: Randomness of every interval, draw and fold.
        settings: Goes into the result as it is, with the digests of the sets added.
        channel: Rows of the reference put through the systems' channels.
        texts: Rows of the reference under the phones of its texts.
    """
    systems = [one.request.clips for one in measured]
    book = _Book(seed, real if reference is not None else None)
    for measurement in measured:
        for metric in metrics:
            book.enter(measurement, metric)
    book.put_on_common_scale(metrics)
    report = book.put_next_to_channel(metrics, channel) if channel is not None else None
    book.leave_out_copies(_copied(measured, book.real))
    digests = {one.request.clips.name: set_digest(one) | book.neighbours_of(one.request.clips.name) for one in measured}
    unusable = [why for one in measured[:1] for why in one.unusable.values()]
    doubts = [note for one in measured for note in set_notes(one, metrics)]
    doubts += set_notes(real, metrics) if real is not None else []
    same = [] if reference is None else [system.name for system in systems if _paths(system) == _paths(reference)]
    if book.real is not None:
        digests[REFERENCE] = set_digest(book.real) | book.neighbours_of(REFERENCE)
    return ScoreResult(
        estimates=tuple(book.estimates),
        failures=tuple(book.failures),
        contributions=tuple(book.contributions),
        exemplars=tuple(book.exemplars),
        warnings=tuple(dict.fromkeys([*unusable, *doubts, *_same_sets(digests, same), *book.warnings])),
        settings={**(settings or {}), "seed": seed, "sets": digests},
        channel=report,
        recognition_gain=tuple(book.recognition_gains(metrics, texts) if texts is not None else ()),
        clip_paths=book.paths,
    )


def over_budget(result: ScoreResult, fail_budget: float, *, strict: bool = False) -> list[str]:
    """Return a sentence for every system and metric whose clips failed beyond the budget.

    Args:
        result: What was scored.
        fail_budget: Share of clips (0..1) that may fail.
        strict: No clip may fail or be skipped.
    """
    groups: dict[tuple[str, str], list[Estimate]] = {}
    for estimate in result.estimates:
        groups.setdefault((estimate.system, estimate.metric), []).append(estimate)
    sentences = []
    for (system, metric), group in groups.items():
        # a value may apply to no clip of a metric that was measured; the fullest one shows what was scored
        best = max(group, key=lambda entry: entry.n_scored)
        total = best.n_scored + best.n_failed + best.n_skipped
        lost = best.n_failed + (best.n_skipped if strict else 0)
        if total and (best.n_scored == 0 or lost / total > (0.0 if strict else fail_budget)):
            if best.n_scored == 0:
                how = f"{best.n_failed} failed, {best.n_skipped} were skipped"
                sentences.append(f"{system}, {metric}: none of {total} clips was scored ({how})")
                continue
            sentences.append(f"{system}, {metric}: {lost} of {total} clips failed{' or were skipped' * strict}")
    return sentences


@dataclasses.dataclass(frozen=True, slots=True)
class _Scored:
    """One system under one statistic: its rows, its estimates, and where they stand in the result."""

    sample: Sample
    estimation: Estimation
    first: int


class _Book:
    """Collects the parts of a result: statistics are called for every system and metric in turn."""

    def __init__(self, seed: int, real: Measurement | None) -> None:
        self.seed, self.real = seed, real
        self.estimates: list[Estimate] = []
        self.failures: list[Failure] = []
        self.contributions: list[NgramContribution] = []
        self.exemplars: list[Exemplar] = []
        self.warnings: list[str] = []
        self.paths: dict[tuple[str, str], str] = {}
        self._samples: dict[str, Sample] = {}
        self._memorised: dict[str, str] = {}
        self._neighbours: dict[str, float] = {}
        self._scored: dict[tuple[str, str], dict[str, _Scored]] = {}

    def enter(self, measurement: Measurement, metric: Metric) -> None:
        """Estimate and diagnose one metric of one system."""
        system, identity = measurement.request.clips.name, measurement.identity(metric).ident
        sample = self._sample(measurement, metric)
        for name, statistic in metric.statistics.items():
            versus = statistic.needs_reference or statistic.wants_reference
            reference = self._reference_sample(metric) if versus and self.real is not None else None
            context = context_of(metric, name, statistic, identity=identity, system=system, seed=self.seed)
            estimation = statistic.estimate(sample, reference, context)
            first = len(self.estimates)
            self._scored.setdefault((metric.name, name), {})[system] = _Scored(sample, estimation, first)
            self.estimates += estimation.estimates
            self._diagnose(system, statistic.diagnose(sample, reference, estimation, context))

    def _diagnose(self, system: str, diagnostics: Diagnostics) -> None:
        self.warnings += diagnostics.warnings
        if diagnostics.memorised:
            self._memorised.setdefault(system, diagnostics.memorised)
        for owner, correlation in zip((system, REFERENCE), diagnostics.neighbours, strict=True):
            if math.isfinite(correlation):
                self._neighbours.setdefault(owner, round(correlation, 4))
        self.contributions += diagnostics.contributions
        self.exemplars += diagnostics.exemplars
        for (of_system, key), path in diagnostics.heard_in.items():
            self.paths[system if of_system else REFERENCE, key] = path

    def neighbours_of(self, name: str) -> dict[str, float]:
        """Return how alike clips next to each other in a set are, under "neighbours"; nothing where they are not."""
        return {"neighbours": self._neighbours[name]} if name in self._neighbours else {}

    def put_on_common_scale(self, metrics: Sequence[Metric]) -> None:
        """Let each statistic add what compares its systems at one sample size."""
        for metric in metrics:
            for name, statistic in metric.statistics.items():
                scored = self._scored.get((metric.name, name), {})
                if self.real is None or not statistic.needs_reference or len(scored) < 2:
                    continue
                context = context_of(metric, name, statistic, identity="", seed=self.seed)
                estimations = {system: entry.estimation for system, entry in scored.items()}
                samples = {system: entry.sample for system, entry in scored.items()}
                reference = self._reference_sample(metric)
                for system, estimates in statistic.on_common_scale(estimations, samples, reference, context).items():
                    first = scored[system].first
                    self.estimates[first : first + len(estimates)] = estimates

    def leave_out_copies(self, copied: Mapping[str, str]) -> None:
        """Take systems that repeat the reference out of the ranking of all that was measured against it.

        Args:
            copied: System -> a sentence on the clips that are clips of the reference; a warning each.
        """
        self.warnings += [
            f"{system}: {sentence}: was the reference in its training data?" for system, sentence in copied.items()
        ]
        reasons = {**self._memorised, **copied}
        self.estimates = [
            dataclasses.replace(estimate, outside=reasons[estimate.system])
            if estimate.n_reference and estimate.system in reasons
            else estimate
            for estimate in self.estimates
        ]

    def put_next_to_channel(self, metrics: Sequence[Metric], study: ChannelStudy) -> ChannelReport:
        """Let each statistic that sees the channel add what it explains; return the report with its sensitivity."""
        effects: list[ChannelEffect] = []
        for metric in sees_channel(metrics):
            for name, statistic in metric.statistics.items():
                if not statistic.sees_channel:
                    continue
                context = context_of(metric, name, statistic, identity="", seed=self.seed)
                reference = self._reference_sample(metric)
                for degradation, measurement in study.degraded.items():
                    shares = statistic.channel_effect(sample_of(measurement, metric), reference, context)
                    effects += [
                        ChannelEffect(
                            name=value,
                            reference=study.report.sets[0].name,
                            channel=degradation,
                            value=i.value,
                            low=i.low,
                            high=i.high,
                        )
                        for value, i in shares.items()
                    ]
                for system, scored in self._scored.get((metric.name, name), {}).items():
                    if (rows := study.probes.get(system)) is None:
                        continue
                    probes = ChannelProbes(
                        *(
                            sample_of(rows_of, metric)
                            for rows_of in (rows.through, rows.backwards, rows.backwards_through)
                        )
                    )
                    own = slice(scored.first, scored.first + len(scored.estimation.estimates))
                    self.estimates[own] = statistic.with_channel(
                        self.estimates[own], scored.sample, reference, probes, context
                    )
                    self.warnings += inaudible(self.estimates[own])
        self.warnings += study.report.doubts()
        return dataclasses.replace(study.report, sensitivity=tuple(effects))

    def recognition_gains(self, metrics: Sequence[Metric], texts: TextRows) -> Iterator[RecognitionGain]:
        """Yield what recognition leaves of divergences inside the reference."""
        if self.real is not None:
            for metric in sees_channel(metrics):
                yield from gains_of(texts, metric, self.real, self.seed)

    def _reference_sample(self, metric: Metric) -> Sample:
        assert self.real is not None  # `enter` looks
        if metric.name not in self._samples:
            self._samples[metric.name] = self._sample(self.real, metric)
        return self._samples[metric.name]

    def _sample(self, measurement: Measurement, metric: Metric) -> Sample:
        return sample_of(measurement, metric, self._note_failures(measurement, metric))

    def _note_failures(self, measurement: Measurement, metric: Metric) -> Iterator[Outcome]:
        """Pass outcomes on, noting those that are not scored."""
        name = REFERENCE if measurement is self.real else measurement.request.clips.name
        for source, outcome in zip(measurement.request.clips.sources, measurement.outcomes(metric), strict=True):
            if outcome.status != "ok":
                self.failures.append(Failure(name, source.key, metric.name, outcome.status, outcome.reason))
            yield outcome


def set_digest(one: Measurement) -> dict[str, Any]:
    """Return what identifies the content of a set, whatever its files are called."""
    digests = one.digests()
    known = sorted(digest for digest in digests if digest)
    text = "\n".join(known)
    return {
        "origin": one.request.clips.origin,
        "clips": len(digests),
        "decoded": len(known),
        "speakers": len({source.speaker for source in one.request.clips.sources if source.speaker}),
        "digest": hashlib.sha256(text.encode()).hexdigest(),
    }


def _copied(measured: Sequence[Measurement], real: Measurement | None) -> dict[str, str]:
    """Return a sentence on every system that holds clips of the reference, sample by sample."""
    known = {digest for digest in real.digests() if digest} if real is not None else set()
    sentences = {}
    for measurement in measured:
        clips = measurement.request.clips
        pairs = zip(clips.sources, measurement.digests(), strict=True)
        same = [source.key for source, digest in pairs if digest in known]
        if same:
            named = ", ".join(same[:_NAMED]) + ", ..." * (len(same) > _NAMED)
            sentences[clips.name] = f"{len(same)} of {len(clips)} clips are clips of the reference ({named})"
    return sentences


def _paths(clips: ClipSet) -> list[str]:
    places = ((source.path, source.address.part) for source in clips.sources)
    return sorted(f"{path if is_remote(path) else Path(path).resolve()}{part}" for path, part in places)


def _same_sets(digests: Mapping[str, Mapping[str, Any]], same_files: Sequence[str]) -> list[str]:
    """Warn of systems that are the reference, by their files or by their content where it was decoded."""
    real = digests.get(REFERENCE, {"digest": None})["digest"]
    alike = {name for name, digest in digests.items() if digest["decoded"] and digest["digest"] == real} - {REFERENCE}
    return [
        f"{name}: the same audio as the reference; its divergence is not that of independent speech (see the floor)"
        for name in digests
        if name in alike | set(same_files)
    ]
