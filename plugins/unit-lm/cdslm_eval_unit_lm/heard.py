"""Speech is heard once: with a line that says how far it is, and with its units kept, so that going on is quick."""

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
from cdslm_model.data.windows import Shards
from cdslm_model.errors import TrainingError
from cdslm_model.files import written_whole

__all__ = ["keep", "kept", "key_of", "with_progress"]

_EVERY_S = 5.0
One = TypeVar("One")


def with_progress(clips: Sequence[One], what: str, *, quiet: bool) -> Iterator[One]:
    """Yield clips, and say every five seconds on stderr how many are done and how long the rest will take."""
    start = said = time.monotonic()
    for done, clip in enumerate(clips):
        now = time.monotonic()
        if not quiet and now - said > _EVERY_S:
            said = now
            left = (len(clips) - done) * (now - start) / done
            print(f"{what}: {done}/{len(clips)} clips, {left:.0f} s left", file=sys.stderr, flush=True)
        yield clip


def key_of(shards: Shards, features: Features, centroids: Vectors) -> str:
    """Return what changes when the units of some speech might."""
    digest = hashlib.sha256(f"{shards.digest}\n{features.digest}\n".encode())
    digest.update(np.ascontiguousarray(centroids).tobytes())
    return digest.hexdigest()


def kept(path: Path, key: str, make: Callable[[], list[Ints]]) -> list[Ints]:
    """Return the units of each clip: those that `path` keeps under a key, else made anew and kept."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            if (file.metadata() or {}).get("key") == key:
                ends = np.cumsum(file.get_tensor("lengths"))[:-1]
                return [part.astype(np.int64) for part in np.split(file.get_tensor("units"), ends)]
    except (OSError, SafetensorError):
        pass  # there is none yet, or half of one: it is made anew
    said = make()
    keep(path, key, said)
    return said


def keep(path: Path, key: str, said: Sequence[Ints]) -> None:
    """Keep the units of each clip under a key.

    Raises:
        TrainingError: They cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    values = {"units": np.concatenate(said).astype(np.int32), "lengths": np.array([len(one) for one in said])}
    try:
        written_whole(path, lambda half: save_file(values, half, metadata={"key": key}))
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{path}: cannot be written: {error}; make room and give the same command again") from error
