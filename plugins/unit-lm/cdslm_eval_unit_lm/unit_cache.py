"""Units of each clip, cached on disk under a key, and the progress of computing them."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from cdslm_eval_unit_lm.features import Features
from cdslm_eval_unit_lm.units import Ints, Vectors
from cdslm_model import Shards, TrainingError, written_whole

__all__ = ["cache_key", "cached_units", "read_units", "save_units", "with_progress"]

_EVERY_S = 5.0
Item = TypeVar("Item")


def with_progress(clips: Sequence[Item], what: str, *, quiet: bool) -> Iterator[Item]:
    """Yield clips, and print every five seconds on stderr how many are done and the time left."""
    start = printed = time.monotonic()
    for done, clip in enumerate(clips):
        now = time.monotonic()
        if not quiet and now - printed > _EVERY_S:
            printed = now
            left = (len(clips) - done) * (now - start) / done
            print(f"{what}: {done}/{len(clips)} clips, {left:.0f} s left", file=sys.stderr, flush=True)
        yield clip


def cache_key(shards: Shards, features: Features, centroids: Vectors) -> str:
    """Return the cache key of the units of some speech: a digest of the speech, the features and the clusters."""
    digest = hashlib.sha256(f"{shards.digest}\n{features.digest}\n".encode())
    digest.update(np.ascontiguousarray(centroids).tobytes())
    return digest.hexdigest()


def read_units(path: Path, key: str) -> list[Ints] | None:
    """Return the units of each clip that a file holds under a key; None where it is absent, damaged, or of another."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            if (file.metadata() or {}).get("key") == key:
                ends = np.cumsum(file.get_tensor("lengths"))[:-1]
                return [part.astype(np.int64) for part in np.split(file.get_tensor("units"), ends)]
    except (OSError, SafetensorError):
        pass
    return None


def cached_units(path: Path, key: str, compute: Callable[[], list[Ints]]) -> list[Ints]:
    """Return the units of each clip from the cache, else compute and cache them."""
    units = read_units(path, key)
    if units is None:
        units = compute()
        save_units(path, key, units)
    return units


def save_units(path: Path, key: str, units: Sequence[Ints]) -> None:
    """Write the units of each clip under a key.

    Raises:
        TrainingError: They cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    lengths = np.array([len(clip) for clip in units])
    values = {"units": np.concatenate(units).astype(np.int32), "lengths": lengths}
    try:
        written_whole(path, lambda half: save_file(values, half, metadata={"key": key}))
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{path}: cannot be written: {error}; free some space and repeat the command") from error
