"""`PartialGenerator`: the optional door of a generator whose long clips are written while they are generated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cdslm_eval.core.audio import Clip

__all__ = ["ClipPart", "PartialGenerator"]


@dataclass(frozen=True, slots=True)
class ClipPart:
    """The next samples of a clip.

    Attributes:
        number: Number of the clip.
        clip: The clip with these samples alone; all parts of a clip have its key and its rate.
        last: Whether the clip ends with them.
    """

    number: int
    clip: Clip
    last: bool


class PartialGenerator(ABC):
    """A generator that yields clips in parts as well derives from this class next to `Generator`."""

    @abstractmethod
    def clip_parts(self, prompts: Sequence[Clip], numbers: range, seconds: float, seed: int) -> Iterator[ClipPart]:
        """Yield the samples of `clip_range` in parts, those of one clip in order; clips may take turns.

        Args:
            prompts: As for `Generator.clip_range`.
            numbers: As for `Generator.clip_range`.
            seconds: As for `Generator.clip_range`.
            seed: As for `Generator.clip_range`.
        """
