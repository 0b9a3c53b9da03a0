"""Encodings of log-mels on disk: float16, or int8 with a scale for each shard and mel band."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from cdslm_model.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["STORAGES", "Float16", "Int8", "Storage", "find_storage"]

Values = npt.NDArray[np.float32]
Stored = npt.NDArray[Any]


class Storage(ABC):
    """An encoding of the log-mels of a shard."""

    dtype: ClassVar[np.dtype[Any]]
    """Of the values on disk."""
    gathered: ClassVar[np.dtype[Any]]
    """Of the values while a shard is being filled."""

    @property
    def name(self) -> str:
        """Name on the command line and in the shards."""
        return str(self.dtype)

    @abstractmethod
    def encode(self, values: Stored) -> tuple[Stored, dict[str, list[float]]]:
        """Return the codes of values `[frames, mels]`, and the scale for the shard's JSON."""

    @abstractmethod
    def decode(self, stored: Stored, scale: Mapping[str, Values]) -> Values:
        """Return the values of codes, float32 `[frames, mels]`."""

    @abstractmethod
    def decode_tensor(self, stored: Tensor, scale: Mapping[str, Tensor]) -> Tensor:
        """Return the values of codes on any device, float32 of their shape, as `decode` does.

        Args:
            stored: `[..., mels]`.
            scale: Name -> constant of the encoding for each code.
        """


class Float16(Storage):
    """Two bytes a value; values down to -10 are off by at most 0.004."""

    dtype = gathered = np.dtype(np.float16)

    def encode(self, values: Stored) -> tuple[Stored, dict[str, list[float]]]:
        """Return the values."""
        return values, {}

    def decode(self, stored: Stored, scale: Mapping[str, Values]) -> Values:
        """Return the values."""
        del scale
        return stored.astype(np.float32)

    def decode_tensor(self, stored: Tensor, scale: Mapping[str, Tensor]) -> Tensor:
        """Return the values."""
        del scale
        return stored.float()


class Int8(Storage):
    """One byte a value: centre + code * step, where the 254 steps of a band span what the shard holds of it.

    The span is known when a shard is closed: nothing is clipped, and no value is off by more than half a step, 0.024
    in a band from digital silence (-10) to full scale (2).
    """

    dtype, gathered = np.dtype(np.int8), np.dtype(np.float32)
    _LARGEST = 127

    def encode(self, values: Stored) -> tuple[Stored, dict[str, list[float]]]:
        """Return codes, and centre and step of each band."""
        low, high = values.min(0).astype(np.float64), values.max(0).astype(np.float64)
        # Rounded first to the float32 that the reader multiplies by
        centre, step = ((low + high) / 2).astype(np.float32), ((high - low) / (2 * self._LARGEST)).astype(np.float32)
        codes = np.empty(values.shape, self.dtype)
        # A band that never moves has step 0 and equals its centre
        divisor = np.where(step > 0, step, np.float32(1))
        for start in range(0, len(values), 1 << 14):
            piece = slice(start, start + (1 << 14))
            codes[piece] = np.rint((values[piece] - centre) / divisor).clip(-self._LARGEST, self._LARGEST)
        return codes, {"centre": centre.tolist(), "step": step.tolist()}

    def decode(self, stored: Stored, scale: Mapping[str, Values]) -> Values:
        """Return centre + code * step."""
        values: Values = stored.astype(np.float32)
        values *= scale["step"]
        values += scale["centre"]
        return values

    def decode_tensor(self, stored: Tensor, scale: Mapping[str, Tensor]) -> Tensor:
        """Return centre + code * step."""
        return stored.float() * scale["step"] + scale["centre"]


STORAGES: Mapping[str, Storage] = MappingProxyType({storage.name: storage for storage in (Float16(), Int8())})


def find_storage(name: str) -> Storage:
    """Return a storage by its name.

    Raises:
        DataError: There is none of that name.
    """
    if name not in STORAGES:
        raise DataError(f"log-mels cannot be stored as {name!r}; --dtype takes {' or '.join(STORAGES)}")
    return STORAGES[name]
