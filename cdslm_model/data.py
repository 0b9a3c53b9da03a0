"""Prepared speech: shards that are memory-mapped, and windows that a step number and a seed determine."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cdslm_model.errors import DataError
from cdslm_model.files import read_json
from cdslm_model.mel import MelSpec, Normalizer
from cdslm_model.sampling import random_source

__all__ = ["Shards", "Windows", "shard_records"]


def shard_records(folder: Path) -> list[dict[str, Any]]:
    """Return what is known of each shard that is whole, in order."""
    return [read_json(path, DataError) for path in sorted(folder.glob("shard-*.json"))]


class Shards:
    """A folder that `prepare` wrote, memory-mapped.

    Args:
        folder: The folder.

    Attributes:
        spec: How its speech became log-mels.
        frames: Frames in all.
        digests: Content digest of each clip -> its name.

    Raises:
        DataError: There are no shards in the folder, or they are damaged.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        records = shard_records(self.folder)
        if not records:
            raise DataError(f"{folder}: no prepared speech in it; make some with: cdslm prepare AUDIO --out {folder}")
        self.spec = MelSpec(**records[0]["mel_spec"])
        if any(record["mel_digest"] != self.spec.digest for record in records):
            raise DataError(f"{folder}: its shards are of different mel specs; prepare it anew in an empty folder")
        self._mels = [self._mapped(number, record) for number, record in enumerate(records)]
        self.starts = np.cumsum([0, *(record["frames"] for record in records)])
        self.frames = int(self.starts[-1])
        self.clips: list[dict[str, Any]] = [clip for record in records for clip in record["clips"]]
        self.digests = {clip["digest"]: clip["name"] for clip in self.clips}
        self._sums = np.sum([record["sum"] for record in records], axis=0)
        self._squares = np.sum([record["sum_of_squares"] for record in records], axis=0)

    def _mapped(self, number: int, record: Mapping[str, Any]) -> npt.NDArray[np.float16]:
        path = self.folder / f"shard-{number:05d}.npy"
        try:
            mels: npt.NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path}: missing or damaged ({error}); prepare the folder anew") from error
        if mels.shape != (record["frames"], self.spec.mels) or mels.dtype != np.float16:
            raise DataError(f"{path}: damaged: {mels.shape} {mels.dtype}, not what its list of clips says")
        return mels

    def normalizer(self) -> Normalizer:
        """Return the mean and standard deviation of each mel band over all frames."""
        mean = self._sums / self.frames
        variance = np.maximum(self._squares / self.frames - mean**2, 0.0)
        # A band that never moves has nothing to be scaled by.
        deviation = np.where(variance > 1e-6, np.sqrt(variance), 1.0)
        return Normalizer(torch.from_numpy(mean).float(), torch.from_numpy(deviation).float())

    def read(self, start: int, stop: int) -> Tensor:
        """Return frames start..stop of all that there are, across shards, float32 `[stop - start, mels]`."""
        parts = [np.zeros((0, self.spec.mels), np.float16)]
        for shard in range(int(np.searchsorted(self.starts, start, "right")) - 1, len(self._mels)):
            first = int(self.starts[shard])
            if first >= stop:
                break
            parts.append(self._mels[shard][max(0, start - first) : stop - first])
        return torch.from_numpy(np.concatenate(parts).astype(np.float32))

    def stretches(self, join_speakers: bool) -> npt.NDArray[np.int64]:
        """Return first and last-but-one frame of what may be cut without crossing a border, `[stretches, 2]`.

        Args:
            join_speakers: Whether adjacent clips of one known speaker count as one stretch.
        """
        ends = np.cumsum([clip["frames"] for clip in self.clips])
        starts = np.concatenate([[0], ends[:-1]])
        opens = [True] + [
            not join_speakers or after["speaker"] is None or after["speaker"] != before["speaker"]
            for before, after in itertools.pairwise(self.clips)
        ]
        first = np.flatnonzero(opens)
        return np.stack([starts[first], ends[np.append(first[1:], len(self.clips)) - 1]], axis=1).astype(np.int64)


class Windows:
    """Windows of context and continuation, each determined by a seed, a step and its place in the batch.

    Every position in every stretch that is long enough is equally likely.

    Args:
        shards: Prepared speech.
        context_frames: Frames of context.
        continuation_frames: Frames that follow it.
        join_speakers: Whether a window may run over adjacent clips of one speaker.

    Attributes:
        left_out_frames: Frames in stretches that are too short for a window.

    Raises:
        DataError: No stretch is as long as a window.
    """

    def __init__(
        self, shards: Shards, context_frames: int, continuation_frames: int, join_speakers: bool = False
    ) -> None:
        self.shards = shards
        self.context_frames = context_frames
        self.frames = context_frames + continuation_frames
        stretches = shards.stretches(join_speakers)
        lengths = stretches[:, 1] - stretches[:, 0]
        fits = lengths >= self.frames
        if not fits.any():
            second = shards.spec.frame_rate
            raise DataError(
                f"{shards.folder}: no clip is as long as a window of {self.frames / second:.2f} s (the longest is "
                f"{lengths.max() / second:.2f} s); shorten --context-seconds and --continuation-seconds"
                + ("" if join_speakers else ", or join the clips of each speaker with --join-speakers")
            )
        self.left_out_frames = int(lengths[~fits].sum())
        self._starts = stretches[fits, 0]
        self._positions = np.cumsum(lengths[fits] - self.frames + 1)

    def window(self, position: float) -> tuple[Tensor, Tensor]:
        """Return context and continuation at a position in [0, 1) of all there are, float32 `[frames, mels]` each."""
        place = int(position * self._positions[-1])
        stretch = int(np.searchsorted(self._positions, place, "right"))
        before = int(self._positions[stretch - 1]) if stretch else 0
        start = int(self._starts[stretch]) + place - before
        mels = self.shards.read(start, start + self.frames)
        return mels[: self.context_frames], mels[self.context_frames :]

    def batch(self, seed: int, step: int, places: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the windows at some places of a step's batch, `[places, frames, mels]` each."""
        drawn = [self.window(random_source(seed, "window", step, place).random()) for place in places]
        contexts, continuations = zip(*drawn, strict=True)
        return torch.stack(contexts), torch.stack(continuations)
