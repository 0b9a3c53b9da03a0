"""Each check of the channel passes a sound recognizer and catches the fault that it is named for."""

from __future__ import annotations

import numpy as np
import pytest

from cdslm_eval import Recognizer
from cdslm_eval.testing import RECOGNIZER_CHECKS, ConformanceError

FRAME = 800
RATE_HZ = 16_000


class Contour(Recognizer):
    """The level of a band in steps of 6 dB below its peak, 20 times a second: the sound base of the unsound ones."""

    name = "contour"
    inventory = "levels"
    rate_hz = RATE_HZ
    low_hz, high_hz = 200.0, 1200.0

    def phones(self, samples):
        levels = self.levels(samples)
        peak = levels.max(initial=0.0)
        return [f"l{min(int(-20 * np.log10(max(level / peak, 1e-9)) / 6), 4)}" for level in levels if peak]

    def levels(self, samples):
        """Return the power of the band in each frame."""
        frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
        spectrum = np.abs(np.fft.rfft(frames)) ** 2
        hertz = np.fft.rfftfreq(FRAME, 1 / RATE_HZ)
        return np.sqrt(spectrum[:, (hertz >= self.low_hz) & (hertz < self.high_hz)].sum(1))

    def recognize(self, clips):
        for clip in clips:
            yield self.phones(clip.samples)


class HearsHiss(Contour):
    low_hz, high_hz = 6000.0, 8000.0


class Fragile(Contour):
    """Reads single samples, which noise changes."""

    def phones(self, samples):
        return [f"l{int(abs(sample) * 1e5) % 5}" for sample in samples[:: 2 * FRAME]]


class Absolute(Contour):
    def phones(self, samples):
        return [f"l{int(level)}" for level in self.levels(samples)]


class Truncates(Contour):
    def phones(self, samples):
        return super().phones(samples[: 40 * RATE_HZ])


class Fills(Contour):
    def phones(self, samples):
        return super().phones(samples) or ["l0", "l1"]


class Pads(Contour):
    def recognize(self, clips):
        longest = max((len(clip.samples) for clip in clips), default=0)
        for clip in clips:
            yield self.phones(np.pad(clip.samples + 1e-9, (0, longest - len(clip.samples)))) or ["l4"]


class Frames(Contour):
    """Takes time itself for phones: another speed gives another sentence."""

    def phones(self, samples):
        return [f"n{len(samples) % 1000}-{number}" for number in range(len(samples) // FRAME)]


@pytest.mark.parametrize(
    ("name", "recognizer"),
    {
        "noise at 20 dB keeps sentences apart": Fragile,
        "a narrow band keeps sentences apart": HearsHiss,
        "another speed keeps sentences apart": Frames,
        "the level moves no phone": Absolute,
        "a minute has the phones of its halves": Truncates,
        "20 ms and silence have no phones": Fills,
        "two clips in a batch equal one by one": Pads,
    }.items(),
    ids=str,
)
def test_a_check_catches_its_fault(name, recognizer):
    (check,) = [check for check in RECOGNIZER_CHECKS if check.name == name]
    check(Contour)
    with pytest.raises(ConformanceError):
        check(recognizer)
