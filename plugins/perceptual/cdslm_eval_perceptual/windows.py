"""Which 9.01 s windows of a clip DNSMOS scores, and which of them are one and the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cdslm_eval.core.audio import Samples

__all__ = ["BLOCK", "RATE_HZ", "STEP_BLOCKS", "WINDOW", "WINDOW_BLOCKS", "Windows", "scored_windows"]

RATE_HZ = 16_000
WINDOW_S = 9.01
WINDOW = 144_160
"""Samples of a window."""
BLOCK = 160
"""Windows start on whole blocks of 10 ms, the hop of both networks."""
WINDOW_BLOCKS = WINDOW // BLOCK
STEP_BLOCKS = RATE_HZ // BLOCK


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of one clip.

    Attributes:
        samples: float32 `[samples]`: the clip, repeated where it is shorter than a window.
        period: Samples after which `samples` repeats; its length where it does not.
        starts: First block of each different window, ascending.
        counts: How often each of them is scored.
    """

    samples: Samples
    period: int
    starts: tuple[int, ...]
    counts: tuple[int, ...]

    def groups(self, most: int = 12) -> Iterator[Windows]:
        """Yield the windows in groups of at most `most`, so that memory does not grow with the clip.

        A clip that was repeated has few windows and stays whole.
        """
        if len(self.starts) <= most:
            yield self
            return
        for at in range(0, len(self.starts), most):
            starts, counts = self.starts[at : at + most], self.counts[at : at + most]
            part = self.samples[starts[0] * BLOCK : starts[-1] * BLOCK + WINDOW]
            yield Windows(part, len(part), tuple(start - starts[0] for start in starts), counts)


def scored_windows(samples: Samples, *, all_windows: bool = False) -> Windows:
    """Return the windows of a clip: one a second, from a clip that is doubled until it fills one.

    The published code takes samples `int(i * 16000)` to `int((i + 9.01) * 16000)` and drops a window that comes out
    one sample short; by rounding that befalls windows 7 to 23 and a few later ones, so that of a clip of 17 to 33 s
    only the first 16 s are scored. Published values have it, so it is the default here.

    Args:
        samples: float32 `[samples]` at 16 kHz, not empty.
        all_windows: Keep the windows that the published code drops.

    Raises:
        ValueError: There are no samples.

    Source: C. Reddy et al., "DNSMOS P.835", ICASSP 2022; `speechmos.dnsmos` 0.0.1.1.
    """
    if not len(samples):
        raise ValueError("a clip without samples has no windows")
    period = len(samples)
    length = period
    while length < WINDOW:
        length *= 2
    tiled = length > period
    count = int(length // RATE_HZ - WINDOW_S) + 1
    numbers = [i for i in range(count) if all_windows or int((i + WINDOW_S) * RATE_HZ) - i * RATE_HZ == WINDOW]
    first: dict[int, int] = {}
    times: dict[int, int] = {}
    for i in numbers:
        origin = first.setdefault(i * RATE_HZ % period if tiled else i, i)
        times[origin] = times.get(origin, 0) + 1
    needed = max(times) * RATE_HZ + WINDOW
    whole = np.resize(samples, needed) if tiled else samples[:needed]
    return Windows(whole, period if tiled else len(whole), tuple(i * STEP_BLOCKS for i in times), tuple(times.values()))
