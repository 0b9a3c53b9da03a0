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

from cdslm_model.data.clip_table import DIGEST_DIGITS
from cdslm_model.data.mel import LogMel, MelSpec
from cdslm_model.data.shard import Draft, shard_paths, shard_record
from cdslm_model.data.storage import STORAGES, Storage
from cdslm_model.errors import DataError
from cdslm_model.files import locked

__all__ = ["Heard", "Prepared", "Recording", "prepare"]

SHARD_FRAMES = 1 << 17
"""Frames after which a shard is closed (27 minutes of speech); what an interrupted call loses at most."""
_LOOKAHEAD = 4


@dataclass(frozen=True, slots=True)
class Heard:
    """What is known of a recording once all of it was decoded.

    Attributes:
        digest: SHA-256 of the decoded content, by which the same speech is known under two names.
        speaker: Who says it, where it is known.
    """

    digest: str
    speaker: str | None


class Recording(Protocol):
    """What `prepare` wants to know of one clip of any set."""

    @property
    def name(self) -> str:
        """Name, unique among all that go into one folder."""

    @property
    def stamp(self) -> str:
        """What changes when the file does: its size and time."""

    def hear(self, rate_hz: int, take: Callable[[npt.NDArray[np.float32]], None]) -> Heard:
        """Decode it at a rate and hand its samples to `take`, mono float32, piece by piece.

        Raises:
            DataError: That cannot be done, or there is nothing to be heard in it.
        """


@dataclass(slots=True)
class Prepared:
    """What a call of `prepare` came to.

    Attributes:
        clips: Recordings that are in the folder now.
        frames: Frames that are in the folder now.
        bytes: What the folder takes on the disk now.
        added: Recordings that this call added.
        left_out: Name of each recording that could not be used -> why.
    """

    clips: int = 0
    frames: int = 0
    bytes: int = 0
    added: int = 0
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)

    def count(self, shard: Draft, size: int) -> None:
        """Count a shard that was written."""
        self.clips += len(shard.clips)
        self.frames += shard.frames
        self.bytes += size


def prepare(
    recordings: Sequence[Recording],
    folder: Path,
    spec: MelSpec,
    *,
    storage: Storage = STORAGES["float16"],
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Write the log-mels of recordings into shards; those that are in the folder already are passed over.

    Args:
        recordings: Any set of clips.
        folder: Where the shards stand; one call at a time.
        spec: How speech becomes log-mels; must be that of the shards that are there.
        storage: How log-mels are stored; must be that of the shards that are there.
        jobs: Threads that decode.
        progress: Called with recordings done and in all.

    Raises:
        DataError: No recording can be used, a name stands twice, a recording changed since, or the disk is full.
    """
    with locked(folder, "cdslm prepare"):
        known, report = _known(folder, spec, storage)
        _check(folder, recordings, known)
        fresh = [recording for recording in recordings if recording.name not in known]
        shard, number = Draft(storage), len(shard_paths(folder))
        done = len(recordings) - len(fresh)
        for recording, heard, log_mel in _heard(fresh, LogMel(spec), storage, jobs):
            done += 1
            if progress:
                progress(done, len(recordings))
            if isinstance(heard, str):
                report.left_out[recording.name] = heard
                continue
            shard.add(
                {
                    "name": recording.name,
                    "stamp": recording.stamp,
                    "digest": heard.digest[:DIGEST_DIGITS],
                    "speaker": heard.speaker,
                },
                log_mel,
            )
            report.added += 1
            if shard.frames >= SHARD_FRAMES:
                report.count(shard, shard.close(folder, number, spec))
                shard, number = Draft(storage), number + 1
        if shard.clips:
            report.count(shard, shard.close(folder, number, spec))
        if not report.clips:
            name, why = next(iter(report.left_out.items()), ("", "there is none"))
            raise DataError(f"{folder}: no recording can be used; the first: {name}: {why}")
        return report


Answer = tuple["Heard | str", npt.NDArray[Any]]


def _heard(
    recordings: Sequence[Recording], log_mel: LogMel, storage: Storage, jobs: int
) -> Iterator[tuple[Recording, Heard | str, npt.NDArray[Any]]]:
    """Yield recordings with their log-mels, in order, made a few ahead in threads; a string says why there is none."""

    def hear(recording: Recording) -> Answer:
        """Decode and transform one; of its samples no more than a piece is held."""
        stream = log_mel.stream()
        mels = [np.zeros((0, log_mel.spec.mels), storage.gathered)]

        def keep(made: Tensor) -> None:
            if not made.isfinite().all():
                raise DataError("too loud: its spectrum overflows")
            mels.append(made.numpy().astype(storage.gathered))

        try:
            with torch.inference_mode():
                heard = recording.hear(log_mel.spec.rate_hz, lambda piece: keep(stream.add(torch.from_numpy(piece))))
                keep(stream.end())
        except DataError as error:
            return str(error), mels[0]
        whole = np.concatenate(mels)
        return (heard if len(whole) else "shorter than one frame"), whole

    waiting: deque[tuple[Recording, Future[Answer]]] = deque()
    rest = iter(recordings)
    pool = ThreadPoolExecutor(max(1, jobs))
    try:
        for recording in itertools.islice(rest, _LOOKAHEAD * max(1, jobs)):
            waiting.append((recording, pool.submit(hear, recording)))
        while waiting:
            recording, answer = waiting.popleft()
            for after in itertools.islice(rest, 1):
                waiting.append((after, pool.submit(hear, after)))
            heard, mels = answer.result()
            yield recording, heard, mels
    finally:
        # Who is interrupted need not wait for what was only planned
        pool.shutdown(cancel_futures=True)


def _known(folder: Path, spec: MelSpec, storage: Storage) -> tuple[dict[str, str], Prepared]:
    """Return name -> stamp of each clip that is in a folder, and what there is of them in all."""
    known: dict[str, str] = {}
    report = Prepared()
    for path in shard_paths(folder):
        record = shard_record(path)
        if record["mel_digest"] != spec.digest:
            raise DataError(f"{folder}: holds log-mels of another kind ({record['mel_spec']}); name an empty folder")
        if record["dtype"] != storage.name:
            raise DataError(
                f"{folder}: holds {record['dtype']} log-mels, and {storage.name} was asked for; say --dtype "
                f"{record['dtype']}, or name an empty folder"
            )
        known.update((clip["name"], clip["stamp"]) for clip in record["clips"])
        report.frames += record["frames"]
        report.bytes += path.stat().st_size + path.with_suffix(".npy").stat().st_size
    report.clips = len(known)
    return known, report


def _check(folder: Path, recordings: Sequence[Recording], known: Mapping[str, str]) -> None:
    """Refuse a name that stands twice, and a recording that is not what it was."""
    seen: set[str] = set()
    for recording in recordings:
        if recording.name in seen:
            raise DataError(f"{recording.name!r} stands twice among what is to be prepared; names must be unique")
        seen.add(recording.name)
        if known.get(recording.name, recording.stamp) != recording.stamp:
            raise DataError(f"{recording.name!r} changed since {folder} was prepared; prepare into an empty folder")
