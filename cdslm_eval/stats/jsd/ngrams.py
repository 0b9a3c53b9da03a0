"""Phone sequences as arrays, and joint tables of their n-grams that never cross the end of a clip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Ints", "NgramTable", "Order", "PhoneSequences"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PhoneSequences:
    """Phones of many clips in one array.

    Attributes:
        codes: int32 `[phones]`, indices into `inventory`.
        offsets: int64 `[clips + 1]`; clip i is `codes[offsets[i]:offsets[i + 1]]`.
        inventory: The phone symbols.
    """

    codes: npt.NDArray[np.int32]
    offsets: Ints
    inventory: tuple[str, ...]

    @classmethod
    def from_lists(cls, clips: Iterable[Sequence[str]]) -> PhoneSequences:
        """Encode clips given as lists of phone symbols; an empty clip is kept."""
        known: dict[str, int] = {}
        codes = [
            np.fromiter((known.setdefault(phone, len(known)) for phone in clip), np.int32, len(clip)) for clip in clips
        ]
        offsets = np.zeros(len(codes) + 1, np.int64)
        np.cumsum([len(code) for code in codes], out=offsets[1:])
        return cls(np.concatenate(codes) if codes else np.zeros(0, np.int32), offsets, tuple(known))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Ints:
        """Phones per clip, `[clips]`."""
        return np.diff(self.offsets)

    def take(self, clips: Ints, last: int | None = None) -> PhoneSequences:
        """Return some clips, in that order; of the last one only its first `last` phones, if given."""
        lengths = self.lengths[clips]
        if last is not None and len(lengths):
            lengths[-1] = min(lengths[-1], last)
        return self._slice(clips, lengths)

    def _slice(self, clips: Ints, lengths: Ints) -> PhoneSequences:
        """Return the first `lengths` phones of some clips."""
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        return PhoneSequences(self.codes[np.repeat(self.offsets[clips], lengths) + within], offsets, self.inventory)

    def cut(self, phones: int, clips: int, rng: np.random.Generator) -> PhoneSequences:
        """Return exactly `phones` phones from at least `clips` random clips, the longer ones cut to one length.

        Whole clips would not do: a few long ones fill a small count, and too few clips are left to hold out.
        """
        order = rng.permutation(np.flatnonzero(self.lengths))
        count = max(clips, int(np.searchsorted(np.cumsum(self.lengths[order]), phones)) + 1)
        chosen = order[:count]
        lengths = self.lengths[chosen]
        # the largest common length under which no more than `phones` are taken; the rest goes one by one to the first
        low, high = 0, int(lengths.max(initial=0))
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if np.minimum(lengths, middle).sum() <= phones else (low, middle - 1)
        taken = np.minimum(lengths, low)
        spare = np.flatnonzero(lengths > low)[: max(0, phones - int(taken.sum()))]
        taken[spare] += 1
        return self._slice(chosen, taken)

    def draw(self, phones: int, rng: np.random.Generator) -> tuple[PhoneSequences, Ints]:
        """Return random clips up to a phone count (the last one cut), and which clips they are."""
        if phones >= self.offsets[-1]:
            return self, np.arange(len(self))
        order = rng.permutation(len(self))
        filled = np.cumsum(self.lengths[order])
        count = int(np.searchsorted(filled, phones)) + 1
        before = int(filled[count - 2]) if count > 1 else 0
        return self.take(order[:count], phones - before), order[:count]


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """The n-grams of one order, over both sides jointly.

    Attributes:
        n: The order.
        gram: int32 `[phones]`, type of the window that starts at each phone; -1 where it would cross the clip's end.
        prefix, suffix: int64 `[types]`, the (n-1)-gram types that a type begins and ends with (empty for n = 1).
        first: int64 `[types]`, a place where the type occurs.
    """

    n: int
    gram: npt.NDArray[np.int32]
    prefix: Ints
    suffix: Ints
    first: Ints

    @property
    def types(self) -> int:
        """How many different n-grams there are."""
        return len(self.first)


class NgramTable:
    """n-grams of a generated and a reference side under one numbering.

    Args:
        generated, reference: The two sides.
        orders: Highest order, at least 1.

    Attributes:
        clip: int32 `[phones]`, clip of each phone; generated clips first, then the reference's.
        place: int32 `[phones]`, place of each phone within its clip.
        lengths: int64 `[clips]`, phones per clip.
        side: bool `[clips]`, True for the reference.
        orders: `Order` 1 to `orders`.
        inventory: Symbols of the phones.
    """

    def __init__(self, generated: PhoneSequences, reference: PhoneSequences, orders: int) -> None:
        self.inventory = tuple(dict.fromkeys((*generated.inventory, *reference.inventory)))
        number = {phone: code for code, phone in enumerate(self.inventory)}
        sides = []
        for sequences in (generated, reference):
            recode = np.array([number[phone] for phone in sequences.inventory], np.int32)
            sides.append(recode[sequences.codes] if len(sequences.codes) else np.zeros(0, np.int32))
        self.codes = np.concatenate(sides)
        self.lengths = np.concatenate([generated.lengths, reference.lengths])
        self.side = np.arange(len(self.lengths)) >= len(generated)
        self.clip = np.repeat(np.arange(len(self.lengths), dtype=np.int32), self.lengths)
        starts = np.cumsum(self.lengths) - self.lengths
        self.place = (np.arange(len(self.codes)) - starts[self.clip]).astype(np.int32)
        self.orders = tuple(self._walk(orders))

    def _walk(self, highest: int) -> Iterator[Order]:
        """Yield orders 1 to `highest`, each from the one before."""
        count = len(self.inventory)
        types, first, gram = np.unique(self.codes, return_index=True, return_inverse=True)
        none = np.zeros(0, np.int64)
        below = Order(1, gram.astype(np.int32), none, none, first.astype(np.int64))
        yield below
        for n in range(2, highest + 1):
            starts = np.flatnonzero(self.lengths[self.clip] - self.place >= n).astype(np.int32)
            # 32 bits where they suffice: sorting these keys is what a table's time and memory go into
            wide = np.dtype(np.int32 if below.types * count < 2**31 else np.int64)
            keys = below.gram[starts].astype(wide)
            keys *= wide.type(count)
            keys += self.codes[starts + n - 1]
            types, inverse = np.unique(keys, return_inverse=True)
            del keys
            full: npt.NDArray[np.int32] = np.full(len(self.codes), -1, np.int32)
            full[starts] = inverse
            first = np.zeros(len(types), np.int64)
            first[inverse[::-1]] = starts[::-1]  # the last write, the earliest place, stays
            # any occurrence will do: one phone on starts the same (n-1)-gram everywhere
            below = Order(n, full, (types // count).astype(np.int64), below.gram[first + 1].astype(np.int64), first)
            yield below

    def counts(self, n: int, limits: Ints) -> Ints:
        """Return how often each n-gram type occurs when only the first `limits[clip]` phones of each clip count."""
        return self.counts_of(self.orders[n - 1], limits)

    def counts_of(self, order: Order, limits: Ints) -> Ints:
        """Return the same for an `Order` of the table."""
        chosen = limits[self.clip] - self.place >= order.n
        return np.bincount(order.gram[chosen], minlength=order.types)

    def ngram(self, n: int, kind: int) -> tuple[str, ...]:
        """Return the phones of a type."""
        start = int(self.orders[n - 1].first[kind])
        return tuple(self.inventory[code] for code in self.codes[start : start + n])
