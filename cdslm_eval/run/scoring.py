"""Scores systems against a reference: measures, estimates, and gathers what explains the numbers."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.contract import Metric
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.results.score_result import Carrier, Exemplar, Failure, ScoreResult
from cdslm_eval.run import Measurement, Progress, Request, Runner
from cdslm_eval.stats.copies import copies, repeated
from cdslm_eval.stats.estimate import Sample, distance_estimate, divergence_estimates, estimates, gather
from cdslm_eval.stats.jsd import MAX_PHONES, NgramTable, PhonemeJSD, carriers, compare_held_out, overlap
from cdslm_eval.stats.jsd.ngrams import Ints
from cdslm_eval.stats.statistic import JensenShannon, Mean, PairwiseDistance, VectorDistance

__all__ = ["REFERENCE", "over_budget", "requests_for", "score", "set_digest", "summarise"]

REFERENCE = "reference"
_CARRIER_ORDERS = (1, 2, 3)
_EXEMPLAR_ORDER = 3


def score(
    runner: Runner,
    systems: Sequence[ClipSet],
    reference: ClipSet | None,
    metrics: Sequence[Metric],
    *,
    seed: int = 0,
    progress: Progress | None = None,
    settings: Mapping[str, Any] | None = None,
) -> ScoreResult:
    """Score systems with metrics.

    Args:
        runner: Measures what the store does not hold.
        systems: The sets to score; their names must differ.
        reference: Real speech; needed by metrics that compare with it.
        metrics: What to measure.
        seed: Randomness of every interval, draw and fold.
        progress: Told how far the measuring is.
        settings: Goes into the result as it is, with the digests of the sets added.

    Raises:
        UsageError: A metric needs a reference and there is none, or two systems have one name.
    """
    versus = [metric for metric in metrics if any(s.needs_reference for s in metric.statistics.values())]
    if versus and reference is None:
        names = ", ".join(metric.name for metric in versus)
        raise UsageError(f"{names} compares with real speech: name it with --reference DIR")
    if len({one.name for one in systems}) < len(systems):
        raise UsageError("two systems have one name")
    measured = runner.run(requests_for(systems, reference, metrics), progress)
    real = measured[-1] if len(measured) > len(systems) else None
    return summarise(measured[: len(systems)], real, metrics, reference=reference, seed=seed, settings=settings)


def requests_for(systems: Sequence[ClipSet], reference: ClipSet | None, metrics: Sequence[Metric]) -> list[Request]:
    """Return what must be measured: every system under every metric, then the reference where one is looked at."""
    requests = [Request(one, tuple(metrics)) for one in systems]
    beside = [m for m in metrics if any(s.needs_reference or s.wants_reference for s in m.statistics.values())]
    if reference is not None and beside:
        requests.append(Request(reference, tuple(beside)))
    return requests


def summarise(
    measured: Sequence[Measurement],
    real: Measurement | None,
    metrics: Sequence[Metric],
    *,
    reference: ClipSet | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> ScoreResult:
    """Turn rows into a result.

    Args:
        measured: The systems.
        real: The reference, where it was measured.
        metrics: What was measured.
        reference: The reference set.
        seed: Randomness of every interval, draw and fold.
        settings: Goes into the result as it is, with the digests of the sets added.
    """
    systems = [one.request.clips for one in measured]
    book = _Book(seed, reference, real)
    for one in measured:
        for metric in metrics:
            book.enter(one, metric)
    book.compare()
    digests = {one.request.clips.name: set_digest(one) for one in measured}
    unusable = [why for one in measured[:1] for why in one.unusable.values()]
    same = [] if reference is None else [one.name for one in systems if _paths(one) == _paths(reference)]
    if book.real is not None:
        digests[REFERENCE] = set_digest(book.real)
    return ScoreResult(
        estimates=tuple(book.estimates),
        failures=tuple(book.failures),
        carriers=tuple(book.carriers),
        exemplars=tuple(book.exemplars),
        warnings=tuple(dict.fromkeys([*unusable, *_same_sets(digests, same), *book.warnings])),
        settings={**(settings or {}), "seed": seed, "sets": digests},
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
    for one in result.estimates:
        groups.setdefault((one.system, one.metric), []).append(one)
    sentences = []
    for (system, metric), some in groups.items():
        # a value may apply to no clip of a metric that was measured; the fullest one tells what was scored
        best = max(some, key=lambda one: one.n_scored)
        total = best.n_scored + best.n_failed + best.n_skipped
        lost = best.n_failed + (best.n_skipped if strict else 0)
        if total and (best.n_scored == 0 or lost / total > (0.0 if strict else fail_budget)):
            if best.n_scored == 0:
                how = f"{best.n_failed} failed, {best.n_skipped} were skipped"
                sentences.append(f"{system}, {metric}: none of {total} clips was scored ({how})")
                continue
            sentences.append(f"{system}, {metric}: {lost} of {total} clips failed{' or were skipped' * strict}")
    return sentences


class _Book:
    """Collects what a run says, system by system and metric by metric."""

    def __init__(self, seed: int, reference: ClipSet | None, real: Measurement | None) -> None:
        self.seed, self.reference, self.real = seed, reference, real
        self.estimates: list[Estimate] = []
        self.failures: list[Failure] = []
        self.carriers: list[Carrier] = []
        self.exemplars: list[Exemplar] = []
        self.warnings: list[str] = []
        self.paths: dict[tuple[str, str], str] = {}
        self._samples: dict[str, Sample] = {}
        self._spoken: dict[tuple[str, str], tuple[JensenShannon, dict[str, Sample]]] = {}

    def _sample(self, one: Measurement, metric: Metric) -> Sample:
        return gather(self._kept(one, metric), [s.speaker or ("clip", s.key) for s in one.request.clips.sources])

    def _kept(self, one: Measurement, metric: Metric) -> Iterator[Any]:
        """Pass outcomes on, noting those that are not scored."""
        name = REFERENCE if one is self.real else one.request.clips.name
        for source, outcome in zip(one.request.clips.sources, one.outcomes(metric), strict=True):
            if outcome.status != "ok":
                self.failures.append(Failure(name, source.key, metric.name, outcome.status, outcome.reason))
            yield outcome

    def enter(self, one: Measurement, metric: Metric) -> None:
        """Estimate one metric of one system."""
        system, identity = one.request.clips.name, one.identity(metric).ident
        sample = self._sample(one, metric)
        wants = self.real is not None and any(s.wants_reference for s in metric.statistics.values())
        real = self._reference_sample(metric) if wants else None
        self.estimates += estimates(system, metric, identity, sample, seed=self.seed, reference=real)
        for name, statistic in metric.statistics.items():
            if isinstance(statistic, JensenShannon):
                self._diverge(one, metric, name, statistic, sample)
            elif isinstance(statistic, VectorDistance):
                real = self._reference_sample(metric)
                self.estimates.append(distance_estimate(system, metric, identity, name, sample, real, seed=self.seed))
            elif isinstance(statistic, PairwiseDistance):
                self._vary(one, metric, statistic, sample)
            elif isinstance(statistic, Mean):
                self._worst(one, metric, name, statistic, sample)

    def _reference_sample(self, metric: Metric) -> Sample:
        assert self.real is not None  # `score` refuses such a metric without a reference
        if metric.name not in self._samples:
            self._samples[metric.name] = self._sample(self.real, metric)
        return self._samples[metric.name]

    def _diverge(self, one: Measurement, metric: Metric, name: str, statistic: JensenShannon, sample: Sample) -> None:
        real = self._reference_sample(metric)
        system, identity = one.request.clips.name, one.identity(metric).ident
        found, divergences = divergence_estimates(system, metric, identity, name, sample, real, seed=self.seed)
        self.estimates += found
        if not divergences:
            return
        self._spoken.setdefault((metric.name, name), (statistic, {}))[1][system] = sample
        phones, heard = sample.sequences[statistic.column], real.sequences[statistic.column]
        mute = int((phones.lengths == 0).sum())
        if mute:
            self.warnings.append(
                f"{system}: in {mute} of {len(phones)} clips no phone was recognised; they add nothing to {name}"
            )
        rng = np.random.default_rng([self.seed, 0x6C6F])
        (phones, own), (heard, theirs) = phones.draw(MAX_PHONES, rng), heard.draw(MAX_PHONES, rng)
        table = NgramTable(phones, heard, orders=max(statistic.orders))
        shared = overlap(table, max(statistic.orders), self.seed)
        if shared is not None and shared.suspicious:
            self.warnings.append(
                f"{system}: {shared.generated:.0%} of its {shared.order}-grams occur in half of the reference, "
                f"where real speech shares {shared.reference:.0%}: was the reference in its training data?"
            )
        self._explain(one, table, sample.scored[own], real.scored[theirs], statistic)
        self._listen(one, sample, divergences, statistic)

    def _worst(self, one: Measurement, metric: Metric, name: str, statistic: Mean, sample: Sample) -> None:
        """Choose the clip with the worst value under a metric that has a good side."""
        better = statistic.better or metric.better
        values = sample.numbers.get(statistic.column, np.zeros(0))
        if better == "neither" or not np.isfinite(values).any():
            return
        row = int(np.nanargmin(values) if better == "higher" else np.nanargmax(values))
        source = one.request.clips.sources[int(sample.scored[row])]
        unit = statistic.unit or metric.unit
        self.exemplars.append(
            Exemplar(
                system=one.request.clips.name,
                place="worst",
                key=source.key,
                path=source.path,
                score=float(values[row]),
                measure=f"{unit}, {name}" if unit else name,
            )
        )

    def _vary(self, one: Measurement, metric: Metric, statistic: PairwiseDistance, sample: Sample) -> None:
        """Name the clips of a system that copy each other, or the reference."""
        self.warnings += repeated(one)
        if self.real is not None:
            found = copies(one, self.real, sample, self._reference_sample(metric), statistic.column)
            self.warnings += found.warnings
            self.exemplars += found.exemplars

    def _explain(self, one: Measurement, table: NgramTable, own: Ints, theirs: Ints, statistic: JensenShannon) -> None:
        """List the n-grams that carry the divergence, and the clips that hold them."""
        assert self.reference is not None  # as in `_reference_sample`
        system = one.request.clips.name
        for order in (n for n in _CARRIER_ORDERS if n in statistic.orders):
            for side, shares in zip((True, False), carriers(table, order), strict=True):
                owner, indices = (one.request.clips, own) if side else (self.reference, theirs)
                for share in shares:
                    sources = [owner.sources[int(indices[clip])] for clip in share.clips]
                    for source in sources:
                        self.paths[system if side else REFERENCE, source.key] = source.path
                    self.carriers.append(
                        Carrier(
                            system=system,
                            order=order,
                            ngram=share.ngram,
                            generated=share.generated,
                            reference=share.reference,
                            bits=share.bits,
                            clips=tuple(source.key for source in sources),
                        )
                    )

    def _listen(
        self, one: Measurement, sample: Sample, divergences: Mapping[int, PhonemeJSD], statistic: JensenShannon
    ) -> None:
        """Choose the clips that sound most and least like the reference to the held-out classifier."""
        order = min(divergences, key=lambda n: abs(n - _EXEMPLAR_ORDER))
        scores = divergences[order].clip_scores
        ranked = np.argsort(-scores, kind="stable")[: int(np.isfinite(scores).sum())]
        if not len(ranked):
            return
        phones = sample.sequences[statistic.column]
        for place, rank in (("best", 0), ("middle", len(ranked) // 2), ("worst", len(ranked) - 1)):
            clip = int(ranked[rank])
            source = one.request.clips.sources[int(sample.scored[clip])]
            codes = phones.codes[phones.offsets[clip] : phones.offsets[clip + 1]]
            self.exemplars.append(
                Exemplar(
                    system=one.request.clips.name,
                    place=place,
                    key=source.key,
                    path=source.path,
                    score=float(scores[clip]),
                    phones=tuple(phones.inventory[code] for code in codes),
                )
            )

    def compare(self) -> None:
        """Add the held-out bound at one common phone count to every divergence."""
        for (metric, name), (statistic, samples) in self._spoken.items():
            order_of = dict(zip(statistic.names(name), statistic.orders, strict=True))
            spoken = {system: sample.sequences[statistic.column] for system, sample in samples.items()}
            real = self._samples[metric].sequences[statistic.column]
            if len(spoken) < 2:
                continue  # alone, a system's own bound is at its own count
            common, count = compare_held_out(spoken, real, statistic.orders, seed=self.seed)
            for place, one in enumerate(self.estimates):
                if count and one.metric == metric and one.name in order_of and one.system in common:
                    value = common[one.system][order_of[one.name]]
                    assert one.calibration is not None  # every divergence has one
                    shared = dataclasses.replace(one.calibration, held_out_common=value, common_phones=count)
                    self.estimates[place] = dataclasses.replace(one, calibration=shared)


def set_digest(one: Measurement) -> dict[str, Any]:
    """Return what identifies the content of a set, whatever its files are called."""
    digests = one.digests()
    known = sorted(digest for digest in digests if digest)
    text = "\n".join(known)
    return {
        "origin": one.request.clips.origin,
        "clips": len(digests),
        "decoded": len(known),
        "digest": hashlib.sha256(text.encode()).hexdigest(),
    }


def _paths(clips: ClipSet) -> list[str]:
    return sorted(str(Path(source.path).resolve()) for source in clips.sources)


def _same_sets(digests: Mapping[str, Mapping[str, Any]], same_files: Sequence[str]) -> list[str]:
    """Warn of systems that are the reference, by their files or by their content where it was decoded."""
    real = digests.get(REFERENCE, {"digest": None})["digest"]
    alike = {name for name, one in digests.items() if one["decoded"] and one["digest"] == real} - {REFERENCE}
    return [
        f"{name}: the same audio as the reference; its divergence is not that of independent speech (see the floor)"
        for name in digests
        if name in alike | set(same_files)
    ]
