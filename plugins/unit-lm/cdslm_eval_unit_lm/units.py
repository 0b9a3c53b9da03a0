"""Units: clusters of features, with tables of their mean log-mels and durations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cdslm_eval_unit_lm.features import Features, Speech
from cdslm_model import CheckpointError, DataError

__all__ = ["LONGEST_RUN", "Units", "fit_centroids", "runs", "tables"]

Ints = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]
LONGEST_RUN = 64
"""Longest run of a unit that the table of durations knows; a longer one counts as this."""
_SAMPLE = 200_000
_CHUNK = 8192


@dataclass(frozen=True, slots=True)
class Units:
    """Clusters and their two tables.

    Attributes:
        centroids: float32 `[units, dimensions]`.
        mels: Mean log-mel of the frames at each position of a unit, from its beginning to its end, float32
            `[units, positions, mels]`.
        durations: Count of the runs of 1, 2, ... `LONGEST_RUN` repetitions of each, float32 `[units, LONGEST_RUN]`.
        rate_hz: Units a second.
        frame_rate: Mel frames a second.
    """

    centroids: Vectors
    mels: Vectors
    durations: Vectors
    rate_hz: float
    frame_rate: float

    def of(self, vectors: Vectors) -> Ints:
        """Return the nearest cluster of each vector, int64 `[vectors]`."""
        return nearest(self.centroids, vectors)

    def log_mel(self, units: Ints, frames: int) -> Tensor:
        """Return the mean log-mels of a sequence of units, float32 `[frames, mels]`."""
        owners, positions = self.alignment(frames, len(units))
        return torch.from_numpy(self.mels[units[owners], positions])

    def alignment(self, frames: int, count: int) -> tuple[Ints, Ints]:
        """Return the unit of `count` that each mel frame belongs to and its position in it, int64 `[frames]` each."""
        return _alignment(frames, count, self.rate_hz / self.frame_rate, self.mels.shape[1])

    def draw_run(self, unit: int, draw: float) -> int:
        """Return the length of a run of a unit, drawn from its table of durations.

        Args:
            unit: Number of the unit.
            draw: Uniform in [0, 1).
        """
        counts = self.durations[unit].cumsum()
        return 1 + int(np.searchsorted(counts, draw * counts[-1], "right")) if counts[-1] else 1

    def mean_run(self) -> float:
        """Return the mean length of a run, in units."""
        return float((self.durations * np.arange(1, LONGEST_RUN + 1)).sum() / self.durations.sum())

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of a checkpoint."""
        named = {"centroids": self.centroids, "mels": self.mels, "durations": self.durations}
        return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in named.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], rate_hz: float, frame_rate: float) -> Self:
        """Return the units of the tensors of a checkpoint.

        Raises:
            CheckpointError: The tensors are not units.
        """
        names = ("centroids", "mels", "durations")
        if (
            set(tensors) != set(names)
            or len({len(tensor) for tensor in tensors.values()}) != 1
            or tensors["mels"].ndim != 3
        ):
            raise CheckpointError("the units of the checkpoint are not clusters with their two tables")
        arrays = {name: tensors[name].numpy() for name in names}
        return cls(**arrays, rate_hz=rate_hz, frame_rate=frame_rate)


def fit_centroids(speech: Sequence[Speech], features: Features, count: int, seed: int) -> Vectors:
    """Return the centres of `count` clusters of features, from at most 200 000 vectors of clips drawn at random.

    Args:
        speech: Clips.
        features: Clustered vectors.
        count: Clusters.
        seed: The same seed gives the same clusters.

    Raises:
        DataError: There are fewer vectors than clusters.
    """
    from sklearn.cluster import MiniBatchKMeans

    parts: list[Vectors] = []
    have = 0
    for clip in np.random.default_rng(seed).permutation(len(speech)):
        parts.append(features(speech[clip]))
        have += len(parts[-1])
        if have >= _SAMPLE:
            break
    if have < count:
        raise DataError(f"{have} vectors of speech cannot make {count} clusters; prepare more speech")
    vectors = np.concatenate(parts)
    clusters = MiniBatchKMeans(count, random_state=seed, batch_size=min(4096, have), n_init=3, max_iter=100)
    centres: Vectors = clusters.fit(vectors).cluster_centers_.astype(np.float32)
    return centres


def tables(
    centroids: Vectors, speech: Iterable[Speech], features: Features, frame_rate: float, mels: int
) -> tuple[Units, list[Ints]]:
    """Return units with their tables of mean log-mels and durations, and the units of each clip.

    The mean log-mel of a cluster without frames is that of all frames.

    Raises:
        DataError: No clip is long enough for a unit.
    """
    count, per_frame = len(centroids), features.rate_hz / frame_rate
    positions = math.ceil(1 / per_frame)
    sums, frames = np.zeros((count * positions, mels)), np.zeros(count * positions)
    durations = np.zeros((count, LONGEST_RUN))
    clip_units: list[Ints] = []
    for clip in speech:
        own = nearest(centroids, features(clip))
        clip_units.append(own)
        if not len(own):
            continue
        log_mel = clip.log_mel().double().numpy()
        owners, position = _alignment(len(log_mel), len(own), per_frame, positions)
        rows = own[owners] * positions + position
        # rows repeat, and plain indexed addition would add only one frame to each
        np.add.at(sums, rows, log_mel)
        frames += np.bincount(rows, minlength=len(frames))
        tokens, lengths = runs(own)
        np.add.at(durations, (tokens, np.minimum(lengths, LONGEST_RUN) - 1), 1.0)
    if not frames.sum():
        raise DataError("no clip is long enough for a unit")
    means = np.where(frames[:, None] > 0, sums / np.maximum(frames, 1)[:, None], sums.sum(0) / frames.sum())
    mean_mels = means.reshape(count, positions, mels).astype(np.float32)
    return Units(centroids, mean_mels, durations.astype(np.float32), features.rate_hz, frame_rate), clip_units


def nearest(centroids: Vectors, vectors: Vectors) -> Ints:
    """Return the nearest centroid of each vector, int64 `[vectors]`."""
    # |v - c|^2 is least where v c - |c|^2 / 2 is greatest: one product, and no differences in memory
    squares = np.square(centroids).sum(1) / 2
    parts = np.split(vectors, range(_CHUNK, len(vectors), _CHUNK))
    return np.concatenate([(part @ centroids.T - squares).argmax(1) for part in parts]).astype(np.int64)


def _alignment(frames: int, count: int, units_per_frame: float, positions: int) -> tuple[Ints, Ints]:
    """Return unit and position in it of each mel frame; frames after the last unit belong to it."""
    # a frame belongs to the unit that its centre lies in
    exact = (np.arange(frames) + 0.5) * units_per_frame
    whole = exact.astype(np.int64)
    within = ((exact - whole) * positions).astype(np.int64)
    over = whole >= count
    return np.where(over, count - 1, whole), np.where(over, positions - 1, within)


def runs(units: Ints) -> tuple[Ints, Ints]:
    """Return units without repetitions, and the length of each run.

    Example:
        >>> [part.tolist() for part in runs(np.array([4, 4, 4, 2, 4]))]
        [[4, 2, 4], [3, 1, 1]]
    """
    if not len(units):
        return units, units
    starts = np.flatnonzero(np.concatenate([[True], units[1:] != units[:-1]]))
    return units[starts], np.diff(np.append(starts, len(units)))
