"""Tensors on disk, of which any rows are read from whichever files hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cdslm_model.errors import CheckpointError
from cdslm_model.files import sha256

__all__ = ["Piece", "StoredTensor", "stored_tensors"]


class Piece(NamedTuple):
    """Rows of a tensor in one file, along its first dimension.

    Attributes:
        file: Its name.
        first: The first of its rows in the whole tensor.
        shape: Of the whole tensor.
    """

    file: str
    first: int
    shape: list[int]


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of a checkpoint.

    Attributes:
        name: Its name.
        shape: Its whole shape.
        read: Returns rows from a first one up to, and without, a last one; a scalar has one row.
    """

    name: str
    shape: tuple[int, ...]
    read: Callable[[int, int], Tensor]

    def rows(self, first: int = 0, stop: int | None = None) -> Tensor:
        """Return its rows from `first` up to `stop`, by default all of them, on the CPU."""
        last = self.shape[0] if self.shape else 1
        return self.read(first, last if stop is None else stop)


def stored_tensors(
    folder: Path, files: Mapping[str, str], part: str, pieces: Mapping[str, list[Piece]] | None, others: str
) -> Iterator[StoredTensor]:
    """Yield the tensors of one part of a checkpoint.

    Only files from which rows are read are opened and hashed.

    Args:
        folder: Of the files.
        files: SHA-256 of each.
        part: Its name.
        pieces: Where the rows of each tensor are; None where the file of the part has them all.
        others: Sentence on other checkpoints, for the messages.

    Raises:
        CheckpointError: A file is missing, truncated, altered, or lacks a tensor.
    """
    from safetensors import SafetensorError

    reader = _Files(folder, files, others)
    with reader.stack:
        if pieces is None:
            name = f"{part}.safetensors"
            file = reader.open(name)
            pieces = {key: [Piece(name, 0, file.get_slice(key).get_shape())] for key in file.keys()}  # noqa: SIM118
        for key, own in pieces.items():
            try:
                shape = tuple(own[0].shape)
                if any(tuple(piece.shape) != shape for piece in own):
                    raise CheckpointError(f"{folder}: damaged: the shards of {key} are of different tensors")
                yield StoredTensor(key, shape, reader.rows(key, own, shape))
            except (IndexError, TypeError, SafetensorError) as error:
                raise CheckpointError(f"{folder}: damaged: {key} of {part} cannot be read: {error}.{others}") from error


class _Files:
    """Files of a checkpoint, each hashed before it is read.

    Args:
        folder: Of the files.
        digests: SHA-256 of each.
        others: Sentence on other checkpoints, for the messages.
    """

    def __init__(self, folder: Path, digests: Mapping[str, str], others: str) -> None:
        self._folder, self._digests, self._others = folder, digests, others
        self._open: dict[str, Any] = {}
        self.stack = ExitStack()

    def open(self, name: str) -> Any:
        """Return an open safetensors file."""
        from safetensors import SafetensorError, safe_open

        if name not in self._open:
            path = self._folder / name
            try:
                # the index is data: it must not lead out of the folder.
                # Before reading: safetensors detects truncation, but no flipped bit
                digest = self._digests.get(name) if Path(name).name == name else None
                if digest is None or sha256(path) != digest:
                    raise CheckpointError(f"{path}: truncated or altered: its digest does not fit.{self._others}")
                self._open[name] = self.stack.enter_context(safe_open(path, framework="pt"))
            except (OSError, SafetensorError) as error:
                raise CheckpointError(f"{path}: cannot be read: {error}.{self._others}") from error
        return self._open[name]

    def rows(self, key: str, pieces: list[Piece], shape: tuple[int, ...]) -> Callable[[int, int], Tensor]:
        """Return the function that reads rows of a tensor."""
        # each piece ends where the next one begins
        ordered = sorted(pieces, key=lambda piece: piece.first)
        ends = [piece.first for piece in ordered[1:]] + [shape[0] if shape else 1]

        def read(first: int, stop: int) -> Tensor:
            if not shape:
                scalar: Tensor = self.open(pieces[0].file).get_tensor(key)
                return scalar
            parts = []
            for piece, end in zip(ordered, ends, strict=True):
                begin, until = max(first, piece.first), min(stop, end)
                if begin < until:
                    stored, expected = self.open(piece.file).get_slice(key), [end - piece.first, *shape[1:]]
                    if list(stored.get_shape()) != expected:
                        raise CheckpointError(
                            f"{self._folder / piece.file}: {key} has the shape {stored.get_shape()}, not {expected}; "
                            f"it is damaged.{self._others}"
                        )
                    parts.append(stored[begin - piece.first : until - piece.first])
            # a process of many may hold no row of a short tensor
            values = parts[0] if len(parts) == 1 else torch.cat([torch.empty(0, *shape[1:]), *parts])
            if len(values) != stop - first:
                raise CheckpointError(f"{self._folder}: rows {first} to {stop} of {key} are missing.{self._others}")
            return values

        return read
