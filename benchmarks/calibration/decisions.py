"""Known truths for decisions: ranks, systems that repeat the reference, hidden speakers, clips that would decide."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping

import numpy as np

from benchmarks.calibration.divergences import copied_clips, sources
from benchmarks.calibration.means import EACH, SOURCES
from benchmarks.calibration.rows import Row
from benchmarks.calibration.sources import divergences
from cdslm_eval import Context, JensenShannon
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.run.set_notes import unnamed_speakers
from cdslm_eval.stats.clusters import Clusters
from cdslm_eval.stats.jsd import PhoneSequences
from cdslm_eval.stats.sample import ClipLabel, Sample
from cdslm_eval.stats.standing import standings
from cdslm_eval.suite.gates import judge, parse_gate, quantity_of_estimate

__all__ = [
    "DECISION_ROWS",
    "advice_decides",
    "divergence_of",
    "false_ranks",
    "hidden_speakers",
    "mean_of",
    "memorisers",
]

_ADVICE = re.compile(r"(?:a reference of about (\d+) clips and )?about (\d+) more clips")
MOST = 1500
"""Clips up to which advice is followed: beyond it costs minutes a seed."""


def phones_sample(phones: PhoneSequences) -> Sample:
    """Return clips of phones, each its own cluster, with labels."""
    labels = [ClipLabel(f"c{clip}") for clip in range(len(phones))]
    clusters = Clusters.alone(len(phones))
    return Sample(sequences={"phones": phones}, scored=np.arange(len(phones)), clusters=clusters, labels=labels)


def false_ranks(name: str, clips: int, samples: int, systems: int = 6) -> float:
    """Return how often ranks tell any two of several systems of one source apart."""
    source, wrong = SOURCES[name], 0
    for number in range(samples):
        rng = np.random.default_rng([71, clips, number])
        estimates: list[Estimate] = []
        for system in range(systems):
            context = Context(name="x", unit=source.unit, better="higher", system=str(system))
            estimates += source.statistic.estimate(source.sample(clips, rng), None, context).estimates
        wrong += any(standing.shown for standing in standings(estimates).values())
    return wrong / samples


def ranks(seeds: int) -> list[Row]:
    """How often any two of six, or twenty, equal systems are ranked apart."""
    cases = (
        ("mean, normal", 5, 6, ".015"),
        ("mean, normal", 5, 20, ".020"),
        ("mean, normal", 10, 6, ".010"),
        ("mean, normal, 3 speakers", 30, 6, ".005"),
        ("mean, normal, 3 speakers", 30, 20, ".015"),
        ("mean, log-normal", 10, 6, ".000"),
        ("share of 10 %", 30, 6, ".020"),
        ("median, normal", 30, 6, ".065"),
        ("WER, 3 speakers", 30, 6, ".010"),
    )
    return [
        Row(
            7,
            f"ranks of {systems} equal systems, {name}, {clips} clips: any distinguished",
            "<= .05",
            before,
            f"{false_ranks(name, clips, EACH * seeds, systems):.3f}",
        )
        for name, clips, systems, before in cases
    ]


def hidden_speakers(seeds: int) -> list[Row]:
    """Notes on sets whose clips have no speakers: 12 or 40 speakers of 5 clips in a row, and clips on their own."""
    real, statistic = sources()["identical"], JensenShannon(orders=(2,))
    rows = []
    for count, each, phones in ((12, 5, 40), (40, 5, 40), (40, 5, 80), (60, 1, 40), (200, 1, 40)):
        noted = alike = 0
        for seed in range(seeds):
            rng = np.random.default_rng([11, count, each, phones, seed])
            sample, reference = (phones_sample(real.clips(count, each, phones, rng)[0]) for _ in range(2))
            context = Context(name="pjsd", metric="pjsd", better="lower", seed=seed, system="a")
            estimation = statistic.estimate(sample, reference, context)
            own, _ = statistic.diagnose(sample, reference, estimation, context).neighbours
            facts = {"clips": len(sample), "speakers": 0} | ({"neighbours": own} if np.isfinite(own) else {})
            notes = unnamed_speakers({"a": facts})
            noted += len(notes) == 1
            alike += "neighbouring clips score alike" in notes[0]
        what = (
            f"{count} unnamed speakers of {each} clips of {phones} phones in a row"
            if each > 1
            else f"{count} clips of speakers of their own"
        )
        if each > 1:
            rows.append(Row(11, f"{what}: a note", "1", "0", f"{noted / seeds:.3f}"))
        title = f"{what}: the note states that neighbours are alike"
        rows.append(Row(11, title, "1" if each > 1 else "< .01", "0", f"{alike / seeds:.3f}"))
    return rows


def memorisers(seeds: int) -> list[Row]:
    """Whether a system that repeats the reference is listed in a table with fresh speech, and its rank."""
    real, statistic = sources()["identical"], JensenShannon(orders=(1, 2))
    kinds: Mapping[str, tuple[int, float]] = {
        "all copied": (60, 0.0),
        "all copied, 10 % phone errors": (60, 0.1),
        "half copied": (30, 0.0),
        "fresh speech of the same source": (0, 0.0),
    }
    outside, placed = dict.fromkeys(kinds, 0), 0
    for seed in range(seeds):
        rng = np.random.default_rng([14, seed])
        (b, _), (fresh, _) = (real.clips(60, 1, 40, rng) for _ in range(2))
        reference, estimates = phones_sample(b), []
        for name, (count, errors) in kinds.items():
            own = copied_clips(b, np.arange(count), errors, rng) + copied_clips(fresh, np.arange(count, 60), 0, rng)
            sample = phones_sample(PhoneSequences.from_lists(own))
            context = Context(name="pjsd", metric="pjsd", better="lower", seed=seed, system=name)
            estimation = statistic.estimate(sample, reference, context)
            reason = statistic.diagnose(sample, reference, estimation, context).memorised
            estimates += [dataclasses.replace(estimate, outside=reason) for estimate in estimation.estimates]
        places = standings(estimates)
        for name in kinds:
            outside[name] += (name, "pjsd_1") not in places
        fresh_place = places.get(("fresh speech of the same source", "pjsd_1"))
        placed += fresh_place is not None and fresh_place.best == 1
    before = dict.fromkeys(kinds, "0 (leads)") | {"fresh speech of the same source": "0"}
    rows = [
        Row(14, f"listed unranked, {name}", "1" if count else "0", before[name], f"{outside[name] / seeds:.3f}")
        for name, (count, _) in kinds.items()
    ]
    return [*rows, Row(14, "fresh speech has the first place next to them", "1", "0", f"{placed / seeds:.3f}")]


def advice_decides(
    estimate_of: Callable[[int, int, int], Estimate], gate: str, clips: int, reference: int, seeds: int
) -> tuple[int, int, int]:
    """Return the undecided designs with advice that can be followed, those that it decides, and those beyond reach.

    Args:
        estimate_of: (seed, clips, reference clips) -> estimate; more clips of a seed are added to the former ones.
        gate: A gate on it.
        clips, reference: The design's clips.
        seeds: How many designs.
    """
    parsed = parse_gate(gate)
    followed = decided = beyond = 0
    for seed in range(seeds):
        estimate = estimate_of(seed, clips, reference)
        judgement = judge(parsed, "", "a", quantity_of_estimate(parsed, estimate), "fail")
        advice = _ADVICE.search(judgement.sentence) if judgement.status == "undecided" else None
        if advice is None:
            continue
        wanted, others = clips + int(advice[2]), int(advice[1] or reference)
        if max(wanted, others) > MOST:
            beyond += 1
            continue
        again = quantity_of_estimate(parsed, estimate_of(seed, wanted, others))
        followed += 1
        decided += judge(parsed, "", "a", again, "fail").status != "undecided"
    return followed, decided, beyond


def mean_of(seed: int, clips: int, reference: int) -> Estimate:
    """Return the estimate of a mean of 3; there is no reference."""
    del reference
    drawn = np.random.default_rng([16, seed]).standard_normal(clips) + 3.0
    sample = Sample(numbers={"x": drawn}, scored=np.arange(clips), clusters=Clusters.alone(clips))
    return SOURCES["mean, normal"].statistic.estimate(sample, None, Context(name="x")).estimates[0]


def divergence_of(order: int) -> Callable[[int, int, int], Estimate]:
    """Return what estimates the divergence of near sources from clips and reference clips of a seed."""
    kinds, statistic = sources(), JensenShannon(orders=(order,))

    def estimate(seed: int, clips: int, reference: int) -> Estimate:
        # a speaker a clip, drawn one after the other, so that a larger set starts with the smaller one
        (a, _), (b, _) = (
            kinds[name].clips(count, 1, 40, np.random.default_rng([160, side, seed]))
            for side, (name, count) in enumerate((("near", clips), ("identical", reference)))
        )
        context = Context(name="pjsd", metric="pjsd", better="lower", seed=seed, system="a")
        return statistic.estimate(phones_sample(a), phones_sample(b), context).estimates[0]

    return estimate


def more_clips(seeds: int) -> list[Row]:
    """How many undecided gates are decided by the clips that the judgement requests."""
    kinds = sources()
    truth = divergences(kinds["near"], kinds["identical"], (1, 2))
    cases = (
        ("mean, normal, 30 clips, truth 0.2 sd inside", mean_of, "x < 3.2", 30, 0, ".50 to .82"),
        (
            f"pJSD_1, 30 clips against 40, truth {truth[1]:.3f} under 0.011",
            divergence_of(1),
            "pjsd_1.corrected < 0.011",
            30,
            40,
            ".24",
        ),
        (
            f"pJSD_2, 60 clips against 80, truth {truth[2]:.3f} under 0.075",
            divergence_of(2),
            "pjsd_2.corrected < 0.075",
            60,
            80,
            ".50",
        ),
    )
    rows = []
    for name, estimate_of, gate, clips, reference, before in cases:
        followed, decided, beyond = advice_decides(estimate_of, gate, clips, reference, seeds)
        share = f"{decided / followed:.3f}" if followed else "none undecided"
        after = f"{share} ({followed} undecided, {beyond} beyond {MOST} clips)"
        rows.append(Row(16, f"gate decided by the clips it requests, {name}", "about .5", before, after))
    return rows


DECISION_ROWS: tuple[Callable[[int], list[Row]], ...] = (ranks, hidden_speakers, memorisers, more_clips)
