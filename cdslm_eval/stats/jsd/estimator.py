"""`phoneme_jsd`: the divergence of a generated and a reference set with its errors, per order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cdslm_eval.results.sample_size import clips_for_floor
from cdslm_eval.stats.jsd.copies import COPY_ORDER
from cdslm_eval.stats.jsd.corrected import (
    DRAWS,
    TRUSTED_FLOOR,
    Corrected,
    corrected,
    interval,
    total_variance,
    variance_share,
    window_counts,
)
from cdslm_eval.stats.jsd.held_out import MIN_CLIPS, HeldOut, held_out
from cdslm_eval.stats.jsd.ngrams import Ints, NgramTable, PhoneSequences
from cdslm_eval.stats.jsd.plug_in import Floats, clustered_variance, jsd, plug_in
from cdslm_eval.stats.jsd.streamed import streamed_plug_in
from cdslm_eval.stats.resampling import TTest, t_test

__all__ = [
    "MAX_PHONES",
    "ORDERS",
    "PhonemeJSD",
    "compare_held_out",
    "corrected_difference",
    "phoneme_jsd",
]

ORDERS = (1, 2, 3, 4, 5)
MAX_PHONES = 200_000
"""Phones a side up to which floor, correction and held-out bound are computed; a larger set is drawn from."""
TRUST = ((0.05, "ok"), (TRUSTED_FLOOR, "sample_limited"), (np.inf, "bounds_only"))
_BOUND = 0.95  # one-sided: 1.645 standard errors for many clips

Phones = PhoneSequences | Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PhonemeJSD:
    """The divergence of one order, in bits (0..1); NaN with a `reason` where it is not known.

    Attributes:
        order: n.
        value: Plug-in divergence of all n-grams; an upper bound in expectation.
        low, high: Bounds: held_out less, and plug-in plus, 1.645 standard errors (t quantile under 30 clips).
        floor: Plug-in between random halves of the pooled clips at the n-gram count of `phones` phones.
        floor_reference: The same within the reference; reported, never used to normalise (it biases upwards).
        corrected, corrected_low, corrected_high: (P - F) / (1 - F) at equal n-gram counts, and its 95 % interval, which
            reaches from it to a second estimate; no interval at "bounds_only".
        second: The second estimate, by Grassberger's entropies.
        held_out: Lower bound, 0 in expectation for identical sources; may be negative.
        held_out_se: Its standard error.
        trust: "ok" (F <= 0.05), "sample_limited" (F <= 0.25) or "bounds_only".
        phones: Phones a side behind floor and corrected.
        phones_generated, phones_reference: All phones of each side.
        reference_share: Share of the reference in the variance of `corrected`, 0..1.
        clips_for_ok: About how many clips a side would make it "ok"; NaN where it is.
        clip_scores: `[generated clips]`, mean held-out log2-odds of being reference speech; NaN where unknown.
        reference_scores: The same of the reference's clips that the bound was taken from.
        exceeds: Whether the held-out value exceeded the plug-in and was cut to it, as it is for near-copies.
        reason: Why something is NaN, or "".
    """

    order: int
    value: float
    low: float
    high: float
    floor: float
    floor_reference: float
    corrected: float
    corrected_low: float
    corrected_high: float
    second: float
    held_out: float
    held_out_se: float
    trust: str
    phones: int
    phones_generated: int
    phones_reference: int
    reference_share: float
    clips_for_ok: float
    clip_scores: Floats
    reference_scores: Floats
    exceeds: bool
    reason: str


def phoneme_jsd(
    generated: Phones,
    reference: Phones,
    orders: Sequence[int] = ORDERS,
    seed: int = 0,
    *,
    generated_clusters: Sequence[int] | Ints | None = None,
    reference_clusters: Sequence[int] | Ints | None = None,
    max_phones: int = MAX_PHONES,
) -> Mapping[int, PhonemeJSD]:
    """Return the divergence between the phone n-grams of generated and of real speech, for each order.

    n-grams are pooled over clips and never cross the end of one.

    Args:
        generated, reference: Phone sequences, one per clip.
        orders: Values of n, each at least 1.
        seed: Randomness of draws, groups and folds.
        generated_clusters, reference_clusters: Cluster (speaker) number per clip; by default each clip is its own.
        max_phones: Phones a side up to which floor, correction and held-out bound are computed.

    Returns:
        Order -> `PhonemeJSD`, in the order of `orders`.

    Raises:
        ValueError: An order is under 1, or clusters do not match the clips.
    """
    orders = tuple(orders)
    if not orders or min(orders) < 1:
        raise ValueError("orders must be whole numbers of at least 1")
    sides = [_sequences(generated), _sequences(reference)]
    clusters = [
        _clusters(given, len(sequences))
        for given, sequences in zip((generated_clusters, reference_clusters), sides, strict=True)
    ]
    rng = np.random.default_rng([seed, 0x6A7364])
    counts = [int(sequences.offsets[-1]) for sequences in sides]
    joint = np.concatenate([clusters[0], clusters[1] + (clusters[0].max(initial=-1) + 1)])
    large = max(counts) > max_phones
    highest = max(*orders, COPY_ORDER)  # copies are recognized by 5-grams, whatever orders are wanted
    scores_of = np.arange(len(sides[0]))
    if not large:
        table, capped = NgramTable(sides[0], sides[1], orders=highest), joint
        plain = {n: plug_in(table, table.orders[n - 1], joint) for n in orders}
    else:
        # the n-grams of a large set may not fit in memory
        plain = streamed_plug_in(sides[0], sides[1], orders, (clusters[0], clusters[1]))
        drawn = [sequences.draw(max_phones, rng) for sequences in sides]
        table = NgramTable(drawn[0][0], drawn[1][0], orders=highest)
        capped = np.concatenate([joint[drawn[0][1]], joint[len(sides[0]) + drawn[1][1]]])
        scores_of = drawn[0][1]
    fixed = corrected(table, orders, rng, clusters=capped)
    intervals = {n: interval(fixed[n], table.side, capped) for n in orders}
    shares = {n: variance_share(fixed[n], table.side, capped) for n in orders}
    within = _reference_floor(table, orders, rng)
    few = min(int((table.lengths[table.side == side] > 0).sum()) for side in (False, True))
    bound = held_out(table, orders, capped, rng) if few >= MIN_CLIPS else {}
    quantile = _bound_quantile(few)
    return {
        n: _assemble(
            n,
            plain[n],
            fixed[n],
            intervals[n],
            shares[n],
            within[n],
            bound.get(n),
            quantile,
            counts,
            scores_of,
            len(sides[0]),
            few,
        )
        for n in orders
    }


def _assemble(
    n: int,
    plain: tuple[float, float],
    fixed: Corrected,
    corrected_interval: tuple[float, float],
    share: float,
    within: float,
    bound: HeldOut | None,
    quantile: float,
    counts: list[int],
    scores_of: Ints,
    clips: int,
    few: int,
) -> PhonemeJSD:
    value, se = plain
    scores = np.full(clips, np.nan)
    if bound is not None:
        scores[scores_of] = bound.clip_scores
    lower, lower_se = (bound.value, bound.se) if bound is not None else (np.nan, np.nan)
    # a lower bound exceeds the plug-in only where clips of one side are near-copies of the other's
    exceeds = lower > value
    lower = value if exceeds else lower
    high = float(np.clip(value + quantile * se, 0, 1))
    trust = (
        next(mark for limit, mark in TRUST if not fixed.floor > limit) if np.isfinite(fixed.floor) else "bounds_only"
    )
    return PhonemeJSD(
        order=n,
        value=value,
        low=min(float(np.clip(lower - quantile * lower_se, 0, 1)), high),
        high=high,
        floor=fixed.floor,
        floor_reference=within,
        corrected=fixed.value,
        corrected_low=corrected_interval[0],
        corrected_high=corrected_interval[1],
        second=fixed.second,
        held_out=lower,
        held_out_se=lower_se,
        trust=trust,
        phones=fixed.phones,
        phones_generated=counts[0],
        phones_reference=counts[1],
        reference_share=share,
        clips_for_ok=clips_for_floor(fixed.floor, TRUST[0][0], few) if trust != "ok" else float("nan"),
        clip_scores=scores,
        reference_scores=bound.reference_scores if bound is not None else np.zeros(0),
        exceeds=bool(exceeds),
        reason=_reason(n, counts, value, fixed, corrected_interval, bound, few),
    )


def _reason(
    n: int,
    counts: list[int],
    value: float,
    fixed: Corrected,
    corrected_interval: tuple[float, float],
    bound: HeldOut | None,
    few: int,
) -> str:
    for count, side in zip(counts, ("system", "reference"), strict=True):
        if count == 0:
            return f"the {side} has no phones"
    if np.isnan(value):
        return f"no {n}-grams: every clip of one side has fewer than {n} phones"
    reasons = []
    if bound is None:
        reasons.append(f"held_out and low need {MIN_CLIPS} clips a side with phones, here {few}")
    elif np.isnan(bound.value):
        reasons.append(f"no {n}-grams to hold out")
    if np.isnan(fixed.value):
        reasons.append("corrected is not defined at a floor above 0.95: too few phones for this order")
    elif fixed.floor > TRUSTED_FLOOR:
        reasons.append(f"at a floor of {fixed.floor:.2f} corrected is too biased for an interval: only the bounds hold")
    elif np.isnan(corrected_interval[0]):
        reasons.append("the interval of corrected needs at least 2 clips (or speakers) a side")
    return "; ".join(reasons)


def _bound_quantile(clips: int) -> float:
    from scipy import stats  # listing metrics must not wait for scipy

    if clips >= 30:
        return float(stats.norm.ppf(_BOUND))
    return float(stats.t.ppf(_BOUND, max(1, clips - 1)))


def _reference_floor(table: NgramTable, orders: tuple[int, ...], rng: np.random.Generator) -> dict[int, float]:
    """Return the plug-in between random halves of the reference, averaged over draws."""
    clips = np.flatnonzero(table.side)
    results: dict[int, list[float]] = {n: [] for n in orders}
    for _ in range(DRAWS // 2):
        first = np.zeros(len(table.lengths), bool)
        first[rng.permutation(clips)[: len(clips) // 2]] = True
        halves = np.where(first, table.lengths, 0), np.where(table.side & ~first, table.lengths, 0)
        for n in orders:
            results[n].append(jsd(table.counts(n, halves[0]), table.counts(n, halves[1])))
    return {n: float(np.mean(values)) for n, values in results.items()}


def compare_held_out(
    systems: Mapping[str, Phones],
    reference: Phones,
    orders: Sequence[int] = ORDERS,
    *,
    phones: int | None = None,
    draws: int | None = None,
    seed: int = 0,
) -> tuple[dict[str, dict[int, float]], int]:
    """Return the held-out bound of several systems at one common phone count, and that count.

    The bound grows with the sample, so only values at a common count may be compared.

    Args:
        systems: Phone sequences of each system; one with under 10 clips of speech gets NaN.
        reference: Phone sequences of the reference.
        orders: Values of n.
        phones: The common count; by default the smallest among the systems that can be bounded and the reference.
        draws: Random truncations that are averaged; by default 5, and fewer from 20,000 phones on. Clips are cut
            so that at least `MIN_CLIPS` take part.
        seed: Randomness.
    """
    orders = tuple(orders)
    sides = {name: _sequences(system) for name, system in systems.items()}
    real = _sequences(reference)
    able = {name: sequences for name, sequences in sides.items() if (sequences.lengths > 0).sum() >= MIN_CLIPS}
    results = {name: dict.fromkeys(orders, float("nan")) for name in sides}
    if not able or (real.lengths > 0).sum() < MIN_CLIPS:
        return results, 0
    count = phones or int(min(MAX_PHONES, real.offsets[-1], *(sequences.offsets[-1] for sequences in able.values())))
    # the spread between draws falls with their size, and their cost grows with it
    times = draws or max(1, min(5, 100_000 // max(1, count)))
    for name, sequences in able.items():
        values: dict[int, list[float]] = {n: [] for n in orders}
        for draw in range(times):
            # every system meets the same draw of the reference
            cut = [
                side.cut(count, MIN_CLIPS, np.random.default_rng([seed, 0x686F, draw])) for side in (sequences, real)
            ]
            table = NgramTable(cut[0], cut[1], orders=max(*orders, COPY_ORDER))
            rng = np.random.default_rng([seed, 0x686F, draw, 1])
            for n, bound in held_out(table, orders, np.arange(len(table.lengths)), rng).items():
                values[n].append(bound.value)
        results[name] = {n: float(np.mean(v)) for n, v in values.items()}
    return results, count


def corrected_difference(
    a: Phones,
    b: Phones,
    reference: Phones,
    orders: Sequence[int] = ORDERS,
    *,
    clusters: tuple[Ints, Ints, Ints] | None = None,
    paired: bool = False,
    seed: int = 0,
) -> dict[int, TTest]:
    """Return the difference of the corrected divergences of two systems against one reference, at one n-gram count.

    The error is that of the first-order influence of every cluster: what a clip of the reference does to both
    divergences, or a pair of clips to each, cancels.

    Args:
        a, b: Phone sequences of the systems; when `paired`, clip i of both answers the same prompt.
        reference: Phone sequences of the reference.
        orders: Values of n.
        clusters: Cluster (speaker) number of each clip of a, of b and of the reference; by default each is its own.
            A cluster counts as a whole, or a difference between speakers would pass for one between systems.
        paired: Whether clips are compared in pairs; the clusters of a then serve both.
        seed: Randomness.
    """
    orders = tuple(orders)
    sides, real = [_sequences(a), _sequences(b)], _sequences(reference)
    own, other, theirs = (
        _clusters(numbers, len(sequences))
        for numbers, sequences in zip(clusters or (None,) * 3, (*sides, real), strict=True)
    )
    # the bias goes with the count: at different ones, systems of one source would differ
    counts = {
        n: min(MAX_PHONES, *(int(window_counts(sequences.lengths, n).sum()) for sequences in (*sides, real)))
        for n in orders
    }
    results = []
    for sequences, numbers in zip(sides, (own, own if paired else other), strict=True):
        table = NgramTable(sequences, real, orders=max(orders))
        joint = np.concatenate([numbers, theirs + numbers.max(initial=-1) + 1])
        # the same draws for both: identical systems then differ by exactly nothing
        results.append(corrected(table, orders, np.random.default_rng([seed, 1]), counts, joint))
    few = min(len(np.unique(numbers)) for numbers in (own, other, theirs))
    return {
        n: _difference(results[0][n], results[1][n], (own, other, theirs), (*map(len, sides), len(real)), few, paired)
        for n in orders
    }


def _difference(
    left: Corrected, right: Corrected, clusters: tuple[Ints, Ints, Ints], clips: tuple[int, ...], few: int, paired: bool
) -> TTest:
    own = [result.influence[:count] for result, count in zip((left, right), clips, strict=False)]
    real = [result.influence[count:] for result, count in zip((left, right), clips, strict=False)]
    parts = [clustered_variance(real[0] - real[1], clusters[2])]
    if paired:
        parts.append(clustered_variance(own[0] - own[1], clusters[0]))
    else:
        parts += [clustered_variance(influence, numbers) for influence, numbers in zip(own, clusters, strict=False)]
    # one set twice: noise is of independent sets, and would give an exact 0 an error
    if paired and np.array_equal(own[0], own[1]):
        return t_test(left.value - right.value, 0.0, few - 1)
    # what the reference's own fluctuation does to both divergences is no difference between them
    shared = np.sqrt(left.noise * right.noise) * left.reference_share * right.reference_share
    variance = total_variance(left.order, sum(parts), left.noise + right.noise - 2 * shared) + left.drawn + right.drawn
    return t_test(left.value - right.value, float(np.sqrt(variance)), few - 1)


def _sequences(given: Phones) -> PhoneSequences:
    return given if isinstance(given, PhoneSequences) else PhoneSequences.from_lists(given)


def _clusters(given: Sequence[int] | Ints | None, clips: int) -> Ints:
    if given is None:
        return np.arange(clips)
    if len(given) != clips:
        raise ValueError(f"{len(given)} cluster numbers for {clips} clips")
    return np.unique(np.asarray(given), return_inverse=True)[1].astype(np.int64)
