"""`grammar:ORDER`: unlimited speech of a made-up language whose n-gram law, entropy and divergences are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cdslm_eval.builtin.generators.espeak import RATE_HZ, open_espeak
from cdslm_eval.builtin.generators.making import PHONES_PER_SECOND, clip_rng, made_clip
from cdslm_eval.builtin.generators.mnemonics import utterance
from cdslm_eval.builtin.generators.speak import drawn_manner, engine
from cdslm_eval.builtin.recognizers.inventory import ARPABET
from cdslm_eval.builtin.recognizers.phonemize import SPEECH_EXTRA
from cdslm_eval.core.audio import Clip, Samples
from cdslm_eval.plugin.contract import GeneratorInfo, Options, RangeGenerator

__all__ = ["GrammarGenerator", "GrammarOptions", "PhoneGrammar"]

_PHONES = tuple(sorted(ARPABET))
_UNIFORM = 0.05
"""Share of transitions that lead to any phone: it makes the stationary law unique, whatever the language."""
_SENTENCE = 30
"""Phones between two pauses."""

Floats = npt.NDArray[np.float64]


class GrammarOptions(Options):
    """Options of `grammar`.

    Attributes:
        order: n: each phone depends on the n - 1 before it, 1..3.
        branching: Phones that usually follow a context, 1..39: with fewer, more can be predicted.
        language: Number of the language; two numbers are two languages.
        known: What the speaker knows of it: "all", or the law of "1" or "2" phones only, to have a speaker whose
            divergence from the language is known.
        snr_db: Signal-to-noise ratio of white noise that is added, in dB; without it there is none.
    """

    order: int = Field(2, ge=1, le=3)
    branching: int = Field(6, ge=1, le=39)
    language: int = Field(0, ge=0)
    known: Literal["all", "1", "2"] = "all"
    snr_db: float | None = Field(None, ge=-20.0, le=100.0)


class GrammarGenerator(RangeGenerator):
    """Phones drawn from a stationary n-gram law and spoken by espeak-ng; the clips carry the phones that were drawn."""

    name = "grammar"
    version = "1"
    requires: ClassVar[Mapping[str, str]] = {"phonemizer": SPEECH_EXTRA, "espeakng_loader": SPEECH_EXTRA}
    positional = "order"
    Options = GrammarOptions

    def info(self) -> GeneratorInfo:
        """Return rate, engine, the entropy of the language, and the divergence of speakers that know less of it."""
        grammar, options = self._grammar(), self.options
        facts = {
            "engine": engine(),
            "language": f"{options.order}-grams of {len(_PHONES)} phones, {grammar.entropy_bits():.4f} bits a phone",
        }
        for known in range(1, options.order):
            values = [grammar.divergence(n, known) for n in (1, 2, 3)]
            shown = ", ".join(f"n = {n}: {value:.4f}" for n, value in enumerate(values, 1))
            facts[f"pJSD of a speaker that knows {known}-grams"] = shown
        return GeneratorInfo(rate_hz=RATE_HZ, conventions=facts)

    def clip_range(self, prompts: Sequence[Clip], numbers: range, seconds: float, seed: int) -> Iterator[Clip]:
        """Yield speech of about the wanted duration; what a clip says depends on seed and number alone."""
        del prompts
        grammar = self._grammar()
        if self.options.known != "all":
            grammar = grammar.reduced(int(self.options.known))
        with open_espeak() as espeak:
            for index in numbers:
                rng = clip_rng(seed, index)
                variant, rate, pitch = drawn_manner(rng)
                phones = grammar.draw(max(1, round(seconds * rate * PHONES_PER_SECOND)), rng)
                sentences = [phones[start : start + _SENTENCE] for start in range(0, len(phones), _SENTENCE)]
                spoken = " ".join(utterance(sentence, rng) for sentence in sentences)
                samples = espeak.synthesize(spoken, voice=f"en-us+{variant}", rate=rate, pitch=pitch, phonemes=True)
                yield made_clip(
                    f"{index:05d}", self._noisy(samples, rng), RATE_HZ, speaker=variant, phones=tuple(phones)
                )

    def _grammar(self) -> PhoneGrammar:
        options = self.options
        return PhoneGrammar.of_language(options.language, options.order, options.branching)

    def _noisy(self, samples: Samples, rng: np.random.Generator) -> Samples:
        if self.options.snr_db is None:
            return samples
        power = float(np.mean(np.square(samples, dtype=np.float64)))
        noise = rng.standard_normal(len(samples)) * np.sqrt(power / 10 ** (self.options.snr_db / 10))
        noisy: Samples = (samples + noise).astype(np.float32)
        return noisy


class PhoneGrammar:
    """A stationary Markov chain over the 39 ARPAbet phones.

    Args:
        transitions: Probability of each phone after each context of n - 1 phones, shape [39] * n; every one above 0.
    """

    def __init__(self, transitions: Floats) -> None:
        self.order = transitions.ndim
        self._transitions = transitions
        self._contexts = self._stationary()
        self._steps = np.cumsum(transitions, axis=-1)
        self._starts = np.cumsum(self._contexts.ravel())

    @classmethod
    def of_language(cls, language: int, order: int, branching: int) -> PhoneGrammar:
        """Return the grammar of a numbered language.

        Args:
            language: Its number.
            order: n of its law.
            branching: Phones that usually follow a context, with random probabilities.
        """
        size = len(_PHONES)
        rng = np.random.default_rng(np.random.SeedSequence([language, order, branching]))
        contexts = size ** (order - 1)
        followers = np.argsort(rng.random((contexts, size)), axis=1)[:, :branching]
        usual = np.zeros((contexts, size))
        np.put_along_axis(usual, followers, rng.dirichlet(np.ones(branching), contexts), axis=1)
        return cls(((1 - _UNIFORM) * usual + _UNIFORM / size).reshape([size] * order))

    def law(self, n: int) -> Floats:
        """Return the probability of each n-gram, shape [39] * n, n >= 1."""
        law = self._contexts[..., None] * self._transitions
        while law.ndim > n:
            law = law.sum(axis=0)
        return self._extended(law, n)

    def entropy_bits(self) -> float:
        """Return the entropy rate in bits per phone."""
        surprise = -(self._transitions * np.log2(self._transitions)).sum(axis=-1)
        return float((self._contexts * surprise).sum())

    def reduced(self, order: int) -> PhoneGrammar:
        """Return the chain that has this one's n-gram law up to an order and knows nothing beyond."""
        if order >= self.order:
            return self
        law = self.law(order)
        return PhoneGrammar(law / law.sum(axis=-1, keepdims=True))

    def divergence(self, n: int, known: int) -> float:
        """Return the Jensen-Shannon divergence of n-grams, in bits, from the speaker that knows shorter ones only.

        Args:
            n: Of the n-grams that are compared.
            known: Longest n-grams whose law the speaker knows.
        """
        ours, theirs = self.law(n).ravel(), self.reduced(known).law(n).ravel()
        mixture = (ours + theirs) / 2
        bits = sum(float((law * np.log2(law / mixture)).sum()) for law in (ours, theirs)) / 2
        # rounding may leave that of one law with itself just below 0
        return max(0.0, bits)

    def draw(self, count: int, rng: np.random.Generator) -> list[str]:
        """Return `count` phones; the first ones follow the stationary law, as all others do."""
        shape = self._contexts.shape
        first = int(np.searchsorted(self._starts, rng.random() * self._starts[-1], side="right"))
        drawn = [int(phone) for phone in np.unravel_index(first, shape)] if shape else []
        for _ in range(count - len(drawn)):
            row = self._steps[tuple(drawn[len(drawn) - self.order + 1 :])]
            drawn.append(min(int(np.searchsorted(row, rng.random() * row[-1], side="right")), len(_PHONES) - 1))
        return [_PHONES[phone] for phone in drawn[:count]]

    def _stationary(self) -> Floats:
        """Return the probability of each context of n - 1 phones, by iteration from the uniform one."""
        law = np.full([len(_PHONES)] * (self.order - 1), 1.0 / len(_PHONES) ** (self.order - 1))
        if self.order == 1:
            return law
        while True:
            following: Floats = (law[..., None] * self._transitions).sum(axis=0)
            following /= following.sum()
            if np.abs(following - law).sum() < 1e-13:
                return following
            law = following

    def _extended(self, law: Floats, n: int) -> Floats:
        """Return the law of n-grams from that of shorter ones."""
        while law.ndim < n:
            # the last n - 1 axes of the law are the context
            law = law[..., None] * self._transitions
        return law
