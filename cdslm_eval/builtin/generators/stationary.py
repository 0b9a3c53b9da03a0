"""Noise with the spectrum of each prompt: a control that knows the sound of a context, and no speech."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cdslm_eval.builtin.generators.making import clip_rng, made_clip, prompt_at, prompt_key
from cdslm_eval.core.audio import Clip
from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.contract import GeneratorInfo, Options, RangeGenerator
from cdslm_eval.plugin.scorer import Score, Scorer

__all__ = ["StationaryGenerator", "StationaryOptions", "fitted_filter"]

Floats = npt.NDArray[np.float64]
_LEAST_POWER = 1e-12


class StationaryOptions(Options):
    """Options of `stationary`.

    Attributes:
        order: Past samples that predict the next one, 1..200.
    """

    order: int = Field(16, ge=1, le=200)


class StationaryGenerator(RangeGenerator, Scorer):
    """Continues each prompt with Gaussian noise of its spectrum and level; scores speech as such noise, exactly.

    What it prefers is decided by spectrum and level alone: pairs on which a model does no better test nothing else.
    """

    name = "stationary"
    version = "1"
    prompts = frozenset({"audio"})
    positional = "order"
    Options = StationaryOptions

    def info(self) -> GeneratorInfo:
        """Return nothing known: the rate is each prompt's own."""
        return GeneratorInfo()

    def clip_range(self, prompts: Sequence[Clip], numbers: range, seconds: float, seed: int) -> Iterator[Clip]:
        """Yield noise of the wanted duration that continues the prompts."""
        from scipy.signal import lfilter, lfiltic

        for index in numbers:
            prompt = prompt_at(prompts, index, self.name)
            past = prompt.samples.astype(np.float64)
            weights, power = self._filter(past, prompt.key)
            recursion = np.concatenate([[1.0], -weights])
            noise = clip_rng(seed, index).standard_normal(round(seconds * prompt.rate_hz)) * math.sqrt(power)
            state = lfiltic([1.0], recursion, past[: -len(weights) - 1 : -1])
            samples = lfilter([1.0], recursion, noise, zi=state)[0].clip(-1, 1)
            yield made_clip(prompt_key(prompt, prompts, index), samples, prompt.rate_hz, speaker=prompt.speaker)

    def scores(self, clips: Sequence[Clip], *, context_s: float = 0.0, seed: int = 0) -> Iterator[Score]:
        """Yield the log-density of the samples after each context, in nats, as noise of the context's spectrum."""
        del seed  # nothing is random
        for clip in clips:
            border = round(context_s * clip.rate_hz)
            samples = clip.samples.astype(np.float64)
            if len(samples) <= border:
                raise UsageError(f"{clip.key}: no sample after its context of {context_s:g} s; use longer clips")
            weights, power = self._filter(samples[:border], clip.key)
            past = np.lib.stride_tricks.sliding_window_view(samples[border - len(weights) : -1], len(weights))
            errors = samples[border:] - past @ weights[::-1]
            total = -0.5 * (len(errors) * math.log(2 * math.pi * power) + float(errors @ errors) / power)
            yield Score(
                total=total,
                per_second=total / (clip.seconds - context_s),
                frames=len(errors),
                std_error=0.0,
                kind="nats",
            )

    def _filter(self, past: Floats, key: str) -> tuple[Floats, float]:
        order = self.options.order
        if len(past) < 10 * order:
            raise UsageError(
                f"{key}: stationary needs a context of {10 * order} samples, and it has {len(past)}; use longer "
                "prompts, or pairs with a longer prefix"
            )
        return fitted_filter(past, order)


def fitted_filter(samples: Floats, order: int) -> tuple[Floats, float]:
    """Return the weights of the past samples, the last one first, `[order]`, and the power of what they leave.

    By the autocorrelation method, whose filter is stable.

    Source:
        Makhoul (1975), "Linear Prediction: A Tutorial Review", section II.B.
    """
    from scipy.linalg import solve_toeplitz

    lags = np.array([float(samples[: len(samples) - lag] @ samples[lag:]) for lag in range(order + 1)]) / len(samples)
    lags[0] = lags[0] * (1 + 1e-9) + _LEAST_POWER
    weights: Floats = solve_toeplitz(lags[:-1], lags[1:])
    return weights, max(float(lags[0] - weights @ lags[1:]), _LEAST_POWER)
