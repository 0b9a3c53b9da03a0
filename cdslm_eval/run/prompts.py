"""Prompts as generators read them: decoded when indexed, in part where they are long, with phones where needed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from cdslm_eval.core.admission import Levels, fault
from cdslm_eval.core.audio import Clip
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import EvalError
from cdslm_eval.core.sources import Source, decode
from cdslm_eval.core.spans import Span
from cdslm_eval.core.windows import header_seconds
from cdslm_eval.plugin.prompts import PartialPrompts

__all__ = ["Prompts"]

_SHORT_S = 60.0
"""Prompts that are at most this much longer than what is read of them are decoded whole."""
_MARGIN_S = 1.0
"""Read beyond what is needed, for the filters of a resampler."""


class Prompts(PartialPrompts):
    """Prompts that are decoded when they are indexed.

    Args:
        clips: The set; None where the generator needs no prompts.
        phones: Phones that were recognized for each prompt; None where none are needed.
    """

    def __init__(self, clips: ClipSet | None, phones: Sequence[tuple[str, ...]] | None) -> None:
        self._clips, self._phones = clips, phones

    def __len__(self) -> int:
        return len(self._clips) if self._clips is not None else 0

    def __getitem__(self, index: Any) -> Any:
        if self._clips is None:
            raise IndexError(index)
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        clip = self._checked(self._clips[index])
        return clip if self._phones is None else dataclasses.replace(clip, phones=self._phones[index])

    def part(self, index: int, seconds: float, *, from_end: bool) -> Clip:
        """Return at least the last or the first seconds of a prompt; all of one that is not much longer."""
        source = None if self._clips is None or self._phones is not None else self._clips.sources[index]
        span = None if source is None else _span(source, seconds, from_end)
        if source is None or span is None:
            clip: Clip = self[index]
            return clip
        # neither words nor phones are those of the part
        return self._checked(decode(source._replace(span=span, text=None, phones=None)))

    def _checked(self, clip: Clip) -> Clip:
        if reason := fault(Levels.of(clip.samples).peak):
            assert self._clips is not None
            raise EvalError(f"{self._clips.name}, prompt {clip.key!r}: {reason}")
        return clip


def _span(source: Source, seconds: float, from_end: bool) -> Span | None:
    """Return the part of a recording to decode; None for all of it."""
    # what is decoded or packed lies in memory as a whole, and a derivation is made of whole clips
    if source.decoded is not None or source.packed is not None or source.derivation is not None:
        return None
    whole_s = header_seconds(source)
    if not math.isfinite(whole_s) or whole_s <= seconds + _SHORT_S:
        return None
    first_s = source.span.start_s if source.span else 0.0
    if not from_end:
        return Span.between(first_s, first_s + seconds + _MARGIN_S)
    # whole seconds: frames of a model then lie where they lie in the whole prompt
    return Span.between(first_s + math.floor(whole_s - seconds - _MARGIN_S), source.span.end_s if source.span else None)
