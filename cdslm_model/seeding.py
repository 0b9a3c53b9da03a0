"""Random numbers keyed by a seed and a place, so that they depend on neither batch, order nor process."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["clip_noise", "random_source"]


def random_source(seed: int, *key: int | str) -> np.random.Generator:
    """Return the random source of one key, such as a clip: Philox, keyed by a hash of seed and key."""
    name = "\x1f".join(map(repr, (seed, *key))).encode()
    digest = np.frombuffer(hashlib.blake2b(name, digest_size=16).digest(), "<u8")
    return np.random.Generator(np.random.Philox(key=digest))


def clip_noise(seed: int, clip: int | str, frames: int, mels: int) -> Tensor:
    """Return the noise of one clip, float32 `[frames, mels]`, drawn frame by frame from the clip's own source.

    Frame f is the same however many frames follow it, whatever else is in the batch, and in whichever process.
    """
    import torch

    return torch.from_numpy(random_source(seed, "noise", clip).standard_normal((frames, mels), np.float32))
