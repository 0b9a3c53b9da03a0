"""Prepared speech as units: clips that are read on access, and windows determined by a seed and a step."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cdslm_eval.core.audio import Clip
from cdslm_eval.core.clips import Source, decode
from cdslm_eval.core.errors import AudioError
from cdslm_model import DataError, LogMel, Shards, random_source

__all__ = ["Prompt", "ShardClip", "UnitWindows", "shard_clips", "stretches"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ShardClip:
    """A clip of prepared speech; its samples are read from the file that it was prepared from.

    Attributes:
        shards: Folder of the clip.
        start, stop: Its frames.
        path: The file that it was prepared from.
    """

    shards: Shards
    start: int
    stop: int
    path: str

    def log_mel(self) -> Tensor:
        """Return the log-mel `[frames, mels]`."""
        return self.shards.read(self.start, self.stop)

    def samples(self, rate_hz: int) -> npt.NDArray[np.float32]:
        """Return samples at a rate."""
        try:
            return decode(Source(key=self.path, path=self.path)).at_rate(rate_hz).samples
        except AudioError as error:
            raise DataError(
                f"an encoder reads the audio that {self.shards.folder} was prepared from, and that cannot be read: "
                f"{error}"
            ) from error


@dataclass(frozen=True)
class Prompt:
    """A clip to be continued.

    Attributes:
        clip: The clip.
        mels: Recipe of the log-mels.
    """

    clip: Clip
    mels: LogMel

    @cached_property
    def _at_rate(self) -> npt.NDArray[np.float32]:
        return self.clip.at_rate(self.mels.spec.rate_hz).samples

    def log_mel(self) -> Tensor:
        """Return the log-mel `[frames, mels]`."""
        with torch.inference_mode():
            log_mel: Tensor = self.mels(torch.from_numpy(np.ascontiguousarray(self._at_rate))[None])[0]
        return log_mel

    def samples(self, rate_hz: int) -> npt.NDArray[np.float32]:
        """Return samples at a rate."""
        return self.clip.at_rate(rate_hz).samples


def shard_clips(shards: Shards) -> list[ShardClip]:
    """Return the clips of prepared speech, in order."""
    ends = itertools.accumulate((clip["frames"] for clip in shards.clips), initial=0)
    return [
        ShardClip(shards, start, stop, clip["name"])
        for (start, stop), clip in zip(itertools.pairwise(ends), shards.clips, strict=True)
    ]


def stretches(
    counts: Sequence[int] | Ints, speakers: Sequence[int] | Ints, *, join_speakers: bool
) -> tuple[Ints, Ints]:
    """Return first token and length of the stretches in which windows may lie, int64 `[stretches]` each.

    Args:
        counts: Tokens of each clip.
        speakers: Number of the speaker of each, negative where unknown.
        join_speakers: Whether adjacent clips of one speaker count as one stretch.
    """
    codes, ends = np.asarray(speakers), np.cumsum(counts, dtype=np.int64)
    opens = np.ones(len(ends), bool)
    if join_speakers:
        # two clips of unknown speakers need not be of the same one
        opens[1:] = (codes[1:] < 0) | (codes[1:] != codes[:-1])
    first = np.flatnonzero(opens)
    starts = np.concatenate([[0], ends[:-1]])[first]
    return starts, ends[np.append(first[1:], len(ends)) - 1] - starts


class UnitWindows:
    """Windows of tokens, each determined by a seed, a step and its row in the batch.

    Training draws without replacement, as that of the diffusion model: in an epoch each stretch is cut into as many
    disjoint windows as fit, from a random start, and all of them are used once, in random order.

    Args:
        clip_tokens: Tokens of each clip.
        speakers: Number of the speaker of each, negative where unknown.
        length: Tokens of a window.
        join_speakers: Whether a window may run over adjacent clips of one speaker.
        folder: For messages.
        seconds: Duration of a window, for messages.

    Attributes:
        left_out: Share of the tokens in stretches shorter than a window.
        usable: Tokens in the others.
        per_epoch: Windows of one epoch.

    Raises:
        DataError: No stretch is as long as a window.
    """

    def __init__(
        self,
        clip_tokens: Sequence[Ints],
        speakers: Sequence[int] | Ints,
        length: int,
        *,
        join_speakers: bool,
        folder: Path,
        seconds: float,
    ) -> None:
        self.length = length
        self._tokens = np.concatenate(clip_tokens)
        starts, lengths = stretches([len(tokens) for tokens in clip_tokens], speakers, join_speakers=join_speakers)
        fits = lengths >= length
        if not fits.any():
            raise DataError(
                f"{folder}: no clip is as long as a window of {length} units ({seconds:g} s; the longest has "
                f"{lengths.max()}); shorten --context-seconds and --continuation-seconds"
                + ("" if join_speakers else ", or join the clips of each speaker with --join-speakers")
            )
        self.left_out = float(lengths[~fits].sum() / max(1, lengths.sum()))
        self.usable = int(lengths[fits].sum())
        self._starts = starts[fits]
        self._positions = np.cumsum(lengths[fits] - length + 1)
        self._counts, self._slack = lengths[fits] // length, lengths[fits] % length
        self.per_epoch = int(self._counts.sum())
        self._epochs: dict[tuple[int, int], Ints] = {}

    def window(self, position: float) -> Ints:
        """Return the tokens at a position in [0, 1) of all windows, int64 `[length]`."""
        index = int(position * self._positions[-1])
        stretch = int(np.searchsorted(self._positions, index, "right"))
        before = int(self._positions[stretch - 1]) if stretch else 0
        return self._read(int(self._starts[stretch]) + index - before)

    def batch(self, seed: int, step: int, rows: Sequence[int], size: int) -> Tensor:
        """Return the windows in some rows of a step's batch, int64 `[rows, length]`.

        Args:
            seed: The run's.
            step: Counts from 0.
            rows: Of 0 .. size - 1.
            size: Windows in the whole batch.
        """
        # by their number in the whole run: a resumed run, or one on more processes, draws the same windows
        places = [divmod(step * size + row, self.per_epoch) for row in rows]
        drawn = [self._read(int(self._epoch(seed, epoch)[place])) for epoch, place in places]
        return torch.from_numpy(np.stack(drawn))

    def spread(self, count: int) -> Tensor:
        """Return windows that lie evenly over the data, int64 `[count, length]`: the validation set."""
        return torch.from_numpy(np.stack([self.window((index + 0.5) / count) for index in range(count)]))

    def _read(self, start: int) -> Ints:
        return self._tokens[start : start + self.length]

    def _epoch(self, seed: int, epoch: int) -> Ints:
        """Return the first tokens of an epoch's windows, in its random order."""
        if (seed, epoch) not in self._epochs:
            source = random_source(seed, "epoch", epoch)
            phases = (source.random(len(self._starts)) * (self._slack + 1)).astype(np.int64)
            first = np.cumsum(self._counts) - self._counts
            within = np.arange(self.per_epoch) - np.repeat(first, self._counts)
            starts = np.repeat(self._starts + phases, self._counts) + within * self.length
            # a batch lies in two epochs at most, and they follow each other
            self._epochs = {key: order for key, order in self._epochs.items() if key == (seed, epoch - 1)}
            self._epochs[seed, epoch] = starts[np.argsort(source.random(self.per_epoch), kind="stable")]
        return self._epochs[seed, epoch]
