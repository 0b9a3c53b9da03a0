"""Write recordings into shards of log-mels; an interrupted call loses its last shard only."""

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

__all__ = ["Prepared", "Recording", "RecordingFacts", "prepare"]

SHARD_FRAMES = 1 << 17
"""Frames after which a shard is closed (27 minutes of speech); what an interrupted call loses at most."""
_LOOKAHEAD = 4


@dataclass(frozen=True, slots=True)
class RecordingFacts:
    """Facts of a recording that are known once all of it is decoded.

    Attributes:
        digest: SHA-256 of the decoded content, by which the same speech is known under two names.
        speaker: Its speaker, None where unknown.
        language: Its language, None where unknown.
        source: Name of the set that it comes from, None where it has none.
    """

    digest: str
    speaker: str | None
    language: str | None = None
    source: str | None = None


class Recording(Protocol):
    """One clip of any set, as `prepare` reads it."""

    @property
    def name(self) -> str:
        """Name, unique among all recordings of one folder."""

    @property
    def stamp(self) -> str:
        """Size and time of the file, which change when it does."""

    def decode(self, rate_hz: int, consume: Callable[[npt.NDArray[np.float32]], None]) -> RecordingFacts:
        """Decode it at a rate and pass its samples to `consume`, mono float32, piece by piece.

        Raises:
            DataError: It cannot be decoded, or is silent.
        """


@dataclass(slots=True)
class Prepared:
    """Counts of a call of `prepare`.

    Attributes:
        clips: Recordings that are in the folder now.
        frames: Frames that are in the folder now.
        bytes: Size of the folder on disk now.
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
    """Write the log-mels of recordings into shards, skipping those that are in the folder already.

    Args:
        recordings: Any set of clips.
        folder: Of the shards; one call at a time.
        spec: Mel spec, equal to that of the shards that exist.
        storage: Encoding on disk, equal to that of the shards that exist.
        jobs: Threads that decode.
        progress: Called with recordings done and in all.

    Raises:
        DataError: No recording can be used, a name occurs twice, a recording changed since, or the disk is full.
    """
    with locked(folder, "cdslm prepare"):
        known, report = _known(folder, spec, storage)
        _check(folder, recordings, known)
        fresh = [recording for recording in recordings if recording.name not in known]
        # counts shards with a JSON: log-mels that a killed call left without one are overwritten
        shard, number = Draft(storage), len(shard_paths(folder))
        done = len(recordings) - len(fresh)
        for recording, facts, log_mel in _log_mels(fresh, LogMel(spec), storage, jobs):
            done += 1
            if progress:
                progress(done, len(recordings))
            if isinstance(facts, str):
                report.left_out[recording.name] = facts
                continue
            shard.add(
                {
                    "name": recording.name,
                    "stamp": recording.stamp,
                    "digest": facts.digest[:DIGEST_DIGITS],
                    "speaker": facts.speaker,
                    # columns that are not known are left out: there may be a million clips
                    **({"language": facts.language} if facts.language else {}),
                    **({"source": facts.source} if facts.source else {}),
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


Result = tuple["RecordingFacts | str", npt.NDArray[Any]]


def _log_mels(
    recordings: Sequence[Recording], log_mel: LogMel, storage: Storage, jobs: int
) -> Iterator[tuple[Recording, RecordingFacts | str, npt.NDArray[Any]]]:
    """Yield recordings with facts and log-mels in order, computed ahead in threads; a string is a reason to skip."""

    def transform(recording: Recording) -> Result:
        """Decode and transform a recording, with no more than a piece of its samples in memory."""
        stream = log_mel.stream()
        mels = [np.zeros((0, log_mel.spec.mels), storage.gathered)]

        def add(frames: Tensor) -> None:
            if not frames.isfinite().all():
                raise DataError("too loud: its spectrum overflows")
            mels.append(frames.numpy().astype(storage.gathered))

        try:
            with torch.inference_mode():
                facts = recording.decode(log_mel.spec.rate_hz, lambda piece: add(stream.add(torch.from_numpy(piece))))
                add(stream.end())
        except DataError as error:
            return str(error), mels[0]
        whole = np.concatenate(mels)
        return (facts if len(whole) else "shorter than one frame"), whole

    waiting: deque[tuple[Recording, Future[Result]]] = deque()
    rest = iter(recordings)
    pool = ThreadPoolExecutor(max(1, jobs))
    try:
        # bounded: results wait in memory behind a long recording, because order is kept
        for recording in itertools.islice(rest, _LOOKAHEAD * max(1, jobs)):
            waiting.append((recording, pool.submit(transform, recording)))
        while waiting:
            recording, future = waiting.popleft()
            for after in itertools.islice(rest, 1):
                waiting.append((after, pool.submit(transform, after)))
            facts, mels = future.result()
            yield recording, facts, mels
    finally:
        # An interrupt need not wait for recordings that were only queued
        pool.shutdown(cancel_futures=True)


def _known(folder: Path, spec: MelSpec, storage: Storage) -> tuple[dict[str, str], Prepared]:
    """Return name -> stamp of each clip that is in a folder, and the counts of the folder."""
    known: dict[str, str] = {}
    report = Prepared()
    for path in shard_paths(folder):
        record = shard_record(path)
        if record["mel_digest"] != spec.digest:
            raise DataError(f"{folder}: holds log-mels of another kind ({record['mel_spec']}); name an empty folder")
        if record["dtype"] != storage.name:
            raise DataError(
                f"{folder}: holds {record['dtype']} log-mels, not {storage.name}; use --dtype "
                f"{record['dtype']}, or name an empty folder"
            )
        known.update((clip["name"], clip["stamp"]) for clip in record["clips"])
        report.frames += record["frames"]
        report.bytes += path.stat().st_size + path.with_suffix(".npy").stat().st_size
    report.clips = len(known)
    return known, report


def _check(folder: Path, recordings: Sequence[Recording], known: Mapping[str, str]) -> None:
    """Raise on a name that occurs twice, or a recording that changed."""
    seen: set[str] = set()
    for recording in recordings:
        if recording.name in seen:
            raise DataError(f"{recording.name!r} occurs twice among the recordings; names must be unique")
        seen.add(recording.name)
        # shards are only ever added, so that a changed recording cannot replace its earlier version
        if known.get(recording.name, recording.stamp) != recording.stamp:
            raise DataError(f"{recording.name!r} changed since {folder} was prepared; prepare into an empty folder")
