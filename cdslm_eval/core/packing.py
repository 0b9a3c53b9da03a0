"""Arrays in the JSON of a row, packed as the base64 of their float32 values."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

__all__ = ["pack", "unpack"]


def pack(value: object) -> Any:
    """Return a value that JSON lacks as one that it has: an array as the base64 of its float32 values and its shape.

    Raises:
        TypeError: A row cannot hold it.
    """
    if isinstance(value, np.ndarray):
        data = np.ascontiguousarray(value, dtype="<f4")
        return {"float32": base64.b64encode(data.tobytes()).decode(), "shape": data.shape}
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a row cannot hold a {type(value).__name__}")


def unpack(value: dict[str, Any]) -> Any:
    """Return the array that an object of JSON packs, or the object."""
    if value.keys() == {"float32", "shape"}:
        return np.frombuffer(base64.b64decode(value["float32"]), "<f4").reshape(value["shape"])
    return value
