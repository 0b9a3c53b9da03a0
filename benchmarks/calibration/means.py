"""Known truths for means, shares, quantiles, ratios and self-BLEU: coverage, type I errors, power, gates.

Each of these takes milliseconds a sample, so that five samples are drawn for every seed. "Before" is the version before
this module, with percentile bootstrap intervals, on the same samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from benchmarks.calibration.rows import Row
from cdslm_eval import Context, Mean, Perplexity, Quantile, RatioOfSums, SelfBleu, Statistic
from cdslm_eval.results.differences import Difference
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.stats.clusters import Clusters
from cdslm_eval.stats.jsd import PhoneSequences
from cdslm_eval.stats.sample import Sample
from cdslm_eval.suite.gates import judge, parse_gate, quantity_of_estimate

__all__ = ["MEAN_ROWS", "SOURCES", "Source", "comparisons", "coverage"]

Floats = npt.NDArray[np.float64]
EACH = 5


@dataclass(frozen=True)
class Source:
    """Clips of a known truth.

    Attributes:
        statistic: What is estimated.
        draw: (rng, clips) -> columns.
        truth: The value of infinitely many clips.
        unit: Of the statistic.
        speakers: Clips are dealt to so many speakers; 0 where each is of its own.
    """

    statistic: Statistic
    draw: Callable[[np.random.Generator, int], Mapping[str, Floats]]
    truth: float
    unit: str = ""
    speakers: int = 0

    def sample(self, clips: int, rng: np.random.Generator) -> Sample:
        """Return clips of the source; those of one speaker share an offset where there are speakers."""
        clusters = Clusters.of(np.arange(clips) % self.speakers) if self.speakers else Clusters.alone(clips)
        columns = dict(self.draw(rng, clips))
        transcripts = columns.pop("transcripts", None)
        sample = Sample(numbers=columns, scored=np.arange(clips), clusters=clusters)
        if transcripts is not None:
            sample.sequences["words"] = PhoneSequences.from_lists(
                [[str(word) for word in clip] for clip in transcripts]
            )
        return sample


def _speakers(rng: np.random.Generator, clips: int, count: int) -> Floats:
    """Return half of the variance of clips of `count` speakers: what is common to those of each."""
    return rng.standard_normal(count)[np.arange(clips) % count]


def _normal(rng: np.random.Generator, clips: int, speakers: int = 0) -> dict[str, Floats]:
    own = rng.standard_normal(clips)
    return {"x": (own + _speakers(rng, clips, speakers) if speakers else own) + 3.0}


def _partly_bad(rng: np.random.Generator, clips: int) -> dict[str, Floats]:
    """Scores about 4.5, and about 1.5 in a fifth of the clips."""
    return {"x": np.where(rng.random(clips) < 0.8, 4.5, 1.5) + 0.2 * rng.standard_normal(clips)}


def _share(rng: np.random.Generator, clips: int, speakers: int = 0) -> dict[str, Floats]:
    own = rng.beta(0.5, 4.5, speakers)[np.arange(clips) % speakers] if speakers else 0.1
    return {"x": (rng.random(clips) < own).astype(np.float64)}


def _errors(rng: np.random.Generator, clips: int, speakers: int = 0) -> dict[str, Floats]:
    """Word errors where a tenth of the clips fail altogether; or of speakers who differ by their error rate."""
    words = rng.integers(8, 25, clips).astype(np.float64)
    if not speakers:
        return {"errors": np.where(rng.random(clips) < 0.1, words, 0.0), "words": words}
    rate = rng.beta(4.0, 16.0, speakers)[np.arange(clips) % speakers]
    return {"errors": rng.binomial(words.astype(int), rate).astype(np.float64), "words": words}


def _perplexity(rng: np.random.Generator, clips: int) -> dict[str, Floats]:
    tokens = rng.integers(20, 80, clips).astype(np.float64)
    return {"nll": tokens * rng.gamma(20.0, 0.2, clips), "tokens": tokens}


def _zipf(rng: np.random.Generator, clips: int) -> dict[str, Floats]:
    return {"transcripts": rng.zipf(1.6, (clips, 12)) % 60}


def _with_speakers(draw: Callable[..., Mapping[str, Floats]], count: int) -> Callable[..., Mapping[str, Floats]]:
    return lambda rng, clips: draw(rng, clips, count)


_WER, _X = RatioOfSums("errors", "words"), Mean("x")
SOURCES: Mapping[str, Source] = {
    "mean, normal": Source(_X, _normal, 3.0),
    "mean, normal, 3 speakers": Source(_X, _with_speakers(_normal, 3), 3.0, speakers=3),
    "mean, normal, 6 speakers": Source(_X, _with_speakers(_normal, 6), 3.0, speakers=6),
    "mean, log-normal": Source(_X, lambda rng, n: {"x": rng.lognormal(0, 1, n)}, math.exp(0.5)),
    "mean, 5 - log-normal": Source(_X, lambda rng, n: {"x": 5 - rng.lognormal(0, 1, n)}, 5 - math.exp(0.5)),
    "mean, exponential": Source(_X, lambda rng, n: {"x": rng.exponential(size=n)}, 1.0),
    "mean, a fifth of clips bad": Source(_X, _partly_bad, 3.9),
    "share of 10 %": Source(_X, _share, 0.1, "fraction"),
    "share of 10 %, 6 speakers": Source(_X, _with_speakers(_share, 6), 0.1, "fraction", 6),
    "median, normal": Source(Quantile("x"), _normal, 3.0),
    "median, normal, 6 speakers": Source(Quantile("x"), _with_speakers(_normal, 6), 3.0, speakers=6),
    "90 % quantile, normal": Source(Quantile("x", 0.9), _normal, 4.2815515655),
    "WER, a tenth of clips fail": Source(_WER, _errors, 0.1, "fraction"),
    "WER, 3 speakers": Source(_WER, _with_speakers(_errors, 3), 0.2, "fraction", 3),
    "perplexity": Source(Perplexity("nll", "tokens"), _perplexity, math.exp(4.0)),
    "self-BLEU": Source(SelfBleu(), _zipf, math.nan),
}


def _estimate(source: Source, clips: int, rng: np.random.Generator) -> Estimate:
    context = Context(name="x", unit=source.unit)
    return source.statistic.estimate(source.sample(clips, rng), None, context).estimates[0]


def coverage(source: Source, clips: int, samples: int, seed: int) -> tuple[float, float, float]:
    """Return how often the interval covers the truth where it has any end, how often it has none, and an open one."""
    covered = known = open_ended = 0
    for number in range(samples):
        estimate = _estimate(source, clips, np.random.default_rng([seed, clips, number]))
        ends = [math.isfinite(estimate.low), math.isfinite(estimate.high)]
        known += any(ends)
        open_ended += any(ends) and not all(ends)
        covered += any(ends) and not (estimate.low > source.truth or estimate.high < source.truth)
    return covered / known if known else math.nan, 1 - known / samples, open_ended / samples


def intervals(seeds: int) -> list[Row]:
    """Coverage of the intervals of one system."""
    cases = [
        ("mean, normal, 3 speakers", (30,), (".756",)),
        ("mean, normal, 6 speakers", (30,), (".917",)),
        ("mean, normal", (5, 10, 30), (".920", ".958", ".947")),
        ("share of 10 %", (5, 10, 30, 100), (".384", ".634", ".960", ".957")),
        ("share of 10 %, 6 speakers", (30,), (".898",)),
        ("median, normal", (5, 10, 30), (".944", ".944", ".946")),
        ("median, normal, 6 speakers", (30,), (".922",)),
        ("90 % quantile, normal", (5, 10, 30, 100), (".420", ".643", ".855", ".928")),
        ("WER, a tenth of clips fail", (5, 10, 30, 100), (".376", ".647", ".887", ".942")),
        ("WER, 3 speakers", (30,), (".735",)),
        ("perplexity", (5, 30), (".919", ".946")),
        ("self-BLEU", (10, 30), (".979", ".992")),
    ]
    return _coverage_rows(10, cases, seeds)


def skewed(seeds: int) -> list[Row]:
    """Coverage of the mean of skewed clips."""
    cases = [
        ("mean, log-normal", (5, 10, 15, 30, 100), (".815", ".863", "—", ".879", ".910")),
        ("mean, 5 - log-normal", (5, 10, 15, 30, 100), (".815", ".863", "—", ".879", ".910")),
        ("mean, exponential", (5, 10, 30), (".861", ".910", ".911")),
        ("mean, a fifth of clips bad", (5, 10, 30), ("—", "—", "—")),
    ]
    return _coverage_rows(18, cases, seeds)


def _coverage_rows(number: int, cases: list[tuple[str, tuple[int, ...], tuple[str, ...]]], seeds: int) -> list[Row]:
    rows = []
    for name, counts, before in cases:
        for clips, old in zip(counts, before, strict=True):
            source = SOURCES[name]
            if math.isnan(source.truth):  # a value that depends on the number of clips: the mean of other sets
                rng = np.random.default_rng([9, clips])
                source = replace(
                    source, truth=float(np.mean([_estimate(source, clips, rng).value for _ in range(300)]))
                )
            covered, none, open_ended = coverage(source, clips, EACH * seeds, number)
            notes = [f"{share:.2f} {what}" for share, what in ((none, "without"), (open_ended, "open")) if share]
            after = f"{covered:.3f}" + (f" ({', '.join(notes)})" if notes else "")
            rows.append(Row(number, f"{name}, {clips} clips: coverage", ".95", old, after))
    return rows


def comparisons(
    source: Source, clips: int, samples: int, shift: float = 0.0, *, paired: bool = False, seed: int = 7
) -> list[Difference]:
    """Return the tests of pairs of samples of one source, the first moved up by `shift`."""
    table_rows = []
    for number in range(samples):
        rng = np.random.default_rng([seed, clips, number])
        a, b = source.sample(clips, rng), source.sample(clips, rng)
        column = getattr(source.statistic, "numerator", "x")
        if column == "errors":
            a.numbers["errors"] = a.numbers["errors"] + shift * a.numbers["words"]
        elif shift:
            a.numbers["x"] = a.numbers["x"] + shift
        table_rows += source.statistic.difference(a, b, None, Context(name="x", unit=source.unit), paired=paired)
    return table_rows


def compare_means(seeds: int) -> list[Row]:
    """Type I errors of `compare`, and whether its interval and its p value agree."""
    cases = [
        ("mean, normal", 5, ".119", False),
        ("mean, normal", 10, ".061", False),
        ("mean, normal", 30, ".058", False),
        ("mean, normal", 5, ".182", True),
        ("mean, normal, 3 speakers", 30, ".216", False),
        ("mean, log-normal", 10, ".060", False),
        ("WER, 3 speakers", 30, ".206", False),
        ("WER, a tenth of clips fail", 30, ".058", False),
        ("share of 10 %", 30, ".029", False),
        ("median, normal", 10, ".029", False),
        ("median, normal", 30, ".035", False),
        ("90 % quantile, normal", 100, ".033", False),
        ("self-BLEU", 20, ".000", False),
    ]
    rows, disagreements = [], []
    for name, clips, before, paired in cases:
        tests = comparisons(SOURCES[name], clips, EACH * seeds if name != "self-BLEU" else seeds, paired=paired)
        known = [test for test in tests if math.isfinite(test.p_value)]
        level = np.mean([test.p_value < 0.05 for test in known])
        bounded = [test for test in known if math.isfinite(test.low)]
        apart = np.mean([(test.p_value < 0.05) != (test.low > 0 or test.high < 0) for test in bounded])
        title = f"`compare` of {name}, {clips} clips{', paired' * paired}: type I"
        rows.append(Row(7, title, ".05", before, f"{level:.3f}"))
        disagreements.append(apart)
    title = "p and interval of these disagree, mean of the above"
    return [*rows, Row(7, title, "0", ".04", f"{np.mean(disagreements):.3f}")]


def least_p(seeds: int) -> list[Row]:
    """The Holm-corrected p of a large difference among 200 values."""
    del seeds
    (test,) = comparisons(SOURCES["mean, normal"], 30, 1, shift=5.0)
    title = "a difference of 5 standard deviations, 30 clips, among 200 values: p (Holm)"
    return [Row(7, title, "< .05", ".10", f"{200 * test.p_value:.1e}")]


def detectable(seeds: int) -> list[Row]:
    """Power at the detectable difference that a comparison states on average."""
    cases = [
        ("mean, normal", 5, ".775"),
        ("mean, normal", 10, ".766"),
        ("mean, normal", 30, ".781"),
        ("mean, normal, 3 speakers", 30, ".732"),
        ("WER, 3 speakers", 30, ".729"),
        ("median, normal", 30, ".753"),
    ]
    rows = []
    for name, clips, before in cases:
        source, samples = SOURCES[name], EACH * seeds
        stated = float(np.mean([test.detectable for test in comparisons(source, clips, samples)]))
        shown = np.mean([test.p_value < 0.05 for test in comparisons(source, clips, samples, stated, seed=8)])
        rows.append(Row(8, f"`detectable` of {name}, {clips} clips: power there", ".80", before, f"{shown:.3f}"))
    return rows


def gates(seeds: int) -> list[Row]:
    """How often a gate passes whose bound is the truth."""
    cases = [
        ("mean, normal", "<", (5, 10, 30, 100), (".032", ".021", ".035", ".025")),
        ("mean, log-normal", "<", (5, 10, 15, 30, 100), (".187", ".122", "—", ".112", ".061")),
        ("share of 10 %", ">", (5, 10, 30), (".001", ".001", ".001")),
    ]
    rows = []
    for name, op, counts, before in cases:
        for clips, old in zip(counts, before, strict=True):
            source, passed = SOURCES[name], 0
            gate = parse_gate(f"x {op} {source.truth:.12g}")
            for number in range(EACH * seeds):
                estimate = _estimate(source, clips, np.random.default_rng([17, clips, number]))
                passed += judge(gate, "", "a", quantity_of_estimate(gate, estimate), "fail").passed
            what = f"gate at the truth, {name}, {clips} clips: wrong pass"
            rows.append(Row(17, what, ".025", old, f"{passed / (EACH * seeds):.3f}"))
    return rows


MEAN_ROWS: tuple[Callable[[int], list[Row]], ...] = (compare_means, least_p, detectable, intervals, gates, skewed)
