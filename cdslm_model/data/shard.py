"""One shard on disk: stored log-mels, and the JSON that lists their clips."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cdslm_model.data.mel import MelSpec
from cdslm_model.data.storage import Storage, find_storage
from cdslm_model.errors import DataError
from cdslm_model.files import no_room, read_json, write_json, written_whole

__all__ = ["Draft", "Shard", "shard_paths", "shard_record"]

_SUMMED_FRAMES = 1 << 14

Sums = npt.NDArray[np.float64]


def shard_paths(folder: Path) -> list[Path]:
    """Return the JSON of each shard that is whole, in order."""
    return sorted(folder.glob("shard-*.json"))


def shard_record(path: Path) -> dict[str, Any]:
    """Return the JSON record of a shard.

    Raises:
        DataError: It is damaged.
    """
    record = read_json(path, DataError)
    required = {"mel_spec": dict, "mel_digest": str, "clips": list, "frames": int, "sum": list, "sum_of_squares": list}
    for name, kind in required.items():
        if not isinstance(record.get(name), kind):
            raise DataError(f"{path}: damaged: no {name!r} in it; prepare the folder again")
    # Shards without these fields were written when float16 was the only encoding
    return {"dtype": "float16", "scale": {}, **record}


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard that is whole: stored log-mels, memory-mapped, and the scales of their encoding.

    Attributes:
        stored: `[frames, mels]`.
        storage: Their encoding.
        scale: Name -> array of each constant of the encoding.
    """

    stored: npt.NDArray[Any]
    storage: Storage
    scale: Mapping[str, npt.NDArray[np.float32]]

    @classmethod
    def open(cls, path: Path, record: Mapping[str, Any]) -> Shard:
        """Memory-map the log-mels of the shard whose JSON is `path`.

        Raises:
            DataError: They are missing, or do not match the JSON.
        """
        storage, path = find_storage(record["dtype"]), path.with_suffix(".npy")
        expected = (record["frames"], len(record["sum"]))
        try:
            stored: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path}: missing or damaged ({error}); prepare the folder again") from error
        if stored.shape != expected or stored.dtype != storage.dtype:
            raise DataError(f"{path}: damaged: {stored.shape} {stored.dtype} does not match its list of clips")
        return cls(stored, storage, {name: np.array(values, np.float32) for name, values in record["scale"].items()})

    def read(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Return the frames start..stop, `[stop - start, mels]`."""
        return self.storage.decode(self.stored[start:stop], self.scale)

    def every(self, stride: int) -> npt.NDArray[np.float32]:
        """Return every stride-th frame, `[frames / stride, mels]`."""
        return self.storage.decode(self.stored[::stride], self.scale)


class Draft:
    """A shard that is being filled.

    Args:
        storage: Encoding of its log-mels.

    Attributes:
        clips: Facts of each clip, as JSON.
        frames: Total frames.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._mels: list[npt.NDArray[Any]] = []
        self.clips: list[dict[str, Any]] = []
        self.frames = 0

    def add(self, clip: Mapping[str, Any], log_mel: npt.NDArray[Any]) -> None:
        """Add a clip: its name, stamp, digest and speaker, and its log-mel `[frames, mels]`."""
        self._mels.append(log_mel)
        self.frames += len(log_mel)
        self.clips.append({**clip, "frames": len(log_mel)})

    def close(self, folder: Path, number: int, spec: MelSpec) -> int:
        """Write the log-mels, then the list of clips that makes them count; return the bytes of both."""
        stored, scale = self.storage.encode(np.concatenate(self._mels))
        self._mels.clear()
        total, squares = self._sums(stored, scale)
        record = {
            "mel_spec": dataclasses.asdict(spec),
            "mel_digest": spec.digest,
            "dtype": self.storage.name,
            "scale": scale,
            "clips": self.clips,
            "frames": self.frames,
            "sum": total.tolist(),
            "sum_of_squares": squares.tolist(),
        }
        mels, listed = folder / f"shard-{number:05d}.npy", folder / f"shard-{number:05d}.json"
        try:
            written_whole(mels, lambda half: _save(half, stored))
            write_json(listed, record)
        except OSError as error:
            if not no_room(error):
                raise DataError(f"{folder}: cannot be written to: {error.strerror}") from error
            raise DataError(
                f"{folder}: no space for the next shard ({stored.nbytes / 2**20:.0f} MiB); the {number} before it are "
                "complete. Free some space and repeat the command: it continues from there"
            ) from error
        return mels.stat().st_size + listed.stat().st_size

    def _sums(self, stored: npt.NDArray[Any], scale: Mapping[str, list[float]]) -> tuple[Sums, Sums]:
        """Return sums and sums of squares of each band, of the values as a reader decodes them."""
        total, squares = np.zeros(stored.shape[1]), np.zeros(stored.shape[1])
        read = {name: np.array(values, np.float32) for name, values in scale.items()}
        # in blocks: the float64 copy of a whole shard would take four times its float16
        for start in range(0, len(stored), _SUMMED_FRAMES):
            exact = self.storage.decode(stored[start : start + _SUMMED_FRAMES], read).astype(np.float64)
            total += exact.sum(0)
            squares += np.square(exact).sum(0)
        return total, squares


def _save(path: Path, values: npt.NDArray[Any]) -> None:
    with path.open("wb") as file:
        # numpy's own writing loses the system's error when a disk is full
        header = np.lib.format.header_data_from_array_1_0(values)
        np.lib.format.write_array_header_1_0(file, header)
        file.write(np.ascontiguousarray(values).data)
