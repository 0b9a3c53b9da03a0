"""The estimator against sources whose divergence is known exactly, and against second methods."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from cdslm_eval.builtin.metrics.pjsd import phoneme_jsd
from cdslm_eval.stats.jsd import (
    NgramTable,
    PhoneSequences,
    compare_held_out,
    contributions,
    corrected_difference,
    jsd,
    overlap,
)
from cdslm_eval.stats.jsd.held_out import conditional_probabilities

LETTERS = [str(phone) for phone in range(38)]


def two_groups(mass: float, phones: int, seed: int) -> list[list[str]]:
    """38 phones in two groups of 19, uniform within a group; the first group has `mass`; clips of 100."""
    rng = np.random.default_rng(seed)
    first = rng.random(phones) < mass
    drawn = np.where(first, rng.integers(0, 19, phones), rng.integers(19, 38, phones))
    return [[LETTERS[code] for code in clip] for clip in drawn.reshape(-1, 100)]


def truth(p: float, q: float, n: int) -> float:
    """Return JSD_n of two iid two-group sources: only the number of first-group phones matters."""
    from scipy.stats import binom

    k = np.arange(n + 1)
    return float(jensenshannon(binom.pmf(k, n, p), binom.pmf(k, n, q), base=2) ** 2)


def test_exact_values():
    assert jsd(np.array([3, 1]), np.array([1, 3])) == pytest.approx(0.188722, abs=1e-6)
    apart = phoneme_jsd([["a", "b"]] * 3, [["c", "d"]] * 3, orders=(1, 2))
    assert [apart[n].value for n in (1, 2)] == [1.0, 1.0]
    same = phoneme_jsd([["a", "b", "a"]] * 3, [["a", "b", "a"]] * 3, orders=(1, 2))
    assert [same[n].value for n in (1, 2)] == pytest.approx([0, 0], abs=1e-6)


def test_no_window_crosses_the_end_of_a_clip():
    clips = PhoneSequences.from_lists([["a", "b"], ["c"], ["a", "b", "c"]])
    table = NgramTable(clips, PhoneSequences.from_lists([]), 3)
    grams = {table.ngram(2, kind): count for kind, count in enumerate(table.counts(2, table.lengths))}
    assert grams == {("a", "b"): 2, ("b", "c"): 1}
    assert table.counts(3, table.lengths).sum() == 1


counts = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2, max_size=30).filter(
    lambda pairs: any(a for a, _ in pairs) and any(b for _, b in pairs)
)


@given(counts)
def test_the_plug_in_is_scipys_squared_distance_symmetric_and_bounded(pairs):
    a, b = np.array(pairs).T
    value = jsd(a, b)
    assert value == pytest.approx(jensenshannon(a / a.sum(), b / b.sum(), base=2) ** 2, abs=1e-9)
    assert value == pytest.approx(jsd(b, a), abs=1e-12)
    assert 0 <= value <= 1


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_names_of_phones_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    a, b = ([list(rng.choice(list("abcd"), 12)) for _ in range(12)] for _ in range(2))
    renamed = dict(zip("abcd", rng.permutation(list("wxyz")), strict=True))
    there = phoneme_jsd(a, b, orders=(1, 2))
    here = phoneme_jsd([[renamed[p] for p in c] for c in a], [[renamed[p] for p in c] for c in b], orders=(1, 2))
    for n in (1, 2):
        assert here[n].value == pytest.approx(there[n].value, abs=1e-12)
        assert here[n].held_out == pytest.approx(there[n].held_out, abs=1e-9)


def test_identical_uniform_sources_at_three_thousand_phones():
    several = [phoneme_jsd(two_groups(0.5, 3000, 2 * s), two_groups(0.5, 3000, 2 * s + 1), seed=s) for s in range(12)]
    for result in several:
        assert result[2].value == pytest.approx(0.208, abs=0.02)
        assert abs(result[2].corrected) <= 0.03
        assert result[3].value == pytest.approx(0.948, abs=0.015)
        assert result[3].trust == "bounds_only"
    for n, limit in ((2, 0.003), (3, 0.005)):
        assert sum(abs(result[n].held_out) <= limit for result in several) >= 11
        assert abs(np.mean([result[n].held_out for result in several])) <= limit / 3


def markov(chain, phones: int, seed: int) -> list[list[str]]:
    """Clips of 100 phones from a first-order chain, `chain[i]` the distribution after phone i."""
    rng = np.random.default_rng(seed)
    cumulative = chain.cumsum(axis=1)
    state, generated = rng.integers(0, len(chain), phones // 100), []
    for _ in range(100):
        state = (cumulative[state] < rng.random((len(state), 1))).sum(axis=1).clip(0, len(chain) - 1)
        generated.append(state)
    return [[str(phone) for phone in clip] for clip in np.array(generated).T]


def test_a_larger_reference_does_not_move_corrected():
    a, b = (np.random.default_rng(s).dirichlet(8 / np.arange(1, 40), 39) for s in (1, 2))
    generated = [markov(0.75 * a + 0.25 * b, 12_000, s) for s in range(5)]
    means = [
        np.mean([phoneme_jsd(generated[s], markov(a, size, 100 + s), (3,))[3].corrected for s in range(5)])
        for size in (12_000, 60_000)
    ]
    assert means[0] == pytest.approx(means[1], abs=0.01)


def test_few_long_clips_are_not_corrected_below_zero():
    result = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        a, b = ([rng.choice(list("abcdefghijkl"), length).tolist() for length in (80, 90, 400, 420)] for _ in range(2))
        result.append(phoneme_jsd(a, b, orders=(2,), seed=seed)[2].corrected)
    assert abs(np.mean(result)) < 3 * np.std(result) / np.sqrt(60)


def test_a_set_against_itself_differs_by_nothing():
    clips = two_groups(0.5, 3000, 42)
    for divergence in phoneme_jsd(clips, clips, orders=(1, 3, 5)).values():
        assert (divergence.value, divergence.low, divergence.high) == pytest.approx((0, 0, 0), abs=1e-6)
        assert divergence.held_out == pytest.approx(0, abs=1e-6)


def test_far_sources_at_ten_thousand_phones():
    result = phoneme_jsd(two_groups(0.8, 10_000, 3), two_groups(0.2, 10_000, 4))
    expected = {1: (0.2781, 0.275), 2: (0.4605, 0.454), 3: (0.5938, 0.587), 5: (0.7638, 0.756)}
    for n, (exact, held) in expected.items():
        assert truth(0.8, 0.2, n) == pytest.approx(exact, abs=1e-4)
        assert result[n].held_out == pytest.approx(held, abs=0.04)
        assert result[n].low <= exact <= result[n].high
    assert result[5].value >= 0.99
    assert np.isnan(result[5].corrected)
    assert "0.95" in result[5].reason
    assert result[2].corrected == pytest.approx(0.49, abs=0.03)


@pytest.mark.parametrize(("phones", "plug_in"), [(1000, 0.548), (3000, 0.225), (10_000, 0.070)])
def test_near_sources(phones, plug_in):
    result = phoneme_jsd(two_groups(0.6, phones, 5), two_groups(0.5, phones, 6), orders=(2,))[2]
    assert result.value == pytest.approx(plug_in, abs=0.05)
    assert result.held_out <= truth(0.6, 0.5, 2) + 3 * result.held_out_se
    if phones == 10_000:
        assert result.corrected == pytest.approx(0.016, abs=0.01)


def test_too_little_is_nan_with_a_reason():
    few = phoneme_jsd([["a", "b"]] * 4, [["a", "c"]] * 4, orders=(1, 3))
    assert np.isnan(few[1].held_out)
    assert "10 clips" in few[1].reason
    assert np.isnan(few[3].value)
    assert "no 3-grams" in few[3].reason
    silent = phoneme_jsd([[], []], [["a"]] * 12, orders=(1,))[1]
    assert np.isnan(silent.value)
    assert "no phones" in silent.reason


def test_a_seed_repeats_and_the_cap_is_recorded():
    a, b = two_groups(0.6, 4000, 7), two_groups(0.4, 4000, 8)
    divergence, two = (phoneme_jsd(a, b, orders=(2,), seed=9, max_phones=2000)[2] for _ in range(2))
    assert (divergence.corrected, divergence.held_out, divergence.floor) == (two.corrected, two.held_out, two.floor)
    assert divergence.phones == 2000
    assert divergence.phones_generated == 4000


def witten_bell(sentences, inventory):
    """Interpolated Witten-Bell by dictionaries: a second method."""
    seen = {}
    for sentence in sentences:
        for position in range(len(sentence)):
            for back in range(position + 1):
                context = tuple(sentence[position - back : position])
                seen.setdefault(context, {}).setdefault(sentence[position], 0)
                seen[context][sentence[position]] += 1

    def probability(phone, context):
        lower = 1 / len(inventory) if not context else probability(phone, context[1:])
        after = seen.get(context)
        if after is None:
            return lower
        return (after.get(phone, 0) + len(after) * lower) / (sum(after.values()) + len(after))

    return probability


def test_back_off_equals_a_plain_implementation():
    rng = np.random.default_rng(0)
    a, b = ([list(rng.choice(list("abcde"), 15)) for _ in range(6)] for _ in range(2))
    table = NgramTable(PhoneSequences.from_lists(a), PhoneSequences.from_lists(b), 4)
    sides = [table.counts(n, np.where(table.side, 0, table.lengths)) for n in range(1, 5)]
    vectorised = conditional_probabilities(table, sides)
    plain = witten_bell(a, table.inventory)
    for n in range(1, 5):
        for kind in range(table.orders[n - 1].types):
            *context, phone = table.ngram(n, kind)
            # contexts longer than any that ends inside a clip back off in both
            assert vectorised[n - 1][kind] == pytest.approx(plain(phone, tuple(context)), abs=1e-10)


def test_memorised_reference_is_noticed_and_fresh_speech_is_not():
    reference = two_groups(0.5, 10_000, 10)
    copied = [clip[:50] + clip[50:] for clip in reference[:40]]
    fresh = two_groups(0.5, 4000, 11)
    for generated, expected in ((copied, True), (fresh, False)):
        table = NgramTable(PhoneSequences.from_lists(generated), PhoneSequences.from_lists(reference), 5)
        result = overlap(table, 5)
        assert result is not None
        assert result.suspicious is expected


def test_contributions_name_what_was_planted():
    rng = np.random.default_rng(3)
    real = [list(rng.choice(list("abcdef"), 60)) for _ in range(30)]
    generated = [["x", "y"] * 5 + list(rng.choice(list("abcdef"), 50)) for _ in range(30)]
    table = NgramTable(PhoneSequences.from_lists(generated), PhoneSequences.from_lists(real), 2)
    over, _ = contributions(table, 2)
    assert over[0].ngram == ("x", "y")
    assert over[0].reference == 0
    assert all(0 <= clip < 30 for clip in over[0].clips)
    again = NgramTable(PhoneSequences.from_lists(real[:15]), PhoneSequences.from_lists(real[15:]), 2)
    assert sum(map(len, contributions(again, 2))) <= 1  # identical sources: nothing beyond chance


def test_systems_are_held_out_at_one_count_and_differences_have_the_right_sign():
    reference = two_groups(0.5, 6000, 12)
    near, far = two_groups(0.6, 2500, 13), two_groups(0.9, 4000, 14)
    result, count = compare_held_out({"near": near, "far": far}, reference, (1, 2))
    assert count == 2500
    assert result["far"][2] > result["near"][2] + 0.1
    difference = corrected_difference(far, near, reference, (1,))[1]
    assert difference.low > 0
    assert difference.p_value < 0.01
    assert difference.value == pytest.approx(truth(0.9, 0.5, 1) - truth(0.6, 0.5, 1), abs=0.04)
    assert corrected_difference(near, near, reference, (1,), paired=True)[1].p_value == pytest.approx(1.0)
