"""Prepared speech: memory-mapped shards, and windows determined by a seed and a step number."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cdslm_model.data.clip_table import ClipTable
from cdslm_model.data.mel import MelSpec, Normalizer
from cdslm_model.data.shard import Shard, shard_paths, shard_record
from cdslm_model.data.storage import find_storage
from cdslm_model.data.stored import Decoder, StoredWindows
from cdslm_model.errors import DataError
from cdslm_model.seeding import random_source

__all__ = ["Shards", "Windows", "read_spec"]

_QUIET_QUANTILE = 0.02
"""Of each mel band: the background of the recordings in their pauses."""
_QUIET_FRAMES = 20_000
"""Frames from which the quantile is estimated, 4 minutes of speech."""


def read_spec(folder: Path) -> MelSpec:
    """Return the mel spec of a folder that `cdslm prepare` wrote, reading its first shard's record only.

    Raises:
        DataError: There are no shards in the folder, or the first one is damaged.
    """
    paths = shard_paths(folder)
    if not paths:
        raise DataError(f"{folder}: no prepared speech in it; Use: cdslm prepare AUDIO --out {folder}")
    return MelSpec(**shard_record(paths[0])["mel_spec"])


class Shards:
    """A folder that `cdslm prepare` wrote, memory-mapped.

    Args:
        folder: The folder.

    Attributes:
        spec: Mel spec of its log-mels.
        storage: Encoding of the values on disk.
        frames: Total frames.
        clips: Name, digest, speaker and frames of each clip, in order.

    Raises:
        DataError: There are no shards in the folder, they are damaged, or of different kinds.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        paths = shard_paths(self.folder)
        self.spec = read_spec(self.folder)
        self.storage = find_storage(shard_record(paths[0])["dtype"])
        self._sums, self._squares = np.zeros(self.spec.mels), np.zeros(self.spec.mels)
        self._shards: list[Shard] = []
        # One shard at a time: a million clips fit as columns, and not as JSON objects
        self.clips = ClipTable(self._open(path) for path in paths)
        self.starts = np.cumsum([0, *(len(shard.stored) for shard in self._shards)])
        self.frames = int(self.starts[-1])

    def _open(self, path: Path) -> list[dict[str, Any]]:
        """Add one shard and return its clips."""
        record = shard_record(path)
        if record["mel_digest"] != self.spec.digest:
            raise DataError(
                f"{self.folder}: its shards are of different mel specs; prepare it again into an empty folder"
            )
        if record["dtype"] != self.storage.name:
            raise DataError(
                f"{self.folder}: {path.stem} holds {record['dtype']} and those before it {self.storage.name}; prepare "
                "it again into an empty folder"
            )
        self._shards.append(Shard.open(path, record))
        self._sums += record["sum"]
        self._squares += record["sum_of_squares"]
        clips: list[dict[str, Any]] = record["clips"]
        return clips

    @property
    def digest(self) -> str:
        """Identity of the content, 64 hex digits: equal if and only if the same clips are stored alike in one order."""
        digest = hashlib.sha256()
        if self.storage.name != "float16":
            # float16 adds nothing, so that runs from before other encodings existed resume
            digest.update(f"{self.storage.name}\n".encode())
        digest.update(b"\n".join(self.clips.digests.tolist()))
        return digest.hexdigest()

    def labels_digest(self, names: Sequence[str]) -> str:
        """Return the identity of some labels of all clips, 64 hex digits.

        Args:
            names: "speaker", of which only equality counts, or labels of `ClipTable.labels`.
        """
        digest = hashlib.sha256()
        for name in names:
            own = self.clips.speakers if name == "speaker" else self.clips.labels[name]
            digest.update(f"{name} {[] if name == 'speaker' else self.clips.label_names(name)}\n".encode())
            digest.update(own.astype("<i4").tobytes())
        return digest.hexdigest()

    def shared(self, other: Shards) -> list[str]:
        """Return the names in this folder of the clips that both folders hold, compared by content."""
        both = np.flatnonzero(np.isin(self.clips.digests, other.clips.digests))
        return [self.clips.name(int(clip)) for clip in both]

    def normalizer(self) -> Normalizer:
        """Return the mean and standard deviation of each mel band over all frames, and the corpus' quiet frame."""
        mean = self._sums / self.frames
        variance = np.maximum(self._squares / self.frames - mean**2, 0.0)
        # A band that never moves has no deviation to divide by
        deviation = np.where(variance > 1e-6, np.sqrt(variance), 1.0)
        return Normalizer(torch.from_numpy(mean).float(), torch.from_numpy(deviation).float(), self._quiet_frame())

    def _quiet_frame(self) -> Tensor:
        """Return a low quantile of each mel band, over frames spread evenly over the folder, `[mels]`."""
        stride = -(-self.frames // _QUIET_FRAMES)
        sample = np.concatenate([shard.every(stride) for shard in self._shards])
        return torch.from_numpy(np.quantile(sample, _QUIET_QUANTILE, axis=0)).float()

    def read(self, start: int, stop: int) -> Tensor:
        """Return frames start..stop of the whole folder, across shards, float32 `[stop - start, mels]`."""
        parts = [np.zeros((0, self.spec.mels), np.float32)]
        for number in range(int(np.searchsorted(self.starts, start, "right")) - 1, len(self._shards)):
            first, shard = int(self.starts[number]), self._shards[number]
            if first >= stop:
                break
            parts.append(shard.read(max(0, start - first), stop - first))
        return torch.from_numpy(np.concatenate(parts))

    def read_stored(self, start: int, stop: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32]]:
        """Return codes `[stop - start, mels]` and shard numbers `[stop - start]` of frames start..stop."""
        codes = np.empty((stop - start, self.spec.mels), self.storage.dtype)
        numbers = np.empty(stop - start, np.int32)
        while start < stop:
            number = int(np.searchsorted(self.starts, start, "right")) - 1
            first, end = int(self.starts[number]), min(stop, int(self.starts[number + 1]))
            rows = slice(len(codes) - (stop - start), len(codes) - (stop - end))
            codes[rows], numbers[rows] = self._shards[number].stored[start - first : end - first], number
            start = end
        return codes, numbers

    def decoder(self, normalizer: Normalizer, device: torch.device | str) -> Decoder:
        """Return what decodes and normalises windows of this folder on a device."""
        names = self._shards[0].scale
        scale = {name: torch.from_numpy(np.stack([shard.scale[name] for shard in self._shards])) for name in names}
        return Decoder(self.storage, scale, normalizer, device)

    def stretches(self, join_speakers: bool) -> npt.NDArray[np.int64]:
        """Return start and stop frames of the stretches in which windows may lie, `[stretches, 2]`.

        Args:
            join_speakers: Whether adjacent clips of one known speaker count as one stretch.
        """
        ends, speakers, sources = np.cumsum(self.clips.frames), self.clips.speakers, self.clips.labels["source"]
        starts = np.concatenate([[0], ends[:-1]])
        opens = np.ones(len(ends), bool)
        if join_speakers:
            # two clips of unknown speakers need not be of the same one
            opens[1:] = (speakers[1:] < 0) | (speakers[1:] != speakers[:-1]) | (sources[1:] != sources[:-1])
        first = np.flatnonzero(opens)
        return np.stack([starts[first], ends[np.append(first[1:], len(ends)) - 1]], axis=1).astype(np.int64)


class Windows:
    """Windows of context and continuation, each determined by a seed, a step and its position in the batch.

    Training draws without replacement: in an epoch each stretch is cut into as many disjoint windows as fit, from a
    random start that is new in every epoch, and all of them are used once, in random order. With replacement a third
    of the speech would be missing from what counts as one epoch.

    Args:
        shards: Prepared speech.
        context_frames: Frames of context.
        continuation_frames: Frames that follow it.
        join_speakers: Whether a window may run over adjacent clips of one speaker.
        clips: Which clips they are of, `[clips]`; None for all.

    Attributes:
        left_out_frames: Frames in stretches that are too short for a window.
        usable_frames: Frames in the others.
        per_epoch: Windows of one epoch.

    Raises:
        DataError: No stretch is as long as a window.
    """

    def __init__(
        self,
        shards: Shards,
        context_frames: int,
        continuation_frames: int,
        join_speakers: bool = False,
        *,
        clips: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self.shards = shards
        self.context_frames = context_frames
        self.frames = context_frames + continuation_frames
        stretches = shards.stretches(join_speakers)
        if clips is not None:
            # a stretch is of one source: what holds for the clip that it begins with holds for all of it
            ends = np.cumsum(shards.clips.frames)
            stretches = stretches[clips[np.searchsorted(ends, stretches[:, 0], "right")]]
        lengths = stretches[:, 1] - stretches[:, 0]
        fits = lengths >= self.frames
        if not fits.any():
            second = shards.spec.frame_rate
            raise DataError(
                f"{shards.folder}: no clip is as long as a window of {self.frames / second:.2f} s (the longest is "
                f"{lengths.max(initial=0) / second:.2f} s); shorten --context-seconds and --continuation-seconds"
                + ("" if join_speakers else ", or join the clips of each speaker with --join-speakers")
            )
        self.left_out_frames, self.usable_frames = int(lengths[~fits].sum()), int(lengths[fits].sum())
        self._starts = stretches[fits, 0]
        self._positions = np.cumsum(lengths[fits] - self.frames + 1)
        self._counts, self._slack = lengths[fits] // self.frames, lengths[fits] % self.frames
        self.per_epoch = int(self._counts.sum())
        self._epochs: dict[tuple[int, int], npt.NDArray[np.int64]] = {}

    def window(self, position: float) -> tuple[Tensor, Tensor]:
        """Return context and continuation at a position in [0, 1) of all windows, float32 `[frames, mels]` each."""
        start = self._start(position)
        mels = self.shards.read(start, start + self.frames)
        return mels[: self.context_frames], mels[self.context_frames :]

    def _start(self, position: float) -> int:
        """Return the first frame of the window at a position in [0, 1) of all windows."""
        index = int(position * self._positions[-1])
        stretch = int(np.searchsorted(self._positions, index, "right"))
        before = int(self._positions[stretch - 1]) if stretch else 0
        return int(self._starts[stretch]) + index - before

    def spread(self, count: int) -> StoredWindows:
        """Return windows that lie evenly over the speech, as they are stored."""
        return self._stored([self._start((index + 0.5) / count) for index in range(count)])

    def spread_labels(self, count: int, label: str) -> list[str | None]:
        """Return the language or source of each window of `spread`: that of the clip it begins in; None: unknown."""
        clips = self.shards.clips
        names, ends = clips.label_names(label), np.cumsum(clips.frames)
        starts = [self._start((index + 0.5) / count) for index in range(count)]
        numbers = clips.labels[label][np.searchsorted(ends, starts, "right")]
        return [names[number] if number >= 0 else None for number in numbers.tolist()]

    def batch(self, seed: int, step: int, rows: Sequence[int], size: int) -> StoredWindows:
        """Return the windows in some rows of a step's batch, as they are stored.

        Args:
            seed: The run's.
            step: Counts from 0.
            rows: Of 0 .. size - 1.
            size: Windows in the whole batch.
        """
        # by their number in the whole run: a resumed run, or one on more processes, draws the same windows
        return self._stored([self.drawn(seed, step * size + row) for row in rows])

    def sources_of(self, draws: int) -> list[tuple[Windows, float]]:
        """Return windows that are drawn without replacement within epochs of their own, each with its draws.

        Args:
            draws: Windows that a run draws in all.
        """
        return [(self, float(draws))]

    def drawn(self, seed: int, number: int) -> int:
        """Return the first frame of a window by its number among all that a run draws."""
        epoch, place = divmod(number, self.per_epoch)
        return int(self._epoch(seed, epoch)[place])

    def _stored(self, starts: Sequence[int]) -> StoredWindows:
        read = [self.shards.read_stored(start, start + self.frames) for start in starts]
        codes, numbers = (torch.from_numpy(np.stack(part)) for part in zip(*read, strict=True))
        return StoredWindows(codes, numbers)

    def _epoch(self, seed: int, epoch: int) -> npt.NDArray[np.int64]:
        """Return the first frames of an epoch's windows, in its random order."""
        order = self._epochs.get((seed, epoch))
        if order is None:
            source = random_source(seed, "epoch", epoch)
            phases = (source.random(len(self._starts)) * (self._slack + 1)).astype(np.int64)
            first = np.cumsum(self._counts) - self._counts
            within = np.arange(self.per_epoch) - np.repeat(first, self._counts)
            starts = np.repeat(self._starts + phases, self._counts) + within * self.frames
            order = starts[np.argsort(source.random(self.per_epoch), kind="stable")]
            # a batch lies in two epochs at most, and they follow each other; replaced as a whole, as other threads read
            self._epochs = {
                key: kept for key, kept in self._epochs.items() if key in {(seed, epoch - 1), (seed, epoch + 1)}
            } | {(seed, epoch): order}
        return order
