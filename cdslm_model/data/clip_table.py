"""What is known of each prepared clip, in columns: a million clips are some hundred megabytes less than as objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from cdslm_model.errors import DataError

__all__ = ["DIGEST_DIGITS", "ClipTable"]

DIGEST_DIGITS = 32
"""Hex digits of a clip's content digest that are kept."""

_Columns = tuple[npt.NDArray[np.int64], npt.NDArray[np.bytes_], npt.NDArray[np.int32], npt.NDArray[np.int64]]


class ClipTable(Sequence[Mapping[str, Any]]):
    """Clips by their place; an item is made when it is asked for: "name", "digest", "speaker", "frames".

    Args:
        shards: The clips of each shard, as its JSON lists them; one shard is held at a time.

    Attributes:
        frames: Frames of each, int64 `[clips]`.
        digests: Content digest of each, ASCII hex digits, `[clips]`.
        speakers: Number of each one's speaker, -1 where that is not known, int32 `[clips]`.

    Raises:
        DataError: A clip lacks something.
    """

    def __init__(self, shards: Iterable[Sequence[Mapping[str, Any]]]) -> None:
        self._names = bytearray()
        numbers: dict[str, int] = {}
        columns = [self._columns(clips, numbers) for clips in shards]
        self.frames, self.digests, self.speakers, self._ends = (
            np.concatenate(parts) for parts in zip(*columns, strict=True)
        )
        self._said = list(numbers)

    def _columns(self, clips: Sequence[Mapping[str, Any]], numbers: dict[str, int]) -> _Columns:
        """Return frames, digests, speakers and ends of names of one shard's clips."""
        ends, speakers = [], []
        try:
            for clip in clips:
                self._names += _bytes(clip["name"])
                ends.append(len(self._names))
                speaker = clip["speaker"]
                speakers.append(-1 if speaker is None else numbers.setdefault(speaker, len(numbers)))
            return (
                np.array([clip["frames"] for clip in clips], np.int64),
                np.array([clip["digest"] for clip in clips], f"S{DIGEST_DIGITS}"),
                np.array(speakers, np.int32),
                np.array(ends, np.int64),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"its list of clips is damaged ({type(error).__name__}: {error})") from error

    def name(self, place: int) -> str:
        """Return the name of one."""
        start = int(self._ends[place - 1]) if place else 0
        return self._names[start : int(self._ends[place])].decode("utf-8", "surrogateescape")

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, place: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> list[Mapping[str, Any]]: ...
    def __getitem__(self, place: int | slice) -> Mapping[str, Any] | list[Mapping[str, Any]]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        speaker = int(self.speakers[place])
        return {
            "name": self.name(place),
            "digest": self.digests[place].decode("ascii"),
            "speaker": self._said[speaker] if speaker >= 0 else None,
            "frames": int(self.frames[place]),
        }


def _bytes(name: str) -> bytes:
    """Return a file's name as the system has it: not every one is UTF-8."""
    return name.encode("utf-8", "surrogateescape")
