"""Span: a part of a recording in seconds; Address: where audio lies, as the index of files knows it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

from cdslm_eval.core.errors import AudioError
from cdslm_eval.core.packed import Packed

__all__ = ["OVERSHOOT_S", "Address", "Span", "check_span_end"]

OVERSHOOT_S = 0.01
"""Longest end beyond a recording that counts as rounding: times are often written to hundredths of a second."""
_MAX_SECONDS = 3e7
_FRAGMENT = re.compile(r"#t=(\d+(?:\.\d+)?)(?:,(\d+(?:\.\d+)?))?")


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a recording.

    Attributes:
        start_s: Where it starts, in seconds, 0 or more.
        end_s: Where it ends; None for the end of the recording.
    """

    start_s: float
    end_s: float | None = None

    @classmethod
    def between(cls, start_s: float, end_s: float | None) -> Span:
        """Return a span whose times are rounded to nanoseconds, so that .1 + .2 and .3 are one time.

        Raises:
            ValueError: A time is negative, no number or longer than a year, or the end is not after the start.
        """
        if not 0 <= start_s <= _MAX_SECONDS:
            raise ValueError(f"a start of {start_s:g} s; parts of recordings start at 0 or later")
        if end_s is not None and not round(start_s, 9) < round(end_s, 9) <= 2 * _MAX_SECONDS:
            raise ValueError(f"an end at {end_s:g} s, which is not after its start at {start_s:g} s")
        return cls(round(start_s, 9), None if end_s is None else round(end_s, 9))

    def frames(self, rate_hz: int) -> tuple[int, int | None]:
        """Return the first sample and the one after the last, at a rate; adjacent spans share no sample."""
        return math.floor(self.start_s * rate_hz + 0.5), (
            None if self.end_s is None else math.floor(self.end_s * rate_hz + 0.5)
        )

    def __str__(self) -> str:
        """Return the span as a fragment of a URI, such as "#t=1.5,4.25" (W3C, Media Fragments)."""
        return f"#t={_text(self.start_s)}" + ("" if self.end_s is None else f",{_text(self.end_s)}")

    @classmethod
    def parse(cls, fragment: str) -> Span | None:
        """Return the span that `str` wrote; None for anything else.

        Example:
            >>> Span.parse("#t=1.5,4.25"), Span.parse("#t=2"), Span.parse("")
            (Span(start_s=1.5, end_s=4.25), Span(start_s=2.0, end_s=None), None)
        """
        match = _FRAGMENT.fullmatch(fragment)
        if match is None:
            return None
        return cls(float(match[1]), None if match[2] is None else float(match[2]))


def _text(seconds: float) -> str:
    return f"{seconds:.9f}".rstrip("0").rstrip(".")


class Address(NamedTuple):
    """Where audio lies.

    Attributes:
        path: The file.
        part: Where in it the audio file lies (`Packed`), and the span of that, as `str` of each writes them; "" for
            the whole file.
    """

    path: str
    part: str = ""

    @property
    def span(self) -> Span | None:
        """The span, or None for the whole file."""
        return Span.parse(Packed.split(self.part)[1])

    @property
    def packed(self) -> Packed | None:
        """Where in an archive or table the audio file lies, or None for a file of its own."""
        return Packed.split(self.part)[0]

    def __str__(self) -> str:
        """Return both as one text, for tables and pages."""
        return self.path + self.part

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address that `str` wrote.

        A file whose own name ends like a span is its whole self only under `Address(path)`.
        """
        path, mark, fragment = text.rpartition("#t=")
        span = mark + fragment if mark and Span.parse(mark + fragment) is not None else ""
        path = path if span else text
        archive, mark, fragment = path.rpartition("#")
        packed, rest = Packed.split(mark + fragment)
        return cls(path, span) if packed is None or rest else cls(archive, f"{packed}{span}")


def check_span_end(span: Span, wanted: int, frames: int, rate_hz: int) -> None:
    """Refuse a span that its recording does not have all of, but for rounding.

    Args:
        span: The span.
        wanted: Samples that it has.
        frames: Samples of it that were read.
        rate_hz: Rate of the recording.

    Raises:
        AudioError: The span ends after its recording.
    """
    if wanted - frames > OVERSHOOT_S * rate_hz:
        end_s = span.start_s + frames / rate_hz
        raise AudioError(f"ends at {span.end_s:g} s, but its recording at {end_s:.2f} s")
