"""`turn_taking`: turns, gaps, overlaps and backchannels of two speakers on two channels, by voice activity."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, Field

from cdslm_eval import Mean, RatioOfSums, Statistic
from cdslm_eval.core.audio import Clip, Samples
from cdslm_eval.core.channels import same_sound
from cdslm_eval.core.citation import Citation
from cdslm_eval.plugin.contract import Failed, Row, Skipped
from cdslm_eval.plugin.models import VOICE_FRAME, speech_probabilities, unusable_reason
from cdslm_eval_perceptual.activity import RATE_HZ, Activity, ActivityOptions, segments
from cdslm_eval_perceptual.papers import SILERO

__all__ = ["Conversation", "TurnOptions", "TurnTaking", "conversation"]

Stretch = tuple[float, float]
"""Start and end of a stretch of speech in seconds."""
_APART_S = 0.1
"""Channels of one recording are as long as each other, but for a codec's padding."""
_COPIED = 0.9999
"""Correlation of channels that are copies, or one mix of both speakers: each is then heard answering itself."""


class TurnOptions(ActivityOptions):
    """Options of `turn_taking`.

    Attributes:
        min_speech_s: Shorter stretches of speech are silence, in seconds; backchannels are short.
        backchannel_s: Longest backchannel in seconds.
    """

    min_speech_s: float = Field(0.1, ge=0)
    backchannel_s: float = Field(1.0, ge=0)


@dataclasses.dataclass(frozen=True, slots=True)
class Conversation:
    """What two speakers do with the floor; counts, and sums in seconds.

    Attributes:
        turns, turn_s: Stretches of one speaker that no turn of the other comes between, from the first to the last.
        changes, offset_s: Turns after a turn of the other, and their start minus the end of that: overlaps count
            negative.
        gaps, gap_s: Changes with a silence between, and its length.
        overlaps, overlap_s: Times in which both speak, backchannels included.
        pauses: Silences within turns.
        backchannels: Short stretches between, or within, stretches of a turn of the other.
        balance: Share of the speech that the speaker who speaks less has, 0..0.5; None without speech.
    """

    turns: int
    turn_s: float
    changes: int
    offset_s: float
    gaps: int
    gap_s: float
    overlaps: int
    overlap_s: float
    pauses: int
    backchannels: int
    balance: float | None


def conversation(first: Sequence[Stretch], second: Sequence[Stretch], backchannel_s: float) -> Conversation:
    """Return the turns of two speakers.

    A stretch of at most `backchannel_s` is a backchannel where the longer stretches around it (the last one that
    begins before it and the first one that ends after it) are both the other speaker's. A stretch of any length that
    lies within one of the other speaker is an overlap and no turn: the other speaks before it, beside it and after it.

    Args:
        first, second: Stretches of speech of each, in order.
        backchannel_s: Longest backchannel in seconds.

    Example:
        >>> talk = conversation([(0.0, 2.0), (2.5, 5.0)], [(1.0, 1.4), (5.5, 7.0)], 1.0)
        >>> talk.turns, talk.backchannels, talk.gaps, talk.pauses, round(talk.offset_s, 3)
        (2, 1, 1, 1, 0.5)
    """
    stretches = sorted((start, end, speaker) for speaker, own in enumerate((first, second)) for start, end in own)
    long = [stretch for stretch in stretches if stretch[1] - stretch[0] > backchannel_s]
    floor: list[tuple[float, float, int]] = []
    backchannels = 0
    for start, end, speaker in stretches:
        if end - start <= backchannel_s:
            before = [other for began, _, other in long if began <= start]
            after = [other for _, ended, other in long if ended >= end and ended > start]
            if before and after and before[-1] != speaker and after[0] != speaker:
                backchannels += 1
                continue
        others = (second, first)[speaker]
        if not any(began <= start and end <= ended and (began, ended) != (start, end) for began, ended in others):
            floor.append((start, end, speaker))
    turns: list[list[float]] = []  # start, end, speaker
    pauses = 0
    for start, end, speaker in floor:
        if turns and turns[-1][2] == speaker:
            pauses += 1
            turns[-1][1] = end
        else:
            turns.append([start, end, speaker])
    offsets = [later[0] - earlier[1] for earlier, later in itertools.pairwise(turns)]
    gaps = [offset for offset in offsets if offset > 0]
    both = [
        min(end, own_end) - max(start, own_start)
        for start, end in first
        for own_start, own_end in second
        if min(end, own_end) > max(start, own_start)
    ]
    spoken = [sum(end - start for start, end in own) for own in (first, second)]
    return Conversation(
        turns=len(turns),
        turn_s=sum(end - start for start, end, _ in turns),
        changes=len(offsets),
        offset_s=sum(offsets),
        gaps=len(gaps),
        gap_s=sum(gaps),
        overlaps=len(both),
        overlap_s=sum(both),
        pauses=pauses,
        backchannels=backchannels,
        balance=min(spoken) / sum(spoken) if sum(spoken) else None,
    )


class TurnTaking(Activity):
    """Turns, gaps, overlaps, pauses and backchannels per minute, and their lengths, of two speakers on two channels.

    A clip is one channel, its paired clip the other one (`reference` in a manifest); `cdslm-eval split-channels` writes
    such a manifest. `floor_offset` is the mean time from the end of a turn to the next one of the other speaker, and
    negative where these overlap. Voice activity is measured on each channel alone: what leaks from one into the
    other counts as speech there.

    Source: Heldner and Edlund (2010), "Pauses, gaps and overlaps in conversations", for the terms; Nguyen et al.
    (2023), "Generative Spoken Dialogue Language Modeling", for their use on generated dialogues.
    """

    name = "turn_taking"
    limits = "whether the speakers answer each other: only when they speak"
    version = "1"
    citation: ClassVar[tuple[Citation, ...]] = (
        SILERO,
        Citation(
            key="nguyen2023generative",
            title="Generative Spoken Dialogue Language Modeling",
            authors=("Nguyen, Tu Anh", "others"),
            year=2023,
            kind="article",
            venue="Transactions of the Association for Computational Linguistics 11",
            arxiv="2203.16502",
        ),
    )
    needs = frozenset({"audio", "reference_audio"})
    batch_clips = 1
    Options: ClassVar[type[BaseModel]] = TurnOptions
    statistics: ClassVar[dict[str, Statistic]] = {
        "turns_per_minute": RatioOfSums("turns", "minutes", unit="1/min"),
        "turn_length": RatioOfSums("turn_s", "turns", unit="s"),
        "floor_offset": RatioOfSums("offset_s", "changes", unit="s"),
        "gaps_per_minute": RatioOfSums("gaps", "minutes", unit="1/min"),
        "gap_length": RatioOfSums("gap_s", "gaps", unit="s"),
        "overlaps_per_minute": RatioOfSums("overlaps", "minutes", unit="1/min"),
        "overlap_share": RatioOfSums("overlap_s", "seconds", unit="fraction"),
        "turn_pauses_per_minute": RatioOfSums("pauses", "minutes", unit="1/min"),
        "backchannels_per_minute": RatioOfSums("backchannels", "minutes", unit="1/min"),
        "speaker_balance": Mean("balance", unit="share"),
    }

    def measure(self, clips: Sequence[Clip]) -> Iterator[Row | Skipped | Failed]:
        """Yield the counts and lengths of each conversation."""
        for clip in clips:
            yield self._conversation(clip)

    def _conversation(self, clip: Clip) -> Row | Skipped | Failed:
        other = clip.reference
        if other is None:
            return Skipped("no other channel")
        for channel in (clip, other):
            if reason := unusable_reason(channel, self.min_seconds, accepts_silence=True):
                return Skipped(reason if channel is clip else f"its other channel: {reason}")
        if abs(clip.seconds - other.seconds) > _APART_S:
            return Failed(f"its channels are {clip.seconds:.2f} s and {other.seconds:.2f} s long")
        if reason := same_sound(clip.samples, other.samples, _COPIED):
            return Failed(reason)
        channels = [self._speech(channel.samples, channel.seconds) for channel in (clip, other)]
        if any(speech is None for speech in channels):
            return Failed("the network gives no finite probability; are the samples in -1..1?")
        first, second = (speech or [] for speech in channels)
        talk = conversation(first, second, self.options.backchannel_s)
        row = {"seconds": clip.seconds, "minutes": clip.seconds / 60, **dataclasses.asdict(talk)}
        # a mean over none of them is not known, which 0 would be
        for total, count in (("turn_s", "turns"), ("offset_s", "changes"), ("gap_s", "gaps")):
            row[total] = row[total] if row[count] else None
        return row

    def _speech(self, samples: Samples, seconds: float) -> list[Stretch] | None:
        """Return the stretches of speech of a channel; None where they are not known."""
        probabilities = speech_probabilities(self._session, samples)
        if not np.isfinite(probabilities).all():
            return None
        frame_s = VOICE_FRAME / RATE_HZ
        return [(start * frame_s, min(end * frame_s, seconds)) for start, end in segments(probabilities, self.options)]
