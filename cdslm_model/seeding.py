"""Random numbers keyed by a seed and a place, so that they depend on neither batch, order nor process."""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["key_words", "random_source"]


def random_source(seed: int, *key: int | str) -> np.random.Generator:
    """Return the random source of one key, such as a clip: Philox, keyed by a hash of seed and key."""
    return np.random.Generator(np.random.Philox(key=np.frombuffer(_digest(seed, *key), "<u8")))


def key_words(seed: int, *key: int | str) -> tuple[int, ...]:
    """Return four words in [0, 2^32) of a hash of seed and key."""
    return tuple(np.frombuffer(_digest(seed, *key), "<u4").tolist())


def _digest(seed: int, *key: int | str) -> bytes:
    name = "\x1f".join(map(repr, (seed, *key))).encode()
    return hashlib.blake2b(name, digest_size=16).digest()
