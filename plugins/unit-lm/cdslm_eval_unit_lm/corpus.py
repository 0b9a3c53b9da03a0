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

__all__ = ["Prompt", "ShardClip", "UnitWindows", "shard_clips"]

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


class UnitWindows:
    """Windows of tokens, each determined by a seed, a step and its row in the batch; all positions equally likely.

    Args:
        clip_tokens: Tokens of each clip.
        speakers: Speaker of each, None where unknown.
        length: Tokens of a window.
        join_speakers: Whether a window may run over adjacent clips of one speaker.
        folder: For messages.
        seconds: Duration of a window, for messages.

    Attributes:
        left_out: Share of the tokens in stretches shorter than a window.

    Raises:
        DataError: No stretch is as long as a window.
    """

    def __init__(
        self,
        clip_tokens: Sequence[Ints],
        speakers: Sequence[str | None],
        length: int,
        *,
        join_speakers: bool,
        folder: Path,
        seconds: float,
    ) -> None:
        self.length = length
        self._tokens = np.concatenate(clip_tokens)
        opens = [True] + [
            # two clips of unknown speakers need not be of the same one
            not join_speakers or speaker is None or speaker != before
            for before, speaker in itertools.pairwise(speakers)
        ]
        first = np.flatnonzero(opens)
        ends = np.cumsum([len(tokens) for tokens in clip_tokens])
        starts = np.concatenate([[0], ends[:-1]])[first]
        lengths = ends[np.append(first[1:], len(clip_tokens)) - 1] - starts
        fits = lengths >= length
        if not fits.any():
            raise DataError(
                f"{folder}: no clip is as long as a window of {length} units ({seconds:g} s; the longest has "
                f"{lengths.max()}); shorten --context-seconds and --continuation-seconds"
                + ("" if join_speakers else ", or join the clips of each speaker with --join-speakers")
            )
        self.left_out = float(lengths[~fits].sum() / max(1, lengths.sum()))
        self._starts = starts[fits]
        self._positions = np.cumsum(lengths[fits] - length + 1)

    def window(self, position: float) -> Ints:
        """Return the tokens at a position in [0, 1) of all windows, int64 `[length]`."""
        index = int(position * self._positions[-1])
        stretch = int(np.searchsorted(self._positions, index, "right"))
        before = int(self._positions[stretch - 1]) if stretch else 0
        start = int(self._starts[stretch]) + index - before
        return self._tokens[start : start + self.length]

    def batch(self, seed: int, step: int, size: int) -> Tensor:
        """Return a step's windows, int64 `[size, length]`."""
        drawn = [self.window(random_source(seed, "window", step, row).random()) for row in range(size)]
        return torch.from_numpy(np.stack(drawn))

    def spread(self, count: int) -> Tensor:
        """Return windows that lie evenly over the data, int64 `[count, length]`: the validation set."""
        return torch.from_numpy(np.stack([self.window((index + 0.5) / count) for index in range(count)]))
