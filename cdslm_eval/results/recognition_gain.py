"""What a recognizer recovers of a divergence that is known from texts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cdslm_eval.results.numbers import format_number

__all__ = ["RecognitionGain", "gain_lines"]

_ORDERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognitionGain:
    """A divergence inside the reference, in the phones of its texts and in recognized phones.

    It differs from contrast to contrast, so that no value may be divided by it.

    Attributes:
        name: Of the value, such as "pjsd_1".
        reference: The set of real speech.
        clips: Clips of both sides, of those that have a text.
        text, text_low, text_high: The corrected divergence of the phones of the texts, and its 95 % interval.
        recognized, recognized_low, recognized_high: That of the phones that were recognized in the same clips.
        reason: Why numbers are NaN, or "".
    """

    name: str
    reference: str
    clips: tuple[int, int] = (0, 0)
    text: float = math.nan
    text_low: float = math.nan
    text_high: float = math.nan
    recognized: float = math.nan
    recognized_low: float = math.nan
    recognized_high: float = math.nan
    reason: str = ""

    @property
    def share(self) -> float:
        """The recognized part of the divergence in text; NaN where that is not shown to differ from 0."""
        return self.recognized / self.text if self.text_low > 0 else math.nan


def gain_lines(gains: Sequence[RecognitionGain]) -> Iterator[str]:
    """Yield one sentence per reference on its lowest two orders, or on why they are not known."""
    groups: dict[str, list[RecognitionGain]] = {}
    for gain in gains:
        groups.setdefault(gain.reference, []).append(gain)
    for reference, group in groups.items():
        known = [gain for gain in group if math.isfinite(gain.share)][:_ORDERS]
        if known:
            parts = (
                f"of {gain.name} {format_number(gain.text, 3)} in text this recognizer recovers "
                f"{format_number(gain.recognized, 3)}"
                for gain in known
            )
            yield f"recognition gain: between the clips of {reference} whose texts differ most, {'; '.join(parts)}"
        else:
            reason = next((gain.reason for gain in group if gain.reason), "its texts do not differ enough")
            yield f"recognition gain of {reference}: not known: {reason}"
