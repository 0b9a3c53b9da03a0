"""Controls with a known answer: silence, noise, real clips reversed, shuffled or drawn again."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
from pydantic import Field

from cdslm_eval.builtin.generators.making import clip_rng, made_clip, prompt_at, prompt_key
from cdslm_eval.core.audio import Clip, Samples
from cdslm_eval.plugin.contract import GeneratorInfo, Options, RangeGenerator

__all__ = [
    "NoiseGenerator",
    "ResampleGenerator",
    "ReversedGenerator",
    "ShuffledGenerator",
    "ShuffledOptions",
    "SilenceGenerator",
    "SilenceOptions",
    "shuffled",
]


class SilenceOptions(Options):
    """Options of `silence`.

    Attributes:
        rate_hz: Rate of the clips.
    """

    rate_hz: int = Field(16_000, ge=1_000, le=768_000)


class SilenceGenerator(RangeGenerator):
    """Digital silence."""

    name = "silence"
    version = "1"
    Options = SilenceOptions

    def info(self) -> GeneratorInfo:
        """Return the rate; nothing was trained."""
        return GeneratorInfo(rate_hz=self.options.rate_hz)

    def clip_range(self, prompts: Sequence[Clip], numbers: range, seconds: float, seed: int) -> Iterator[Clip]:
        """Yield zeros of the wanted duration."""
        del prompts, seed
        zeros = np.zeros(round(seconds * self.options.rate_hz), np.float32)
        for index in numbers:
            yield made_clip(f"{index:05d}", zeros, self.options.rate_hz)


class _Altered(RangeGenerator):
    """One clip per prompt, of the prompt's duration, rate and key; prompts start over when there are too few."""

    prompts = frozenset({"audio"})

    def info(self) -> GeneratorInfo:
        """Return nothing known: the rate is each prompt's own."""
        return GeneratorInfo()

    def clip_range(self, prompts: Sequence[Clip], numbers: range, seconds: float, seed: int) -> Iterator[Clip]:
        """Yield altered prompts; duration is each prompt's own."""
        del seconds
        for index in numbers:
            prompt = prompt_at(prompts, index, self.name)
            samples = self.alter(prompt, clip_rng(seed, index))
            yield made_clip(prompt_key(prompt, prompts, index), samples, prompt.rate_hz, speaker=prompt.speaker)

    @abstractmethod
    def alter(self, prompt: Clip, rng: np.random.Generator) -> Samples:
        """Return what is made of one prompt, float32 `[samples]`."""


class NoiseGenerator(_Altered):
    """White noise at the level and of the duration of each real clip."""

    name = "noise"
    version = "1"

    def alter(self, prompt: Clip, rng: np.random.Generator) -> Samples:
        """Return Gaussian noise with the prompt's RMS."""
        noise = rng.standard_normal(len(prompt.samples))
        power = np.mean(np.square(prompt.samples, dtype=np.float64)) if len(noise) else 0.0
        # Divided by its own level rather than the expected one: the match is exact for short clips too.
        scale = np.sqrt(power / max(float(np.mean(noise**2)), 1e-12)) if len(noise) else 0.0
        return (noise * scale).astype(np.float32)


class ReversedGenerator(_Altered):
    """Each real clip played backwards: the spectrum of speech without its phonotactics."""

    name = "reversed"
    version = "1"

    def alter(self, prompt: Clip, rng: np.random.Generator) -> Samples:
        """Return the samples from last to first."""
        del rng
        return prompt.samples[::-1]


class ShuffledOptions(Options):
    """Options of `shuffled`.

    Attributes:
        segment_ms: Length of the pieces, 10..5000 ms.
        fade_ms: Cross-fade between them, 0..segment_ms.
    """

    segment_ms: float = Field(100.0, ge=10.0, le=5000.0)
    fade_ms: float = Field(5.0, ge=0.0, le=5000.0)


class ShuffledGenerator(_Altered):
    """The pieces of each real clip in random order: its sounds, without their order."""

    name = "shuffled"
    version = "1"
    Options = ShuffledOptions

    def alter(self, prompt: Clip, rng: np.random.Generator) -> Samples:
        """Return the permuted pieces, joined by cross-fades."""
        segment = max(1, round(self.options.segment_ms * prompt.rate_hz / 1000))
        fade = min(segment, round(self.options.fade_ms * prompt.rate_hz / 1000))
        return shuffled(prompt.samples, segment, fade, rng)


class ResampleGenerator(RangeGenerator):
    """Real clips drawn with replacement: a system that is the reference itself, so its distance is the floor."""

    name = "resample"
    version = "1"
    prompts = frozenset({"audio"})

    def info(self) -> GeneratorInfo:
        """Return nothing known: the rate is each prompt's own."""
        return GeneratorInfo()

    def clip_range(self, prompts: Sequence[Clip], numbers: range, seconds: float, seed: int) -> Iterator[Clip]:
        """Yield prompts as they are, under new keys, since one may be drawn twice."""
        del seconds
        for index in numbers:
            drawn = int(clip_rng(seed, index).integers(max(1, len(prompts))))
            yield dataclasses.replace(prompt_at(prompts, drawn, self.name), key=f"{index:05d}", reference=None)


def shuffled(samples: Samples, segment: int, fade: int, rng: np.random.Generator) -> Samples:
    """Return pieces of `samples` in random order, each faded over its neighbours.

    Args:
        samples: float32 `[samples]`.
        segment: Samples per piece.
        fade: Samples of each cross-fade, at most `segment`; amplitudes add up to one.
        rng: Gives the order.

    Returns:
        float32 `[samples]`, as long as what came in.
    """
    pieces = len(samples) // segment
    if pieces < 2:
        return samples
    order = rng.permutation(pieces)
    # Each piece is read with `fade` samples beyond its end, which lie under the beginning of the next.
    padded = np.concatenate([samples, np.zeros(fade, np.float32)])
    window = np.ones(segment + fade, np.float32)
    if fade:
        window[:fade] = (np.arange(fade) + 0.5) / fade
        window[segment:] = window[:fade][::-1]
    out = np.zeros(len(samples) + fade, np.float32)
    for position, piece in enumerate(order):
        faded = padded[piece * segment : (piece + 1) * segment + fade] * window
        out[position * segment : (position + 1) * segment + fade] += faded
    rest = samples[pieces * segment :].copy()
    rest[:fade] *= window[: min(fade, len(rest))]
    out[pieces * segment : len(samples)] += rest
    return out[: len(samples)]
