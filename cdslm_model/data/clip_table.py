"""Facts of each prepared clip in columns: a million clips take some hundred megabytes less than as objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from cdslm_model.errors import DataError

__all__ = ["DIGEST_DIGITS", "LABELS", "ClipTable"]

LABELS = ("language", "source")
"""Columns by which clips are grouped, where they are known."""
DIGEST_DIGITS = 32
"""Hex digits stored of a clip's content digest."""

_Columns = tuple[npt.NDArray[np.int64], npt.NDArray[np.bytes_], npt.NDArray[np.int32], npt.NDArray[np.int64]]


class ClipTable(Sequence[Mapping[str, Any]]):
    """Clips by number; an item is built on access: "name", "digest", "speaker", "language", "source" and "frames".

    Args:
        shards: The clips of each shard, as its JSON lists them; read one shard at a time.

    Attributes:
        frames: Frames of each, int64 `[clips]`.
        digests: Content digest of each, ASCII hex digits, `[clips]`.
        speakers: Number of each clip's speaker, -1 where unknown, int32 `[clips]`.
        labels: "language" and "source" -> the number of each clip's, -1 where unknown, int32 `[clips]`.

    Raises:
        DataError: A clip lacks a field.
    """

    def __init__(self, shards: Iterable[Sequence[Mapping[str, Any]]]) -> None:
        self._names = bytearray()
        numbers: dict[str, int] = {}
        self._label_names: dict[str, dict[str, int]] = {name: {} for name in LABELS}
        labels: dict[str, list[npt.NDArray[np.int32]]] = {name: [] for name in LABELS}
        columns = []
        for clips in shards:
            columns.append(self._columns(clips, numbers))
            for name, parts in labels.items():
                parts.append(_numbered(clips, name, self._label_names[name]))
        self.labels = {name: np.concatenate(parts) for name, parts in labels.items()}
        self.frames, self.digests, self.speakers, self._ends = (
            np.concatenate(parts) for parts in zip(*columns, strict=True)
        )
        self._speaker_names = list(numbers)

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

    def name(self, number: int) -> str:
        """Return the name of a clip."""
        start = int(self._ends[number - 1]) if number else 0
        return self._names[start : int(self._ends[number])].decode("utf-8", "surrogateescape")

    def _label(self, label: str, number: int) -> str | None:
        value = int(self.labels[label][number])
        return self.label_names(label)[value] if value >= 0 else None

    def label_names(self, label: str) -> list[str]:
        """Return the languages or sources by their number."""
        return list(self._label_names[label])

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, number: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, number: slice) -> list[Mapping[str, Any]]: ...
    def __getitem__(self, number: int | slice) -> Mapping[str, Any] | list[Mapping[str, Any]]:
        if isinstance(number, slice):
            return [self[index] for index in range(*number.indices(len(self)))]
        number = range(len(self))[number]
        speaker = int(self.speakers[number])
        return {
            "name": self.name(number),
            "digest": self.digests[number].decode("ascii"),
            "speaker": self._speaker_names[speaker] if speaker >= 0 else None,
            **{label: self._label(label, number) for label in LABELS},
            "frames": int(self.frames[number]),
        }


def _numbered(clips: Sequence[Mapping[str, Any]], label: str, numbers: dict[str, int]) -> npt.NDArray[np.int32]:
    """Return the number of a label of each clip; shards of earlier versions have none."""
    try:
        values = [clip.get(label) for clip in clips]
        known = [-1 if value is None else numbers.setdefault(value, len(numbers)) for value in values]
    except (TypeError, AttributeError) as error:
        raise DataError(f"its list of clips is damaged ({type(error).__name__}: {error})") from error
    return np.array(known, np.int32)


def _bytes(name: str) -> bytes:
    """Return the bytes of a file name, which need not be UTF-8."""
    return name.encode("utf-8", "surrogateescape")
