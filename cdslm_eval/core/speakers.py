"""Speakers of clips from the names of their files: a pattern of fields, or the folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import PurePath

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.sources import Source

__all__ = ["FOLDER", "speakers_from"]

FOLDER = "folder"
_SPEAKER = ("spk", "speaker")
_MAX_PATTERN = 200


def speakers_from(sets: Sequence[ClipSet], spec: str) -> list[ClipSet]:
    """Return sets whose clips have the speaker that their names hold; a set of other names stays as it is.

    Args:
        sets: Sets of one run, such as a reference and the systems.
        spec: "folder" for the name of the folder of each file, or a pattern of its name without suffix: fields of
            letters between separators, one of them "spk", such as "spk-chapter-utt".

    Raises:
        UsageError: The pattern has no field "spk", fits no set, or fits only a part of a set.

    Example:
        >>> clips = ClipSet("real", [Source(key="84-121-0003", path="a/84-121-0003.flac")])
        >>> speakers_from([clips], "spk-chapter-utt")[0].sources[0].speaker
        '84'
    """
    speaker_of = _by_folder if spec == FOLDER else _by_pattern(spec)
    named, fitting = [], 0
    for clips in sets:
        speakers = [speaker_of(source) for source in clips.sources]
        known = sum(speaker is not None for speaker in speakers)
        if known and known < len(speakers):
            other = clips.sources[speakers.index(None)]
            raise UsageError(
                f"--speakers-from {spec}: in {clips.name}, the name of {other.key!r} does not fit, others do"
            )
        fitting += known
        pairs = zip(clips.sources, speakers, strict=True)
        sources = [source._replace(speaker=speaker) for source, speaker in pairs]
        named.append(ClipSet(clips.name, sources, clips.origin) if known else clips)
    if not fitting:
        raise UsageError(f"--speakers-from {spec}: fits no clip; use fields as in spk-chapter-utt, or {FOLDER}")
    return named


def _by_folder(source: Source) -> str | None:
    return None if source.decoded is not None else PurePath(source.path).parent.name or None


def _by_pattern(spec: str) -> Callable[[Source], str | None]:
    fields = re.findall(r"[A-Za-z]+", spec[:_MAX_PATTERN])
    if len(spec) > _MAX_PATTERN or sum(field in _SPEAKER for field in fields) != 1:
        raise UsageError(
            f"--speakers-from {spec[:_MAX_PATTERN]!r}: name the speaker once, as in spk-chapter-utt, or use {FOLDER}"
        )
    parts = re.split(r"([A-Za-z]+)", spec)
    pattern, separators = "", "".join(parts[::2])
    for part in parts:
        if part and part in fields:
            # a field ends at the first separator, so that matching is linear in the name
            value = f"[^{re.escape(separators)}]+" if separators else ".+"
            pattern += f"(?P<speaker>{value})" if part in _SPEAKER else value
        else:
            pattern += re.escape(part)
    compiled = re.compile(pattern)

    def speaker_of(source: Source) -> str | None:
        name = PurePath(source.key).name if source.decoded is not None else PurePath(source.path).stem
        match = compiled.fullmatch(name)
        return match["speaker"] if match else None

    return speaker_of
