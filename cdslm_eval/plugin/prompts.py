"""Prompts of which a generator needs a part only: an hour of speech is not decoded for its last seconds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from cdslm_eval.core.audio import Clip

__all__ = ["PartialPrompts", "prompt_part"]


class PartialPrompts(Sequence[Clip]):
    """Prompts that are decoded when they are indexed, whole or in part."""

    @abstractmethod
    def part(self, index: int, seconds: float, *, from_end: bool) -> Clip:
        """Return at least the last or the first seconds of a prompt, or all of it; see `prompt_part`."""


def prompt_part(prompts: Sequence[Clip], index: int, seconds: float, *, from_end: bool) -> Clip:
    """Return a prompt that need not have more than its last or its first seconds.

    Args:
        prompts: Of a generator.
        index: Of the prompt.
        seconds: What the generator reads of it.
        from_end: Whether that is its end, else its beginning. What begins within the prompt begins at a whole second.
    """
    if isinstance(prompts, PartialPrompts):
        return prompts.part(index, seconds, from_end=from_end)
    return prompts[index]
