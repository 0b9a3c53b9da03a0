"""`babble:ORDER`: speech of a phone n-gram model, whose distance from real speech is known to fall with the order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from cdslm_eval.builtin.generators.espeak import RATE_HZ, open_espeak
from cdslm_eval.builtin.generators.making import PHONES_PER_SECOND, clip_rng, made_clip
from cdslm_eval.builtin.generators.mnemonics import spelled, utterance
from cdslm_eval.builtin.generators.speak import drawn_manner, engine, read_lines
from cdslm_eval.builtin.recognizers.phonemize import SPEECH_EXTRA, phonemize
from cdslm_eval.core.audio import Clip
from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.contract import GeneratorInfo, Options, RangeGenerator, text_file

__all__ = ["BabbleGenerator", "BabbleOptions", "PhoneModel"]

_END = ""


class BabbleOptions(Options):
    """Options of `babble`.

    Attributes:
        order: n of the n-gram model, 0..4: 0 draws every phone equally often, 1 by frequency, 2 given the one before.
        text: English text to learn from, one utterance a line; without it the phones of the prompts are used.
    """

    order: int = Field(2, ge=0, le=4)
    text: str | None = text_file(None)


class BabbleGenerator(RangeGenerator):
    """Phones drawn from an n-gram model and spoken by espeak-ng; the clips carry the phones that were drawn."""

    name = "babble"
    version = "1"
    requires: ClassVar[Mapping[str, str]] = {"phonemizer": SPEECH_EXTRA, "espeakng_loader": SPEECH_EXTRA}
    positional = "order"
    prompts = frozenset({"phones"})
    Options = BabbleOptions

    def __init__(self, options: BabbleOptions | None = None) -> None:
        super().__init__(options)
        if self.options.text is not None:
            # With a text of its own it needs no prompts; the host reads this from the instance.
            self.prompts = frozenset()  # type: ignore[misc]  # narrows the class's value for this instance

    def info(self) -> GeneratorInfo:
        """Return rate, engine, and what the model is."""
        model = f"{self.options.order}-gram of phones, unsmoothed, shorter contexts where one was never seen"
        return GeneratorInfo(rate_hz=RATE_HZ, conventions={"engine": engine(), "model": model})

    def clip_range(self, prompts: Sequence[Clip], numbers: range, seconds: float, seed: int) -> Iterator[Clip]:
        """Yield babble of about the wanted duration."""
        model = PhoneModel(self._sentences(prompts), self.options.order)
        with open_espeak() as espeak:
            for index in numbers:
                rng = clip_rng(seed, index)
                variant, rate, pitch = drawn_manner(rng)
                sentences = model.draw(max(1, round(seconds * rate * PHONES_PER_SECOND)), rng)
                spoken = " ".join(utterance(sentence, rng) for sentence in sentences)
                samples = espeak.synthesize(spoken, voice=f"en-us+{variant}", rate=rate, pitch=pitch, phonemes=True)
                phones = tuple(phone for sentence in sentences for phone in sentence)
                yield made_clip(f"{index:05d}", samples, RATE_HZ, speaker=variant, phones=phones)

    def _sentences(self, prompts: Sequence[Clip]) -> list[list[str]]:
        """Return the phone sequences to learn from, without phones that the voice does not have."""
        if self.options.text is not None:
            recognized: list[Sequence[str]] = list(phonemize(read_lines(self.options.text, "babble")))
        else:
            recognized = [clip.phones for clip in prompts if clip.phones]
        if not recognized:
            raise UsageError("babble learns from phones; Use: prompts that have phones, or text=FILE")
        spoken = [[phone for phone in phones if spelled(phone) is not None] for phones in recognized]
        total, known = sum(map(len, recognized)), sum(map(len, spoken))
        if known < 0.9 * total or not known:
            unknown = sorted({phone for phones in recognized for phone in phones if spelled(phone) is None})
            raise UsageError(
                f"babble speaks English phones (ARPAbet or IPA), and {total - known} of {total} phones are not: "
                f"{' '.join(unknown[:8])}"
            )
        return [phones for phones in spoken if phones]


class PhoneModel:
    """An n-gram model by relative frequency; where a context was never seen, a shorter one is used.

    Unsmoothed on purpose: the n-grams up to the model's length then are distributed as in what it learned from.

    Args:
        sentences: Phone sequences.
        order: n of the model; 0 draws every phone equally often.
    """

    def __init__(self, sentences: Sequence[Sequence[str]], order: int) -> None:
        self._context = context = max(0, order - 1)
        counts: dict[tuple[str, ...], dict[str, int]] = {}
        for sentence in sentences:
            padded = [_END] * context + [*sentence, _END]
            for position in range(context, len(padded)):
                for length in range(context + 1):
                    after = counts.setdefault(tuple(padded[position - length : position]), {})
                    after[padded[position]] = after.get(padded[position], 0) + 1
        if order == 0:
            alone = counts[()]
            phones = sum(count for phone, count in alone.items() if phone != _END)
            counts[()] = {phone: alone[_END] * (len(alone) - 1) if phone == _END else phones for phone in alone}
        self._choices = {
            context: (list(after), np.cumsum(np.fromiter(after.values(), float))) for context, after in counts.items()
        }

    def draw(self, count: int, rng: np.random.Generator) -> list[list[str]]:
        """Return sentences of `count` phones in all; the last one may be cut short."""
        sentences: list[list[str]] = [[]]
        history = [_END] * self._context
        drawn = 0
        while drawn < count:
            phone = self._next(history, rng)
            if phone == _END:
                # An empty sentence would be a pause and nothing else, which only orders 0 and 1 can draw.
                if sentences[-1]:
                    sentences.append([])
                    history = [_END] * self._context
                continue
            sentences[-1].append(phone)
            history.append(phone)
            drawn += 1
        return [sentence for sentence in sentences if sentence]

    def _next(self, history: Sequence[str], rng: np.random.Generator) -> str:
        for length in range(self._context, -1, -1):
            choices = self._choices.get(tuple(history[len(history) - length :]))
            if choices is not None:
                phones, cumulated = choices
                return phones[int(np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right"))]
        raise AssertionError("the empty context is always known")
