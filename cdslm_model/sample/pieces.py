"""Samples of log-mels that arrive in parts: pieces of one size with their neighbours, as from the whole."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from cdslm_model.sample.vocoder import Vocoder

__all__ = ["Decode", "SampleStream", "sample_stream"]

Decode = Callable[[Tensor, int, int, Tensor], Tensor]
"""(frames `[batch, lead + length + ahead, mels]`, lead, length, known samples of the lead) -> samples of the piece."""


class SampleStream:
    """Decodes log-mels piece by piece; where they are cut when they arrive does not matter.

    Args:
        decode: Returns the samples `[batch, length * hop]` of one piece.
        hop: Samples of a frame.
        size: Frames of a piece; the last one may be shorter.
        before: Frames before a piece that `decode` gets, with their samples, where there are as many.
        after: Frames after it, likewise: a piece waits for them.
    """

    def __init__(self, decode: Decode, hop: int, size: int, before: int = 0, after: int = 0) -> None:
        self._decode, self._hop = decode, hop
        self._size, self._before, self._after = size, before, after
        self._frames: Tensor | None = None
        self._known: Tensor | None = None
        self._lead = 0

    def push(self, log_mel: Tensor, *, last: bool = False) -> Tensor:
        """Add frames `[batch, frames, mels]` and return the samples `[batch, samples]` that are complete by them.

        Args:
            log_mel: The next frames.
            last: Whether none follow: all samples are complete.
        """
        frames = log_mel if self._frames is None else torch.cat((self._frames, log_mel), 1)
        known = log_mel.new_empty(len(log_mel), 0) if self._known is None else self._known
        lead = self._lead
        pieces = []
        while (rest := frames.shape[1] - lead) >= self._size + self._after or (last and rest > 0):
            length = min(self._size, rest)
            pieces.append(self._decode(frames[:, : lead + length + self._after], lead, length, known))
            end = lead + length
            lead = min(self._before, end)
            frames = frames[:, end - lead :]
            known = torch.cat((known, pieces[-1]), 1)
            known = known[:, known.shape[1] - lead * self._hop :]
        self._frames, self._known, self._lead = frames, known, lead
        return torch.cat(pieces, 1) if pieces else log_mel.new_empty(len(log_mel), 0)


def sample_stream(vocoder: Vocoder) -> SampleStream:
    """Return a stream through a vocoder: its own `stream()`, else one that decodes the whole clip at its end."""
    own: Callable[[], SampleStream] | None = getattr(vocoder, "stream", None)
    if own is not None:
        return own()

    def whole(log_mel: Tensor, *neighbours: int | Tensor) -> Tensor:
        del neighbours  # there are none: one piece is the whole clip
        return vocoder(log_mel)

    return SampleStream(whole, vocoder.spec.hop, sys.maxsize)
