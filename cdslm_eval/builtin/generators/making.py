"""What every generator does alike: seeds per clip, clips with their digest, and asking for prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cdslm_eval.core.audio import Clip, Samples, content_digest
from cdslm_eval.core.errors import UsageError

__all__ = ["PHONES_PER_SECOND", "clip_rng", "made_clip", "prompt_at", "prompt_key"]

PHONES_PER_SECOND = 12.0 / 160.0
"""Phones that espeak-ng speaks in a second, per word a minute of its rate (measured: 11 to 13 at 160)."""


def clip_rng(seed: int, index: int) -> np.random.Generator:
    """Return the random source of clip `index`, independent of how many clips are requested."""
    return np.random.default_rng(np.random.SeedSequence([seed, index]))


def made_clip(
    key: str,
    samples: Samples,
    rate_hz: int,
    *,
    text: str | None = None,
    speaker: str | None = None,
    phones: tuple[str, ...] | None = None,
) -> Clip:
    """Return a clip with the digest of its samples."""
    samples = np.ascontiguousarray(samples, np.float32)
    return Clip(
        key=key,
        samples=samples,
        rate_hz=rate_hz,
        digest=content_digest(samples, rate_hz),
        text=text,
        speaker=speaker,
        phones=phones,
    )


def prompt_at(prompts: Sequence[Clip], index: int, generator: str) -> Clip:
    """Return prompt `index`, starting over at the end.

    Raises:
        UsageError: There is no prompt at all.
    """
    if not len(prompts):
        raise UsageError(f"{generator} works on real clips and was given none; name a set of them as prompts")
    return prompts[index % len(prompts)]


def prompt_key(prompt: Clip, prompts: Sequence[Clip], index: int) -> str:
    """Return the prompt's own key, so that both can be compared in pairs; rounds after the first get a number."""
    turn = index // len(prompts)
    return prompt.key if turn == 0 else f"{prompt.key}-{turn}"
