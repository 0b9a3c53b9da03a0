"""What the channel explains of a divergence, and the channels of the sets of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cdslm_eval.results.numbers import format_number, to_json

__all__ = ["Acoustics", "ChannelEffect", "ChannelReport", "Interval", "SetChannel"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A number with its 95 % interval; NaN where not known."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Acoustics:
    """What a system's channel explains of its divergence from the reference: corrected values, in bits.

    Attributes:
        acoustic_floor, acoustic_floor_low, acoustic_floor_high: Half of the reference, put through the system's
            channel, against its other half: the divergence that real speech has in this audio. 95 % interval.
        matched, matched_low, matched_high: The system against the reference put through its channel.
        audible: The reference backwards against the reference, both through the channel and of different speakers.
        audible_clean, audible_clean_low: The same without the channel, and the lower end of its interval.
    """

    acoustic_floor: float = math.nan
    acoustic_floor_low: float = math.nan
    acoustic_floor_high: float = math.nan
    matched: float = math.nan
    matched_low: float = math.nan
    matched_high: float = math.nan
    audible: float = math.nan
    audible_clean: float = math.nan
    audible_clean_low: float = math.nan

    def explains(self, corrected: float, low: float) -> bool:
        """Return whether the channel alone explains a divergence.

        That is so where the value does not exceed the interval of the acoustic floor. A value that is not shown to
        differ from 0 leaves nothing to explain: clean real speech is not marked. Nor is a value that differs within its
        channel as well (matched) while the floor is not shown to differ from 0: such a floor is only wide.

        Args:
            corrected: The corrected divergence from the clean reference.
            low: Lower end of its interval.
        """
        only_wide = self.matched_low > 0 and not self.acoustic_floor_low > 0
        return low > 0 and corrected <= self.acoustic_floor_high and not only_wide

    @property
    def inaudible(self) -> bool:
        """Whether forwards and backwards speech are less than half as far apart as without the channel."""
        return self.audible_clean_low > 0 and self.audible < self.audible_clean / 2


DOUBT = 0.05
"""Fall of a recognizer's mean posterior against the reference from which on it is reported (ours).

Other readers of LibriSpeech and published language models are within .02 of it, learners of English .15 below.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetChannel:
    """The channel of a set: medians over its clips; NaN where not known.

    Attributes:
        name: The set; the reference is "reference".
        bandwidth_hz: Highest frequency that holds sound.
        snr_db: Active speech over the noise floor.
        decay_db_s: How fast the level falls after sounds; reverberation makes it slower.
        level_dbfs: RMS of active speech.
        phones_per_s: Recognized phones per second of active speech, over all clips.
        confidence: Mean posterior of the recognizer, 0..1, over clips.
        derivation: Identity of the channel that the reference was put through for this system; "" where that is none.
    """

    name: str
    bandwidth_hz: float = math.nan
    snr_db: float = math.nan
    decay_db_s: float = math.nan
    level_dbfs: float = math.nan
    phones_per_s: float = math.nan
    confidence: float = math.nan
    derivation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelEffect:
    """What a degradation alone makes of real speech: half of the reference through it against its other half.

    Attributes:
        name: Of the value, such as "pjsd_1".
        reference: The set of real speech.
        channel: The degradation: "white noise at 20 dB SNR".
        value, low, high: The corrected divergence and its 95 % interval.
    """

    name: str
    reference: str
    channel: str
    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelReport:
    """The channels of a run.

    Attributes:
        sets: The reference first, then the systems.
        sensitivity: What noise and a band limit alone make of the reference, under its recognizer.
        clips: Reference clips that were put through channels.
        seconds: Their audio.
    """

    sets: tuple[SetChannel, ...]
    sensitivity: tuple[ChannelEffect, ...] = ()
    clips: int = 0
    seconds: float = 0.0

    def lines(self) -> Iterator[str]:
        """Yield the channel sensitivity as sentences."""
        groups: dict[tuple[str, str], list[ChannelEffect]] = {}
        for effect in self.sensitivity:
            if math.isfinite(effect.value):
                groups.setdefault((effect.reference, effect.channel), []).append(effect)
        for (reference, channel), effects in groups.items():
            # of higher orders a few minutes of speech are too little
            values = ", ".join(f"{effect.name} {format_number(effect.value, 3)}" for effect in effects[:2])
            yield f"channel sensitivity: {channel} alone moves {reference} by {values}"

    def doubts(self) -> Iterator[str]:
        """Yield a sentence for each system in which the recognizer is less sure of its phones than in the reference."""
        reference, *systems = self.sets
        for system in systems:
            if reference.confidence - system.confidence > DOUBT:  # False where one is not known
                yield (
                    f"{system.name}: the recognizer is less sure of its phones than in {reference.name} (posterior "
                    f"{system.confidence:.2f} instead of {reference.confidence:.2f}): a language, accent or channel "
                    "that it was not made for, so that part of the divergence is its own errors"
                )

    @classmethod
    def joined(cls, reports: Sequence[ChannelReport]) -> ChannelReport | None:
        """Return one report of several references' systems; None where there is none."""
        if len(reports) < 2:
            return reports[0] if reports else None
        return cls(
            sets=tuple(entry for report in reports for entry in report.sets),
            sensitivity=tuple(effect for report in reports for effect in report.sensitivity),
            clips=sum(report.clips for report in reports),
            seconds=sum(report.seconds for report in reports),
        )

    def as_json(self) -> dict[str, Any]:
        """Return plain values; NaN becomes None."""
        plain: dict[str, Any] = to_json(self)
        return plain

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> ChannelReport:
        """Read what `as_json` returns."""
        return cls(
            sets=tuple(SetChannel(**_numbers(entry)) for entry in record["sets"]),
            sensitivity=tuple(ChannelEffect(**_numbers(entry)) for entry in record["sensitivity"]),
            clips=record["clips"],
            seconds=record["seconds"],
        )


def _numbers(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record whose nulls, which stand for unknown numbers, are NaN."""
    return {name: math.nan if value is None else value for name, value in record.items()}
