"""Self-BLEU, auto-BLEU and VERT against the definition written out word by word, by hand, and in a whole run."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdslm_eval import Context, Mean, Metric, SelfBleu, Vert
from cdslm_eval.core.store import Outcome
from cdslm_eval.stats.bleu import auto_bleu, self_bleu
from cdslm_eval.stats.jsd import PhoneSequences
from cdslm_eval.stats.sample import gather


def grams(words, n):
    return [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]


def naive_auto_bleu(words, order):
    """Lakhotia et al.: is an n-gram among those of the words left of it, or of the words right of it?"""
    product = 1.0
    for n in range(1, order + 1):
        own = grams(words, n)
        rest = [grams(words[:at], n) + grams(words[at + n :], n) for at in range(len(own))]
        product *= sum(gram in others for gram, others in zip(own, rest, strict=True)) / len(own) if own else 0.0
    return product ** (1 / order) if len(words) > 1 else 0.0


def naive_self_bleu(clips, order):
    """BLEU as Papineni et al. define the clipped precision, against all other clips, without brevity penalty."""
    values = []
    for at, words in enumerate(clips):
        product = 1.0
        for n in range(1, order + 1):
            own = Counter(grams(words, n))
            most = {g: max(Counter(grams(other, n))[g] for k, other in enumerate(clips) if k != at) for g in own}
            product *= sum(min(count, most[g]) for g, count in own.items()) / max(1, sum(own.values()))
        values.append(product ** (1 / order))
    return values


sets = st.lists(st.lists(st.sampled_from("abc"), max_size=7), min_size=2, max_size=6)


@settings(deadline=None, max_examples=60)  # a busy machine is not an error
@given(sets, st.integers(1, 3))
def test_both_are_what_the_definitions_say(clips, order):
    coded = PhoneSequences.from_lists(clips)
    scores = self_bleu(coded.codes.astype(np.int64), coded.offsets, order)
    np.testing.assert_allclose(scores, naive_self_bleu(clips, order), atol=1e-12)
    for words in clips:
        assert auto_bleu(words, order) == pytest.approx(naive_auto_bleu(words, order))


class Words(Metric):
    """Words as they are."""

    name = "vert"
    statistics = {"vert": Vert(), "self_bleu": SelfBleu(), "auto_bleu": Mean("auto_bleu")}  # noqa: RUF012

    def measure(self, clips):
        return iter(())


def estimates(sample):
    """Return the estimates of every statistic of the metric by name."""
    named = {name: statistic.estimate(sample, None, Context(name=name)) for name, statistic in Words.statistics.items()}
    return {name: estimation.estimates[0] for name, estimation in named.items()}


def test_values_by_hand_through_estimates():
    clips = [["a", "b", "a", "b"], ["a", "b", "c"], ["d", "e"]]
    rows = [Outcome("ok", "", {"words": words, "auto_bleu": auto_bleu(words)}) for words in clips]
    by_name = estimates(gather(rows, range(3)))
    # first clip: of a b a b, "a" and "b" occur once in the second, so 2 of 4, and "a b" 1 of 3; second: 2/3, 1/2
    between = (math.sqrt(2 / 4 * 1 / 3) + math.sqrt(2 / 3 * 1 / 2) + 0) / 3
    within = (math.sqrt(4 / 4 * 2 / 3) + 0 + 0) / 3
    assert by_name["self_bleu"].value == pytest.approx(between)
    assert by_name["auto_bleu"].value == pytest.approx(within)
    assert by_name["vert"].value == pytest.approx(math.sqrt(between * within))
    assert by_name["vert"].interval == "95% jackknife"


def test_the_jackknife_interval_covers_what_new_clips_would_give():
    """Over sets drawn from one source, the interval of a set must hold the mean of all sets about 95 times of 100."""
    rng = np.random.default_rng(0)
    values, halves = [], []
    for _ in range(120):
        clips = [[str(word) for word in rng.zipf(1.6, 12) % 60] for _ in range(60)]
        rows = [Outcome("ok", "", {"words": words}) for words in clips]
        estimate = SelfBleu().estimate(gather(rows, range(60)), None, Context(name="self_bleu", seed=1)).estimates[0]
        values.append(estimate.value)
        halves.append((estimate.high - estimate.low) / 2)
    covered = np.mean(np.abs(np.array(values) - np.mean(values)) < halves)
    assert 0.88 < covered <= 1.0
    assert np.median(halves) < 4 * 1.96 * np.std(values)


def test_one_clip_has_no_self_bleu_and_says_so():
    rows = [Outcome("ok", "", {"words": ["a"], "auto_bleu": 0.0})]
    by_name = estimates(gather(rows, [0]))
    assert math.isnan(by_name["vert"].value)
    assert by_name["vert"].reason
