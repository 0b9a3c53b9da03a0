"""Standard normal noise keyed by seed, clip and frame, with the same bits on every device, compiled or not.

Each value is one word of Philox4x32-10, which is integer arithmetic, put through the normal quantile by a table and
linear interpolation in 26-bit fixed point, which is integer arithmetic too. Box-Muller would not do: logarithm and
cosine differ in their last bits between a CPU and a GPU, and compiled products and sums are fused.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from cdslm_model.seeding import key_words

__all__ = ["Noise", "clip_noise", "noise_keys", "philox"]

Words = tuple[Tensor, Tensor, Tensor, Tensor]

_WORD = 0xFFFFFFFF
# the multipliers of Philox less 2^32: products of 32-bit words then stay within signed 64 bits, whose overflow a
# compiler may treat as impossible
_MULTIPLIERS = 0xD2511F53 - (1 << 32), 0xCD9E8D57 - (1 << 32)
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85

_FRACTION_BITS = 26
"""Of the quantile in fixed point: its values are multiples of 2^-26."""
_STEP_BITS = 9
"""Table entries an octave of probability, as a power of 2: interpolation is then off by at most 2.5e-7."""
_MANTISSA_BITS, _EXPONENT_BIAS = 23, 127
_SHARE_BITS = _MANTISSA_BITS - _STEP_BITS
_CPU_BLOCK = 1 << 15
"""Counters in work at once on a CPU: their words stay in its cache."""


def philox(counter: Words, key: tuple[Tensor, Tensor]) -> Words:
    """Return four random words of Philox4x32 with 10 rounds.

    Args:
        counter: Four words, int64 tensors of values in [0, 2^32) that broadcast against each other.
        key: Two words.

    Source:
        Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; the answers of Random123 are its tests.
    """
    first, second, third, fourth = counter
    key_first, key_second = key
    for _ in range(10):
        # word * (M - 2^32) = word * M - word * 2^32: the low halves agree, and the high one lacks the word itself
        left, right = first * _MULTIPLIERS[0], third * _MULTIPLIERS[1]
        high_left, high_right = (left >> 32) + first, (right >> 32) + third
        first, second = high_right ^ second ^ key_first, right & _WORD
        third, fourth = high_left ^ fourth ^ key_second, left & _WORD
        key_first, key_second = (key_first + _KEY_STEPS[0]) & _WORD, (key_second + _KEY_STEPS[1]) & _WORD
    return first, second, third, fourth


class Noise:
    """Noise on one device; a compiled function that holds one takes its tables as inputs.

    Args:
        frames: Most frames, or groups of four bands, that are drawn at once.
        device: Where the values are computed.
    """

    def __init__(self, frames: int, device: torch.device | str = "cpu") -> None:
        self._table = _quantiles().to(device)
        # a tensor, and no range in the function: torch.compile may compute with a range's values in 32 bits
        self._numbers = torch.arange(max(frames, 64), device=device)

    def __call__(self, keys: Tensor, frames: int, mels: int, first: int = 0) -> Tensor:
        """Return noise, float32 `[clips, frames, mels]`, each frame from a counter of its own.

        Args:
            keys: Of the clips, as `noise_keys` returns them, on this device.
            frames: How many, at most as many as the constructor has room for.
            mels: Bands of a frame; the values of a band do not depend on it.
            first: Number of the first frame, under 2^32.
        """
        if max(frames, -(-mels // 4)) > len(self._numbers):
            raise ValueError(f"{frames} frames of {mels} bands from tables for {len(self._numbers)} frames")
        if keys.device.type != "cpu" or torch.compiler.is_compiling():
            return self._drawn(keys, frames, mels, first)
        size = max(1, _CPU_BLOCK // max(1, frames * -(-mels // 4)))
        return torch.cat([self._drawn(piece, frames, mels, first) for piece in torch.split(keys, size)])

    def _drawn(self, keys: Tensor, frames: int, mels: int, first: int) -> Tensor:
        groups, numbers = self._numbers[: -(-mels // 4)], self._numbers[:frames, None] + first
        # the digest of a clip's key is longer than Philox's key: the rest of it is in the counter
        *key, third, fourth = keys[:, :, None, None].unbind(1)
        words = philox((groups, numbers, third, fourth), (key[0], key[1]))
        # after ten rounds every word depends on all of the counter: all four have the whole shape
        values = torch.stack([self.quantile(word) for word in words], -1)
        return values.flatten(2)[:, :, :mels]

    def quantile(self, words: Tensor) -> Tensor:
        """Return the standard normal values of words in [0, 2^32), float32: the lowest bit is the sign."""
        # odd / 2^33 is the probability of the tail, never 0 or above 1/2. Exponent and mantissa of the number as a
        # float32 are an octave and a place in it: conversion is exactly rounded on every device
        bits = (words | 1).float().view(torch.int32)
        place = (bits >> _SHARE_BITS) - (_EXPONENT_BIAS << _STEP_BITS)
        share = bits & ((1 << _SHARE_BITS) - 1)
        low = self._table[place]
        magnitude = low + ((self._table[place + 1] - low) * share >> _SHARE_BITS)
        sign = (1 - 2 * (words & 1)).int()
        # exact: magnitudes are rounded to float32 once, and a power of 2 multiplies
        return (sign * magnitude).float() * 2.0**-_FRACTION_BITS


def noise_keys(seed: int, clips: Sequence[int | str]) -> Tensor:
    """Return the noise keys of clips, int64 `[clips, 4]` of words in [0, 2^32), on the CPU."""
    return torch.tensor([key_words(seed, "noise", clip) for clip in clips], dtype=torch.int64).view(-1, 4)


def clip_noise(
    seed: int,
    clips: Sequence[int | str],
    frames: int,
    mels: int,
    device: torch.device | str = "cpu",
    first: int = 0,
) -> Tensor:
    """Return the noise of clips, float32 `[clips, frames, mels]`.

    Frame f of a clip is the same however many frames are drawn, whatever else is in the batch, and on any device.

    Args:
        seed: Of all clips.
        clips: Number or name of each.
        frames: How many.
        mels: Bands of a frame.
        device: Where the values are computed.
        first: Number of the first frame.
    """
    longest = 1 << max(frames, -(-mels // 4), 1).bit_length()
    return _on(torch.device(device), longest)(noise_keys(seed, clips).to(device), frames, mels, first)


@cache
def _on(device: torch.device, frames: int) -> Noise:
    return Noise(frames, device)


@cache
def _quantiles() -> Tensor:
    """Return the normal quantile at 512 places an octave of the tail, in fixed point, int32 `[16386]`."""
    # one entry beyond probability 1/2, which is read next to it and has share 0
    index = torch.arange((32 << _STEP_BITS) + 2)
    mantissa = 1.0 + (index % (1 << _STEP_BITS)).double() / (1 << _STEP_BITS)
    tail = torch.ldexp(mantissa, (index >> _STEP_BITS).double() - 33.0)
    # rounded far more coarsely than libraries differ: a test checks that no entry is near a tie
    return torch.round(-torch.special.ndtri(tail) * (1 << _FRACTION_BITS)).int()
