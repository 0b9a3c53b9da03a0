"""Safetensors files, hashed while they are written: a checkpoint of gigabytes is not read again for its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

__all__ = ["save_tensors"]

_NAMES: Mapping[torch.dtype, str] = MappingProxyType(
    {
        torch.float64: "F64",
        torch.float32: "F32",
        torch.float16: "F16",
        torch.bfloat16: "BF16",
        torch.int64: "I64",
        torch.int32: "I32",
        torch.int16: "I16",
        torch.int8: "I8",
        torch.uint8: "U8",
        torch.bool: "BOOL",
    }
)
_BLOCK = 1 << 24
"""Bytes that are hashed and written at a time."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write a safetensors file, and return the SHA-256 of its content, 64 hex digits.

    Args:
        path: Of the file.
        tensors: By name.

    Raises:
        OSError: It cannot be written.
        KeyError: A tensor is of a type that the format does not have.
    """
    # widest types first, so that every tensor begins at a multiple of the size of its values
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header, start = {}, 0
    for name in names:
        tensor = tensors[name]
        stop = start + tensor.nbytes
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for opening in (len(text).to_bytes(8, "little"), text):
            digest.update(opening)
            file.write(opening)
        for name in names:
            # as bytes: numpy has no bfloat16
            flat = tensors[name].detach().cpu().contiguous().reshape(-1)
            content = flat.view(torch.uint8).numpy() if flat.numel() else np.empty(0, np.uint8)
            for first in range(0, len(content), _BLOCK):
                block = content[first : first + _BLOCK].data
                digest.update(block)
                file.write(block)
    return digest.hexdigest()
