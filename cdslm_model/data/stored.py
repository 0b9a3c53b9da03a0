"""Windows as they are stored, and their decoding and normalising on the device that computes with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cdslm_model.data.mel import Normalizer
from cdslm_model.data.storage import Storage

__all__ = ["Decoder", "StoredWindows"]


@dataclass(frozen=True, slots=True)
class StoredWindows:
    """Windows of log-mels in the encoding of their shards: a half or a quarter of the bytes of float32.

    Attributes:
        codes: Of the storage's type, `[windows, frames, mels]`.
        shards: Number of the shard of each frame, int32 `[windows, frames]`: speech of one speaker runs on into the
            next shard, whose scale differs.
    """

    codes: Tensor
    shards: Tensor

    def __len__(self) -> int:
        return len(self.codes)

    def pinned(self) -> StoredWindows:
        """Return a copy in page-locked memory, which a GPU reads while the CPU works on."""
        return StoredWindows(self.codes.pin_memory(), self.shards.pin_memory())

    def to(self, device: torch.device) -> StoredWindows:
        """Return the windows on a device; the copy may still be under way."""
        return StoredWindows(self.codes.to(device, non_blocking=True), self.shards.to(device, non_blocking=True))

    def split(self, size: int) -> Iterator[StoredWindows]:
        """Yield pieces of at most `size` windows."""
        for codes, shards in zip(torch.split(self.codes, size), torch.split(self.shards, size), strict=True):
            yield StoredWindows(codes, shards)

    def every(self, stride: int, first: int) -> StoredWindows:
        """Return every stride-th window from number `first` on."""
        return StoredWindows(self.codes[first::stride], self.shards[first::stride])


class Decoder:
    """Turns stored windows into normalised log-mels, on the device that holds them.

    Args:
        storage: The encoding.
        scale: Its constants, `[shards, mels]` each.
        normalizer: Scales log-mels to mean 0 and deviation 1.
        device: Of the windows.
    """

    def __init__(
        self, storage: Storage, scale: Mapping[str, Tensor], normalizer: Normalizer, device: torch.device | str
    ) -> None:
        self._storage = storage
        self._scale = {name: values.to(device) for name, values in scale.items()}
        # moved once: a compiled function would copy them from the CPU at every step
        self._normalizer = normalizer.to(device)

    def __call__(self, windows: StoredWindows) -> Tensor:
        """Return normalised log-mels, float32 `[windows, frames, mels]`."""
        scale = {name: values[windows.shards] for name, values in self._scale.items()}
        return self._normalizer.normalize(self._storage.decode_tensor(windows.codes, scale))
