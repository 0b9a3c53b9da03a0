"""Plug-in divergences of sets that are too large for a table of their n-grams: counted block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cdslm_eval.stats.jsd.ngrams import Ints, PhoneSequences
from cdslm_eval.stats.jsd.plug_in import Floats, clustered_variance, jsd, slopes

__all__ = ["streamed_plug_in"]

_BLOCK = 1 << 22
_DENSE = 1 << 27
"""Keys up to which every possible n-gram has a counter: 128 million, 512 MB a side. Speech of 40 phones has 10 million
at n = 5; above it, those that occur are sorted, which takes ten times as long."""


@dataclass(frozen=True, slots=True)
class _Block:
    """Adjacent clips of one side.

    Attributes:
        side: 0 for the generated, 1 for the reference.
        first: Number of the first clip within its side.
        clips: How many clips.
        codes: int32 `[phones]`, in the joint inventory.
        clip: int32 `[phones]`, clip of each phone, from 0.
        left: int32 `[phones]`, phones from each one to the end of its clip, itself included.
    """

    side: int
    first: int
    clips: int
    codes: npt.NDArray[np.int32]
    clip: npt.NDArray[np.int32]
    left: npt.NDArray[np.int32]


class _Dense:
    """Counts keys `0..size` of both sides with a counter for each, then numbers those that occurred, in order."""

    def __init__(self, size: int) -> None:
        self._counts = [np.zeros(size, np.int32) for _ in range(2)]
        self._number = np.zeros(0, np.int32)

    def add(self, side: int, keys: Ints) -> None:
        """Count keys of a side."""
        np.add.at(self._counts[side], keys, 1)

    def close(self) -> tuple[Ints, Ints]:
        """Return the counts of both sides, `[types]` each."""
        present = np.flatnonzero((self._counts[0] > 0) | (self._counts[1] > 0))
        generated, reference = (side[present].astype(np.int64) for side in self._counts)
        # from here on the counters hold numbers: another table of their size would be half as much again
        self._number = self._counts.pop(0)
        self._counts.clear()
        self._number[present] = np.arange(len(present), dtype=np.int32)
        return generated, reference

    def number(self, keys: Ints) -> npt.NDArray[np.integer]:
        """Return the type of each key, all of which occurred."""
        return self._number[keys]


class _Sorted:
    """The same for keys of any size."""

    def __init__(self) -> None:
        self._types = np.zeros(0, np.int64)
        self._counts = np.zeros((2, 0), np.int64)

    def add(self, side: int, keys: Ints) -> None:
        """Count keys of a side."""
        types, counts = np.unique(keys, return_counts=True)
        joint = np.union1d(self._types, types)
        merged = np.zeros((2, len(joint)), np.int64)
        merged[:, np.searchsorted(joint, self._types)] = self._counts
        merged[side, np.searchsorted(joint, types)] += counts
        self._types, self._counts = joint, merged

    def close(self) -> tuple[Ints, Ints]:
        """Return the counts of both sides, `[types]` each."""
        return self._counts[0], self._counts[1]

    def number(self, keys: Ints) -> npt.NDArray[np.integer]:
        """Return the type of each key, all of which occurred."""
        return np.searchsorted(self._types, keys)


_Counter = _Dense | _Sorted


def streamed_plug_in(
    generated: PhoneSequences,
    reference: PhoneSequences,
    orders: Sequence[int],
    clusters: tuple[Ints, Ints],
    *,
    dense: int = _DENSE,
) -> dict[int, tuple[float, float]]:
    """Return the plug-in divergence of each order and its standard error, as `plug_in` does, bit for bit.

    Memory goes with the n-grams that can occur, not with the phones: an order is counted in one pass over all clips,
    and what each clip adds to the error is summed in the next, which also counts the following order.

    Args:
        generated, reference: The two sides.
        orders: Values of n.
        clusters: Cluster number of each clip of either side.
        dense: Largest number of possible n-grams that are counted with a counter for each.
    """
    sides, highest = (generated, reference), max(orders)
    inventory = tuple(dict.fromkeys((*generated.inventory, *reference.inventory)))
    results: dict[int, tuple[float, float]] = {}
    below: list[_Counter] = []
    value, types, tables = math.nan, 1, None
    # pass n sums the influences of order n and counts order n + 1; pass 0 counts phones
    for n in range(highest + 1):
        size = types * len(inventory)
        counter: _Counter = _Dense(size) if size <= dense else _Sorted()
        sums = [np.zeros(len(side)) for side in sides]
        for block in _blocks(sides, inventory):
            gram = _grams(block, below, len(inventory))
            if tables is not None:
                used = block.left >= n
                weights = tables[block.side][gram[used]]
                here = slice(block.first, block.first + block.clips)
                sums[block.side][here] = np.bincount(block.clip[used], weights=weights, minlength=block.clips)
            if n < highest:
                counter.add(block.side, _keys(block, gram, n, len(inventory)))
        if n in orders:
            results[n] = value, value if tables is None else _error(sums, sides, n, clusters)
        if n < highest:
            a, b = counter.close()
            below.append(counter)
            value, types = jsd(a, b), len(a)
            tables = None if n + 1 not in orders or np.isnan(value) else slopes(a, b)
    return {n: results[n] for n in orders}


def _blocks(sides: Sequence[PhoneSequences], inventory: tuple[str, ...]) -> Iterator[_Block]:
    """Yield the clips of both sides in blocks of about 4 million phones."""
    codes_of = {phone: code for code, phone in enumerate(inventory)}
    for side, sequences in enumerate(sides):
        recode = np.array([codes_of[phone] for phone in sequences.inventory], np.int32)
        offsets, first = sequences.offsets, 0
        while first < len(sequences):
            # one clip at least, however long it is
            last = max(first + 1, int(np.searchsorted(offsets, offsets[first] + _BLOCK, "right")) - 1)
            lengths = np.diff(offsets[first : last + 1])
            ends = (offsets[first + 1 : last + 1] - offsets[first]).astype(np.int32)
            clip = np.repeat(np.arange(last - first, dtype=np.int32), lengths)
            yield _Block(
                side=side,
                first=first,
                clips=last - first,
                codes=recode[sequences.codes[offsets[first] : offsets[last]]],
                clip=clip,
                left=ends[clip] - np.arange(len(clip), dtype=np.int32),
            )
            first = last


def _keys(block: _Block, gram: npt.NDArray[np.integer], n: int, symbols: int) -> Ints:
    """Return the keys of the (n+1)-grams of a block: their n-gram, and the phone that follows it."""
    starts = np.flatnonzero(block.left > n)
    return gram[starts].astype(np.int64) * symbols + block.codes[starts + n]


def _grams(block: _Block, counters: Sequence[_Counter], symbols: int) -> npt.NDArray[np.integer]:
    """Return the type of the n-gram that starts at each phone, `[phones]`; 0 where it would cross the clip's end."""
    gram: npt.NDArray[np.integer] = np.zeros(len(block.codes), np.int32)
    # found again in each pass: to hold them would take 4 bytes a phone
    for n, counter in enumerate(counters):
        gram[block.left > n] = counter.number(_keys(block, gram, n, symbols))
    return gram


def _error(
    influence_sums: Sequence[Floats], sides: Sequence[PhoneSequences], n: int, clusters: Sequence[Ints]
) -> float:
    """Return the standard error of a divergence from the summed slopes of each clip's n-grams."""
    variance = 0.0
    for sums, side, numbers in zip(influence_sums, sides, clusters, strict=True):
        windows = np.maximum(side.lengths - n + 1, 0).astype(np.float64)
        total = windows.sum()
        variance += clustered_variance((sums - sums.sum() / total * windows) / total, numbers)
    return float(np.sqrt(variance))
