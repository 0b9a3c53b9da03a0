"""Long clips in overlapping windows, whose frames are joined where both sides of a seam are silent on phones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["Frames", "join_windows", "window_starts"]

Frames = npt.NDArray[np.int64]


def window_starts(samples: int, window: int, overlap: int) -> list[int]:
    """Return where equally spaced windows start that cover a clip.

    Args:
        samples: Length of the clip in samples.
        window: Length of a window in samples.
        overlap: Least overlap of two neighbours in samples.

    Example:
        >>> window_starts(100, 60, 10), window_starts(60, 60, 10)
        ([0, 40], [0])
    """
    if samples <= window:
        return [0]
    count = int(np.ceil((samples - overlap) / (window - overlap)))
    return [round(number * (samples - window) / (count - 1)) for number in range(count)]


def join_windows(parts: Sequence[Frames], starts: Sequence[int], samples: int, window: int, blank: int) -> Frames:
    """Return the best symbol of each frame of a clip from those of its overlapping windows.

    A network sees less context at the edge of a window, and two windows may set one phone a frame apart: cutting there
    would lose it or count it twice. So neighbours overlap, and the seam is the frame next to the middle of the overlap
    at which both give the blank.

    Args:
        parts: Best symbol per frame of each window, evenly spaced over it, `[frames]`.
        starts: Where the windows start, in samples; see `window_starts`.
        samples: Length of the clip in samples.
        window: Length of a window in samples.
        blank: The blank symbol.

    Returns:
        `[frames]`; without the overlaps.
    """
    if len(parts) == 1:
        return parts[0]
    times: list[npt.NDArray[np.float64]] = [
        start + (np.arange(len(part), dtype=np.float64) + 0.5) * (min(window, samples) / max(len(part), 1))
        for start, part in zip(starts, parts, strict=True)
    ]
    seams = [
        _seam(times[at : at + 2], parts[at : at + 2], blank, starts[at + 1], starts[at] + window)
        for at in range(len(parts) - 1)
    ]
    edges = [-np.inf, *seams, np.inf]
    return np.concatenate(
        [
            part[(time >= edges[at]) & (time < edges[at + 1])]
            for at, (time, part) in enumerate(zip(times, parts, strict=True))
        ]
    )


def _seam(
    times: Sequence[npt.NDArray[np.float64]], parts: Sequence[Frames], blank: int, start: float, end: float
) -> float:
    """Return the position, in samples, at which the left window ends and the right one takes over.

    Args:
        times: Position of each frame of the two windows.
        parts: Their frames.
        blank: The blank symbol.
        start, end: The overlap, in samples.
    """
    middle = (start + end) / 2
    inside = (times[0] >= start) & (times[0] < end)
    candidates, quiet = times[0][inside], parts[0][inside] == blank
    # a phone may sit a frame to either side in the other window, so that one's neighbours must be blank too
    nearest = np.searchsorted(times[1], candidates)
    for shift in (-1, 0, 1):
        quiet &= parts[1][np.clip(nearest + shift, 0, len(parts[1]) - 1)] == blank
    if not quiet.any():
        return middle
    return float(min(candidates[quiet], key=lambda position: abs(position - middle)))
