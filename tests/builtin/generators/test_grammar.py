"""The law of a made-up language is the one that its clips follow, and its entropy and divergences are the true ones."""

from __future__ import annotations

import numpy as np
import pytest

from cdslm_eval.builtin.generators.grammar import GrammarGenerator, GrammarOptions, PhoneGrammar
from cdslm_eval.builtin.recognizers.inventory import ARPABET
from cdslm_eval.stats.jsd import phoneme_jsd


@pytest.fixture(scope="module", params=[1, 2, 3], ids=lambda order: f"order{order}")
def grammar(request):
    return PhoneGrammar.of_language(3, request.param, 5)


def counted(phones, n):
    index = {phone: number for number, phone in enumerate(sorted(ARPABET))}
    numbers = np.array([index[phone] for phone in phones])
    grams = np.stack([numbers[start : len(numbers) - n + 1 + start] for start in range(n)])
    counts = np.zeros([39] * n)
    np.add.at(counts, tuple(grams), 1)
    return counts / grams.shape[1]


def test_laws_of_all_lengths_agree_with_each_other(grammar):
    for n in (1, 2, 3):
        law, longer = grammar.law(n), grammar.law(n + 1)
        assert law.sum() == pytest.approx(1, abs=1e-12)
        # stationary: whichever phone is left out, the first or the last, the rest has the same law
        assert np.abs(longer.sum(axis=-1) - law).max() < 1e-12
        assert np.abs(longer.sum(axis=0) - law).max() < 1e-12


def test_draws_follow_the_law_and_their_surprise_is_the_entropy(grammar):
    phones = grammar.draw(60_000, np.random.default_rng(0))
    for n in (1, 2):
        # the total variation of a multinomial sample of this size, from the law's own deviations
        expected = np.sqrt(grammar.law(n) / len(phones) * 2 / np.pi).sum() / 2
        assert np.abs(counted(phones, n) - grammar.law(n)).sum() / 2 < 1.6 * expected
    n = grammar.order
    law = grammar.law(n)
    conditional = law / law.sum(axis=-1, keepdims=True)
    surprise = -(counted(phones, n) * np.log2(conditional)).sum()
    assert surprise == pytest.approx(grammar.entropy_bits(), abs=0.03)


def test_each_draw_starts_in_the_stationary_law(grammar):
    rng = np.random.default_rng(1)
    first = counted([grammar.draw(1, rng)[0] for _ in range(8000)], 1)
    assert np.abs(first - grammar.law(1)).sum() / 2 < 1.6 * np.sqrt(grammar.law(1) / 8000 * 2 / np.pi).sum() / 2


def test_a_speaker_that_knows_less_keeps_what_it_knows_and_loses_the_rest():
    grammar = PhoneGrammar.of_language(0, 3, 6)
    for known in (1, 2):
        assert grammar.divergence(known, known) == pytest.approx(0, abs=1e-12)
        assert grammar.divergence(known + 1, known) > 0.04
        assert grammar.reduced(known).entropy_bits() > grammar.entropy_bits()
    assert grammar.reduced(3) is grammar


def test_the_corrected_divergence_of_draws_is_the_one_of_the_laws():
    """200 clips of 100 phones a side: the statistic finds what the laws give, of an equal and of a worse speaker."""
    grammar = PhoneGrammar.of_language(0, 2, 6)
    rng = np.random.default_rng(0)
    real, as_good = ([grammar.draw(100, rng) for _ in range(200)] for _ in range(2))
    worse = [grammar.reduced(1).draw(100, rng) for _ in range(200)]
    for n, corrected in phoneme_jsd(as_good, real, (1, 2)).items():
        assert corrected.corrected_low < 0.002, n
        assert abs(corrected.corrected) < 0.004
    found = phoneme_jsd(worse, real, (1, 2))
    assert abs(found[1].corrected) < 0.002
    assert found[2].corrected == pytest.approx(grammar.divergence(2, 1), rel=0.05)


def test_clips_carry_their_phones_and_do_not_depend_on_how_many_are_made():
    generator = GrammarGenerator(GrammarOptions(order=2, snr_db=20.0))
    clips = list(generator.clips([], 3, 3.0, 5))
    assert [clip.digest for clip in generator.clips([], 2, 3.0, 5)] == [clip.digest for clip in clips[:2]]
    assert all(clip.seconds == pytest.approx(3.0, rel=0.4) for clip in clips)
    assert len({clip.phones for clip in clips}) == 3
    plain, noisy = (
        next(iter(GrammarGenerator(GrammarOptions(order=2, snr_db=snr)).clips([], 1, 3.0, 5))) for snr in (None, 20.0)
    )
    assert plain.phones == noisy.phones
    noise = noisy.samples - plain.samples
    assert 10 * np.log10(np.mean(plain.samples**2) / np.mean(noise**2)) == pytest.approx(20.0, abs=0.1)


def test_the_truth_is_stated_with_the_generator():
    facts = GrammarGenerator(GrammarOptions(order=2)).info().conventions
    grammar = PhoneGrammar.of_language(0, 2, 6)
    assert f"{grammar.entropy_bits():.4f} bits a phone" in facts["language"]
    assert f"n = 2: {grammar.divergence(2, 1):.4f}" in facts["pJSD of a speaker that knows 1-grams"]
