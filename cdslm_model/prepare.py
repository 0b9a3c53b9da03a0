"""From recordings to shards of log-mels on disk; what was made before a call was cut short stays made."""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cdslm_model.data import shard_records
from cdslm_model.errors import DataError
from cdslm_model.files import locked, no_room, write_json, written_whole
from cdslm_model.mel import LogMel, MelSpec

__all__ = ["Heard", "Prepared", "Recording", "prepare"]

SHARD_FRAMES = 1 << 17
"""Frames after which a shard is closed (27 minutes of speech); what an interrupted call loses at most."""
_LOOKAHEAD = 4


@dataclass(frozen=True, slots=True)
class Heard:
    """One recording, decoded.

    Attributes:
        samples: float32 `[samples]`, mono, at the rate that was asked for.
        digest: SHA-256 of the decoded content, by which the same speech is known under two names.
        speaker: Who says it, where it is known.
        silent: Whether nothing is to be heard in it.
    """

    samples: npt.NDArray[np.float32]
    digest: str
    speaker: str | None
    silent: bool


class Recording(Protocol):
    """What `prepare` wants to know of one clip of any set."""

    @property
    def name(self) -> str:
        """Name, unique among all that go into one folder."""

    @property
    def stamp(self) -> str:
        """What changes when the file does: its size and time."""

    def hear(self, rate_hz: int) -> Heard:
        """Decode it at a rate; raises `DataError` where that cannot be done."""


@dataclass(slots=True)
class Prepared:
    """What a call of `prepare` came to.

    Attributes:
        clips: Recordings that are in the folder now.
        frames: Frames that are in the folder now.
        added: Recordings that this call added.
        left_out: Name of each recording that could not be used -> why.
    """

    clips: int = 0
    frames: int = 0
    added: int = 0
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)


class _Shard:
    """The shard that is being filled."""

    def __init__(self) -> None:
        self.mels: list[npt.NDArray[np.float16]] = []
        self.clips: list[dict[str, Any]] = []
        self.frames = 0

    def add(self, recording: Recording, heard: Heard, log_mel: Tensor) -> None:
        """Take in one recording's log-mel `[frames, mels]`."""
        frames = len(log_mel)
        self.mels.append(log_mel.numpy().astype(np.float16))
        self.frames += frames
        self.clips.append(
            {
                "name": recording.name,
                "stamp": recording.stamp,
                "digest": heard.digest[:32],
                "speaker": heard.speaker,
                "frames": frames,
            }
        )

    def close(self, folder: Path, number: int, spec: MelSpec) -> None:
        """Write the log-mels, then the list of clips that makes them count."""
        flat = np.concatenate(self.mels)
        exact = flat.astype(np.float64)
        record = {
            "mel_spec": dataclasses.asdict(spec),
            "mel_digest": spec.digest,
            "clips": self.clips,
            "frames": self.frames,
            "sum": exact.sum(0).tolist(),
            "sum_of_squares": np.square(exact).sum(0).tolist(),
        }
        try:
            written_whole(folder / f"shard-{number:05d}.npy", lambda half: _save(half, flat))
            write_json(folder / f"shard-{number:05d}.json", record)
        except OSError as error:
            if not no_room(error):
                raise
            raise DataError(
                f"{folder}: no room for the next shard ({flat.nbytes / 2**20:.0f} MiB); the {number} before it are "
                "kept, the same command goes on from there"
            ) from error


def _save(path: Path, values: npt.NDArray[np.float16]) -> None:
    with path.open("wb") as file:
        np.save(file, values, allow_pickle=False)


def prepare(
    recordings: Sequence[Recording],
    folder: Path,
    spec: MelSpec,
    *,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Write the log-mels of recordings into shards; those that are in the folder already are passed over.

    Args:
        recordings: Any set of clips.
        folder: Where the shards stand; one call at a time.
        spec: How speech becomes log-mels; must be that of the shards that are there.
        jobs: Threads that decode.
        progress: Called with recordings done and in all.

    Raises:
        DataError: No recording can be used, a name stands twice, a recording changed since, or the disk is full.
    """
    with locked(folder, "cdslm prepare"):
        records = shard_records(folder)
        known = {clip["name"]: clip["stamp"] for record in records for clip in record["clips"]}
        _check_known(folder, records, recordings, known, spec)
        report = Prepared(clips=len(known), frames=sum(record["frames"] for record in records))
        fresh = [recording for recording in recordings if recording.name not in known]
        shard, number = _Shard(), len(records)
        done = len(recordings) - len(fresh)
        for recording, heard, log_mel in _heard(fresh, LogMel(spec), jobs):
            done += 1
            if progress:
                progress(done, len(recordings))
            if isinstance(heard, str):
                report.left_out[recording.name] = heard
                continue
            shard.add(recording, heard, log_mel)
            report.added += 1
            if shard.frames >= SHARD_FRAMES:
                shard.close(folder, number, spec)
                report.frames += shard.frames
                shard, number = _Shard(), number + 1
        if shard.clips:
            shard.close(folder, number, spec)
            report.frames += shard.frames
        report.clips += report.added
        if not report.clips:
            name, why = next(iter(report.left_out.items()), ("", "there is none"))
            raise DataError(f"{folder}: no recording can be used; the first: {name}: {why}")
        return report


def _heard(
    recordings: Sequence[Recording], log_mel: LogMel, jobs: int
) -> Iterator[tuple[Recording, Heard | str, Tensor]]:
    """Yield recordings with their log-mels, in order, made a few ahead in threads; a string says why there is none."""

    def hear(recording: Recording) -> tuple[Heard | str, Tensor]:
        """Decode and transform one."""
        nothing = torch.empty(0, log_mel.spec.mels)
        try:
            heard = recording.hear(log_mel.spec.rate_hz)
        except DataError as error:
            return str(error), nothing
        if heard.silent:
            return "nothing but silence", nothing
        with torch.inference_mode():
            mels = log_mel(torch.from_numpy(heard.samples)[None])[0]
        return (heard if len(mels) else "shorter than one frame"), mels

    waiting: deque[tuple[Recording, Future[tuple[Heard | str, Tensor]]]] = deque()
    rest = iter(recordings)
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        for recording in itertools.islice(rest, _LOOKAHEAD * max(1, jobs)):
            waiting.append((recording, pool.submit(hear, recording)))
        while waiting:
            recording, answer = waiting.popleft()
            for after in itertools.islice(rest, 1):
                waiting.append((after, pool.submit(hear, after)))
            heard, mels = answer.result()
            yield recording, heard, mels


def _check_known(
    folder: Path,
    records: Sequence[Mapping[str, Any]],
    recordings: Sequence[Recording],
    known: Mapping[str, str],
    spec: MelSpec,
) -> None:
    for record in records:
        if record["mel_digest"] != spec.digest:
            raise DataError(f"{folder}: holds log-mels of another kind ({record['mel_spec']}); name an empty folder")
    seen: set[str] = set()
    for recording in recordings:
        if recording.name in seen:
            raise DataError(f"{recording.name!r} stands twice among what is to be prepared; names must be unique")
        seen.add(recording.name)
        if known.get(recording.name, recording.stamp) != recording.stamp:
            raise DataError(f"{recording.name!r} changed since {folder} was prepared; prepare into an empty folder")
