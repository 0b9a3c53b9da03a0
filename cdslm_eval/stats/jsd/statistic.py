"""`JensenShannon`: the divergence of n-grams as a statistic: estimates, comparison, and the n-grams behind it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cdslm_eval.results.channel import Acoustics, Interval
from cdslm_eval.results.differences import Difference
from cdslm_eval.results.estimate import Calibration, Estimate
from cdslm_eval.results.recognition_gain import RecognitionGain
from cdslm_eval.results.score_result import Exemplar, NgramContribution
from cdslm_eval.stats.clusters import Ints
from cdslm_eval.stats.hidden_clusters import OrderCorrelation, order_correlation
from cdslm_eval.stats.jsd.acoustics import between_halves, corrected_interval
from cdslm_eval.stats.jsd.contrast import recognition_gains
from cdslm_eval.stats.jsd.contributions import contributions
from cdslm_eval.stats.jsd.copies import COPY_ORDER, find_copies
from cdslm_eval.stats.jsd.estimator import MAX_PHONES, PhonemeJSD, compare_held_out, corrected_difference, phoneme_jsd
from cdslm_eval.stats.jsd.ngrams import NgramTable
from cdslm_eval.stats.jsd.overlap import overlap
from cdslm_eval.stats.resampling import TTest, t_half_width
from cdslm_eval.stats.sample import ClipLabel, Sample
from cdslm_eval.stats.statistic import ChannelProbes, Context, Diagnostics, Estimation, Statistic

__all__ = ["JensenShannon"]

LEAST_MARGIN = 0.01
"""Change of a divergence in bits that never counts (ours)."""
_EXPLAINED_ORDERS = (1, 2, 3)
_EXEMPLAR_ORDER = 3
_NEIGHBOUR_ORDER = 2


@dataclass(frozen=True)
class JensenShannon(Statistic):
    """Jensen-Shannon divergence between n-gram distributions of a sequence column, system against reference.

    Gives one value per order, called `NAME_ORDER`, in bits (0..1).
    """

    needs_reference: ClassVar[bool] = True
    sees_channel: ClassVar[bool] = True
    quantities: ClassVar[tuple[str, ...]] = ("value", "corrected", "matched", "held_out", "floor")

    column: str = "phones"
    orders: tuple[int, ...] = (1, 2, 3, 4, 5)

    @property
    def columns(self) -> tuple[str, ...]:
        """The one sequence column."""
        return (self.column,)

    def names(self, name: str) -> tuple[str, ...]:
        """Return one name per order."""
        return tuple(f"{name}_{order}" for order in self.orders)

    def estimate(self, sample: Sample, reference: Sample | None, context: Context) -> Estimation:
        """Return the divergence of each order with bounds, floor, corrected value and trust."""
        names = self.names(context.name)
        missing = self._missing(sample, "") or self._missing(reference, "the reference has no rows: ")
        if missing or reference is None:
            return Estimation(tuple(context.estimate(sample, math.nan, name=name, reason=missing) for name in names))
        divergences = phoneme_jsd(
            sample.sequences[self.column],
            reference.sequences[self.column],
            self.orders,
            context.seed,
            generated_clusters=sample.clusters.numbers,
            reference_clusters=reference.clusters.numbers,
        )
        estimates = tuple(
            _estimate(divergence, name, sample, reference, context)
            for name, divergence in zip(names, divergences.values(), strict=True)
        )
        return Estimation(estimates, divergences)

    def difference(
        self, a: Sample, b: Sample, reference: Sample | None, context: Context, *, paired: bool
    ) -> Sequence[Difference]:
        """Compare the corrected divergences at one phone count, one difference per order."""
        names = self.names(context.name)
        method = "delete-a-group jackknife, t"
        if reference is None or any(self.column not in sample.sequences for sample in (a, b, reference)):
            tests = {order: (TTest(math.nan), "no clip was scored") for order in self.orders}
        else:
            compared = corrected_difference(
                a.sequences[self.column],
                b.sequences[self.column],
                reference.sequences[self.column],
                self.orders,
                clusters=(a.clusters.numbers, b.clusters.numbers, reference.clusters.numbers),
                paired=paired,
                seed=context.seed,
            )
            few = "too few phones for this order"
            tests = {order: (test, "" if math.isfinite(test.value) else few) for order, test in compared.items()}
        return [
            context.difference(test, name=name, quantity="corrected", method=method, paired=paired, reason=reason)
            for name, (test, reason) in zip(names, tests.values(), strict=True)
        ]

    def change(self, windows: int) -> Statistic:
        """Return the statistic of the change of each order over the windows of clips."""
        from cdslm_eval.stats.jsd.change import JensenShannonChange  # which is made of the same parts

        return JensenShannonChange(column=self.column, orders=self.orders, windows=windows)

    def change_margin(self, first: Estimate, clusters: int) -> float:
        """Return half of the corrected value in the first window, and at least .01 bits."""
        del clusters
        value = first.headline().value
        return max(0.5 * value, LEAST_MARGIN) if math.isfinite(value) else math.nan

    def on_common_scale(
        self, estimations: Mapping[str, Estimation], samples: Mapping[str, Sample], reference: Sample, context: Context
    ) -> Mapping[str, Sequence[Estimate]]:
        """Return the estimates with the held-out bound of every system at one common phone count."""
        known = {
            system: samples[system].sequences[self.column]
            for system, estimation in estimations.items()
            if estimation.evidence is not None
        }
        unchanged = {system: estimation.estimates for system, estimation in estimations.items()}
        if len(known) < 2:
            return unchanged  # alone, a system's own bound is at its own count
        common, count = compare_held_out(known, reference.sequences[self.column], self.orders, seed=context.seed)
        if not count:
            return unchanged
        return unchanged | {
            system: tuple(
                _with_common(estimate, common[system][order], count)
                for estimate, order in zip(unchanged[system], self.orders, strict=True)
            )
            for system in known
        }

    def with_channel(
        self, estimates: Sequence[Estimate], sample: Sample, reference: Sample, probes: ChannelProbes, context: Context
    ) -> Sequence[Estimate]:
        """Return the estimates with acoustic floor, matched value and audibility."""
        rows = (sample, reference, probes.through, probes.backwards, probes.backwards_through)
        if any(self.column not in entry.sequences for entry in rows):
            return estimates
        # the acoustic floor is read beside the system's value, so it is taken at the system's size
        phones, seed = int(sample.sequences[self.column].offsets[-1]), context.seed

        def halves(first: Sample, second: Sample, phones: int | None = None) -> dict[int, Interval]:
            return between_halves(first, second, reference, self.column, self.orders, seed, phones)

        floor = halves(probes.through, reference, phones)
        audible, clean = halves(probes.backwards_through, probes.through), halves(probes.backwards, reference)
        own, theirs = ((side.sequences[self.column], side.clusters.numbers) for side in (sample, probes.through))
        matched = corrected_interval(own, theirs, self.orders, seed, MAX_PHONES)
        return [
            estimate.with_acoustics(
                Acoustics(
                    acoustic_floor=floor[order].value,
                    acoustic_floor_low=floor[order].low,
                    acoustic_floor_high=floor[order].high,
                    matched=matched[order].value,
                    matched_low=matched[order].low,
                    matched_high=matched[order].high,
                    audible=audible[order].value,
                    audible_clean=clean[order].value,
                    audible_clean_low=clean[order].low,
                )
            )
            for estimate, order in zip(estimates, self.orders, strict=True)
        ]

    def channel_effect(self, through: Sample, reference: Sample, context: Context) -> Mapping[str, Interval]:
        """Return the divergence of half of the degraded reference from its other half as it is, by name."""
        if self.column not in through.sequences or self.column not in reference.sequences:
            return {}
        effects = between_halves(through, reference, reference, self.column, self.orders, context.seed)
        return dict(zip(self.names(context.name), effects.values(), strict=True))

    def recognition_gains(self, text: Sample, recognized: Sample, context: Context) -> Sequence[RecognitionGain]:
        """Return, per order, the divergence of two groups of reference clips in text and in recognized phones."""
        gains = recognition_gains(text, recognized, self.column, self.orders, context.seed)
        named = zip(self.names(context.name), gains.values(), strict=True)
        return [dataclasses.replace(gain, name=name) for name, gain in named]

    def diagnose(
        self, sample: Sample, reference: Sample | None, estimation: Estimation, context: Context
    ) -> Diagnostics:
        """Return the n-grams behind the divergence, the most and least reference-like clips, and warnings."""
        divergences: Mapping[int, PhonemeJSD] | None = estimation.evidence
        if divergences is None or reference is None or not sample.labels:
            return Diagnostics()
        warnings = []
        phones, real = sample.sequences[self.column], reference.sequences[self.column]
        n_empty = int((phones.lengths == 0).sum())
        if n_empty:
            warnings.append(
                f"{context.system}: in {n_empty} of {len(phones)} clips no phone was recognised; "
                f"they add nothing to {context.name}"
            )
        rng = context.rng(0x6C6F)
        (phones, own), (real, theirs) = phones.draw(MAX_PHONES, rng), real.draw(MAX_PHONES, rng)
        table = NgramTable(phones, real, orders=max(*self.orders, COPY_ORDER))
        clusters = np.concatenate(
            [sample.clusters.numbers[own], reference.clusters.numbers[theirs] + sample.clusters.count]
        )
        memorised = self._memorised(table, clusters, divergences, context)
        if memorised:
            warnings.append(f"{context.system}: {memorised}: was the reference in its training data?")
        explained, heard_in = self._explain(table, (sample, own), (reference, theirs), context)
        exemplars = self._exemplars(sample, divergences, context)
        neighbours = _neighbours(sample, reference, divergences)
        return Diagnostics(tuple(warnings), memorised, explained, exemplars, heard_in, neighbours)

    def _memorised(
        self, table: NgramTable, clusters: Ints, divergences: Mapping[int, PhonemeJSD], context: Context
    ) -> str:
        """Return the evidence that a system repeats the reference, or ""."""
        copies = find_copies(table, clusters)
        if copies.suspicious:
            count = int((~table.side).sum())
            return (
                f"{len(copies.clips)} of {count} clips share at least half of their 5-grams with one reference clip, "
                f"as {copies.usual:.0%} of the reference clips do with each other"
            )
        shared = overlap(table, max(self.orders), context.seed)
        if shared is not None and shared.suspicious:
            return (
                f"{shared.generated:.0%} of its {shared.order}-grams occur in half of the reference, "
                f"where real speech shares {shared.reference:.0%}"
            )
        if any(divergence.exceeds for divergence in divergences.values()):
            return "its held-out divergence exceeds the plug-in value, as for near-copies of the reference"
        return ""

    def _missing(self, sample: Sample | None, whose: str) -> str:
        return whose + sample.why_empty() if sample is not None and self.column not in sample.sequences else ""

    def _explain(
        self, table: NgramTable, own: tuple[Sample, Ints], theirs: tuple[Sample, Ints], context: Context
    ) -> tuple[tuple[NgramContribution, ...], dict[tuple[bool, str], str]]:
        """Return the n-grams with the largest contributions, and the audio of the clips that hold them."""
        explained: list[NgramContribution] = []
        heard_in: dict[tuple[bool, str], str] = {}
        for order in (n for n in _EXPLAINED_ORDERS if n in self.orders):
            sides = zip((True, False), (own, theirs), contributions(table, order), strict=True)
            for of_system, (sample, drawn), shares in sides:
                for share in shares:
                    labels: list[ClipLabel] = [sample.label(int(drawn[clip])) for clip in share.clips]
                    heard_in |= {(of_system, label.key): label.path for label in labels}
                    explained.append(
                        NgramContribution(
                            system=context.system,
                            order=order,
                            ngram=share.ngram,
                            generated=share.generated,
                            reference=share.reference,
                            bits=share.bits,
                            clips=tuple(label.key for label in labels),
                        )
                    )
        return tuple(explained), heard_in

    def _exemplars(
        self, sample: Sample, divergences: Mapping[int, PhonemeJSD], context: Context
    ) -> tuple[Exemplar, ...]:
        """Return the clips that are most and least like the reference to the held-out classifier."""
        order = min(divergences, key=lambda n: abs(n - _EXEMPLAR_ORDER))
        scores = divergences[order].clip_scores
        # clips without n-grams are NaN, which sorts last
        ranked = np.argsort(-scores, kind="stable")[: int(np.isfinite(scores).sum())]
        if not len(ranked):
            return ()
        phones = sample.sequences[self.column]
        exemplars = []
        for rank, index in (("best", 0), ("middle", len(ranked) // 2), ("worst", len(ranked) - 1)):
            clip = int(ranked[index])
            label = sample.label(clip)
            codes = phones.codes[phones.offsets[clip] : phones.offsets[clip + 1]]
            exemplars.append(
                Exemplar(
                    system=context.system,
                    rank=rank,
                    key=label.key,
                    path=label.path,
                    score=float(scores[clip]),
                    phones=tuple(phones.inventory[code] for code in codes),
                )
            )
        return tuple(exemplars)


def _neighbours(sample: Sample, reference: Sample, divergences: Mapping[int, PhonemeJSD]) -> tuple[float, float]:
    """Return how alike the scores of neighbouring clips of both sides are where that is beyond chance, else NaN."""
    order = min(divergences, key=lambda n: abs(n - _NEIGHBOUR_ORDER))
    scores = divergences[order].clip_scores, divergences[order].reference_scores
    # a reference that was drawn from has lost its order
    own, theirs = (
        order_correlation(values) if len(values) == len(side) else OrderCorrelation()
        for side, values in zip((sample, reference), scores, strict=True)
    )
    return (own.value if own.shown else math.nan), (theirs.value if theirs.shown else math.nan)


def _estimate(divergence: PhonemeJSD, name: str, sample: Sample, reference: Sample, context: Context) -> Estimate:
    degrees = min(side.clusters.count for side in (sample, reference)) - 1
    calibration = Calibration(
        floor=divergence.floor,
        corrected=divergence.corrected,
        corrected_low=divergence.corrected_low,
        corrected_high=divergence.corrected_high,
        held_out=divergence.held_out,
        trust=divergence.trust,
        reference_share=divergence.reference_share,
        clips_for_ok=divergence.clips_for_ok,
    )
    return context.estimate(
        sample,
        divergence.value,
        (divergence.low, divergence.high),
        # half of the interval over its quantile: what both estimates disagree by is an error of a rank too
        error=((divergence.corrected_high - divergence.corrected_low) / 2 / t_half_width(1.0, degrees), degrees),
        name=name,
        method="bounds",
        calibration=calibration,
        reference=reference,
        reason=divergence.reason,
    )


def _with_common(estimate: Estimate, held_out: float, phones: int) -> Estimate:
    assert estimate.calibration is not None  # every divergence has one
    shared = dataclasses.replace(estimate.calibration, held_out_common=held_out, common_phones=phones)
    return dataclasses.replace(estimate, calibration=shared)
