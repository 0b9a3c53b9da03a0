"""Cuts the clips of a set into windows of one length, as parts of their recordings."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.audio import content_digest
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import AudioError
from cdslm_eval.core.opened import check_streamed, opened_audio
from cdslm_eval.core.regular import check_regular
from cdslm_eval.core.sources import Source
from cdslm_eval.core.spans import Span

__all__ = ["WindowedSet", "header_seconds", "windowed"]

_LONGEST_S = 24 * 3600.0
"""Longest recording that is cut."""


@dataclass(frozen=True, slots=True)
class WindowedSet:
    """The windows of a set.

    Attributes:
        clips: The windows, those of one clip after each other.
        owners: Index of the clip of each window, int64 `[windows]`.
        positions: Number of each window in its clip, from 0, int64 `[windows]`.
        n_unread: Clips without a readable length, which have no window.
    """

    clips: ClipSet
    owners: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    n_unread: int


def windowed(clips: ClipSet, window_s: float) -> WindowedSet:
    """Return the windows of a set; what is left at the end of a clip, shorter than a window, is in none.

    Each is a part of its recording that is decoded on its own, so that long clips take no more memory than short ones.
    Texts, phones and paired clips are those of whole clips, and windows have none.

    Args:
        clips: The set.
        window_s: Length of a window in seconds, over 0.
    """
    sources: list[Source] = []
    owners: list[int] = []
    positions: list[int] = []
    n_unread = 0
    for owner, source in enumerate(clips.sources):
        try:
            count = int((header_seconds(source) + 1e-6) / window_s)
        except AudioError:
            n_unread += 1
            continue
        sources += _parts(source, count, window_s)
        owners += [owner] * count
        positions += range(count)
    numbers = np.array(owners, np.int64), np.array(positions, np.int64)
    return WindowedSet(ClipSet(clips.name, sources, clips.origin), *numbers, n_unread)


def _parts(source: Source, count: int, window_s: float) -> Iterator[Source]:
    bare = source._replace(text=None, phones=None, reference=None, reference_text=None, prompt_seconds=None)
    start_s = 0.0 if source.span is None else source.span.start_s
    for position in range(count):
        span = Span.between(start_s + position * window_s, start_s + (position + 1) * window_s)
        key = f"{source.key}{Span.between(position * window_s, (position + 1) * window_s)}"
        if source.decoded is None:
            yield bare._replace(key=key, span=span)
            continue
        clip = source.decoded
        first, end = span.frames(clip.rate_hz)
        samples = clip.samples[first:end]
        digest = content_digest(samples, clip.rate_hz)
        part = dataclasses.replace(
            clip, key=key, samples=samples, digest=digest, text=None, phones=None, reference=None, prompt_seconds=None
        )
        yield bare._replace(key=key, path=f"{source.path}{span}", decoded=part)


def header_seconds(source: Source) -> float:
    """Return the length of a clip by the header of its file, without decoding it.

    Raises:
        AudioError: The file cannot be read.
    """
    if source.decoded is not None:
        return source.decoded.seconds
    import soundfile as sf

    check_regular(source.path)
    # of one inside an archive or a table, the header is its own
    opened = opened_audio(source.path, source.span, source.packed)
    try:
        info = sf.info(os.fsencode(source.path) if opened is None else opened)
        check_streamed(opened)
    except (sf.LibsndfileError, OSError, RuntimeError, ValueError, TypeError) as error:
        check_streamed(opened)
        raise AudioError(f"not readable as audio: {type(error).__name__}") from error
    whole_s = info.frames / info.samplerate if info.samplerate else 0.0
    # a header may claim any length, and each window is a clip of the set
    whole_s = min(whole_s, _LONGEST_S)
    if source.span is None:
        return whole_s
    end_s = math.inf if source.span.end_s is None else source.span.end_s
    return max(0.0, min(end_s, whole_s) - source.span.start_s)
