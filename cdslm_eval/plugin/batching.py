"""Batches of like length, so that a model spends little on padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["length_batches"]


def length_batches(lengths: Sequence[int], most: int, waste: float = 0.2) -> Iterator[list[int]]:
    """Yield the places of `lengths` in batches of like length, shortest first.

    Args:
        lengths: Length of each item.
        most: Largest padded size of a batch (items times the longest of them); a longer item stands alone.
        waste: Largest share of an item's padded length that may be padding, 0..1.

    Example:
        >>> list(length_batches([10, 99, 9, 100, 8], most=200))
        [[4, 2, 0], [1, 3]]
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda at: lengths[at]):
        longest = lengths[place]
        if batch and (longest * (len(batch) + 1) > most or lengths[batch[0]] < (1 - waste) * longest):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
