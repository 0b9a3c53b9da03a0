"""PackedSources: the clips of a set in blocks of bytes, for manifests that name a million of them."""

from __future__ import annotations

import itertools
import marshal
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

from cdslm_eval.core.packed import Packed
from cdslm_eval.core.sources import Source
from cdslm_eval.core.spans import Span

__all__ = ["PackedSources"]

_ROWS = 256
"""Clips of a block: what an access at random decodes, some .1 ms."""
_SPAN, _PACKED = Source._fields.index("span"), Source._fields.index("packed")


class PackedSources(Sequence[Source]):
    """An immutable sequence of sources that takes a third of the memory of a tuple of them.

    A source and its strings take some 400 bytes, in blocks of bytes they take 90; each access makes the source anew.
    Clips in memory and derived ones, which hold arrays, stay as they are.

    Args:
        sources: What is packed, one block at a time.
    """

    __slots__ = ("_blocks", "_last", "_length", "keys_ascend")

    def __init__(self, sources: Iterable[Source] = ()) -> None:
        self._blocks: list[bytes | tuple[Source, ...]] = []
        self._length = 0
        self._last: tuple[int, Sequence[Source]] = (-1, ())
        self.keys_ascend = True
        """Whether each key is greater than the one before, as they are in most manifests: then none is a double."""
        previous: str | None = None
        remaining = iter(sources)
        while block := list(itertools.islice(remaining, _ROWS)):
            keys = [source.key for source in block]
            if previous is not None:
                keys.insert(0, previous)
            previous = keys[-1]
            self.keys_ascend = self.keys_ascend and all(map(operator.lt, keys, itertools.islice(keys, 1, None)))
            self._length += len(block)
            self._blocks.append(_packed(block))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Source]:
        return itertools.chain.from_iterable(map(_unpacked, self._blocks))

    @overload
    def __getitem__(self, index: int) -> Source: ...
    @overload
    def __getitem__(self, index: slice) -> PackedSources: ...
    def __getitem__(self, index: int | slice) -> Source | PackedSources:
        if isinstance(index, slice):
            return PackedSources(self[number] for number in range(*index.indices(self._length)))
        block, row = divmod(range(self._length)[index], _ROWS)
        number, sources = self._last
        if number != block:
            sources = _unpacked(self._blocks[block])
            # a single assignment, so that threads that share the set see the number and the sources of one block
            self._last = (block, sources)
        return sources[row]


def _packed(block: Sequence[Source]) -> bytes | tuple[Source, ...]:
    if any(source.decoded is not None or source.derivation is not None for source in block):
        return tuple(block)
    return marshal.dumps([_row(source) for source in block])


def _row(source: Source) -> tuple[object, ...]:
    if source.span is None and source.packed is None:
        return tuple(source)
    row: list[object] = list(source)
    row[_SPAN] = source.span and (source.span.start_s, source.span.end_s)
    row[_PACKED] = source.packed and str(source.packed)
    return tuple(row)


def _unpacked(block: bytes | tuple[Source, ...]) -> Sequence[Source]:
    if isinstance(block, tuple):
        return block
    # bytes that this process packed itself: the format of marshal is neither stable nor safe for any others
    rows = marshal.loads(block)  # noqa: S302
    return [Source._make(row) if row[_SPAN] is row[_PACKED] is None else _with_place(row) for row in rows]


def _with_place(row: Sequence[Any]) -> Source:
    """Return the source of a row that is a part of its file, or lies inside it."""
    span = None if row[_SPAN] is None else Span(*row[_SPAN])
    packed = None if row[_PACKED] is None else Packed.split(row[_PACKED])[0]
    return Source._make(row)._replace(span=span, packed=packed)
