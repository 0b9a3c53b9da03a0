"""Windows of several sources in fixed shares, each source without replacement within its own epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from cdslm_model.data.stored import StoredWindows
from cdslm_model.data.windows import Shards, Windows
from cdslm_model.errors import DataError
from cdslm_model.seeding import random_source

__all__ = ["MixedWindows", "windows_of"]

_BLOCK = 1000
"""Draws among which the shares are exact, to a thousandth."""


def windows_of(
    shards: Shards,
    context_frames: int,
    continuation_frames: int,
    join_speakers: bool = False,
    mix: Sequence[tuple[str, float]] = (),
) -> Windows:
    """Return windows of prepared speech: as they come, or with a mix of its sources in their shares.

    Raises:
        DataError: A source of the mix is not in the speech, has no clip as long as a window, or a share under a
            thousandth.
    """
    shape = context_frames, continuation_frames, join_speakers
    return MixedWindows(shards, *shape, dict(mix)) if mix else Windows(shards, *shape)


class MixedWindows(Windows):
    """Windows whose sources have fixed shares of the draws, whatever speech there is of each.

    Each draw belongs to one source; of a thousand draws every source has its share, in an order that the seed decides.
    A source with little speech begins its next epoch while another is in its first.

    Args:
        shards, context_frames, continuation_frames, join_speakers: As for `Windows`.
        weights: Source -> its weight; the share of a source is its weight over their sum.

    Raises:
        DataError: A source is not in the speech, has no clip as long as a window, or a share under a thousandth.
    """

    def __init__(
        self,
        shards: Shards,
        context_frames: int,
        continuation_frames: int,
        join_speakers: bool,
        weights: Mapping[str, float],
    ) -> None:
        names = shards.clips.label_names("source")
        if unknown := [source for source in weights if source not in names]:
            raise DataError(
                f"{shards.folder}: no source {unknown[0]!r} in it; it has {', '.join(names) or 'none'}. Use: cdslm "
                "prepare NAME=PATH"
            )
        numbers = shards.clips.labels["source"]
        shape = context_frames, continuation_frames, join_speakers
        super().__init__(shards, *shape, clips=np.isin(numbers, [names.index(source) for source in weights]))
        self.sources = {source: Windows(shards, *shape, clips=numbers == names.index(source)) for source in weights}
        self._counts_of = _counts(weights)
        self._orders: dict[tuple[int, int], npt.NDArray[np.int64]] = {}

    def batch(self, seed: int, step: int, rows: Sequence[int], size: int) -> StoredWindows:
        """Return the windows in some rows of a step's batch, as they are stored; see `Windows.batch`."""
        parts = list(self.sources.values())
        starts = []
        for row in rows:
            block, place = divmod(step * size + row, _BLOCK)
            order = self._order(seed, block)
            number = int(order[place])
            # how many draws of its source came before, in this block and in the earlier ones
            earlier = block * int(self._counts_of[number]) + int((order[:place] == number).sum())
            starts.append(parts[number].drawn(seed, earlier))
        return self._stored(starts)

    def sources_of(self, draws: int) -> list[tuple[Windows, float]]:
        """Return the windows of each source and how many of a run's are drawn from them; see `Windows.sources_of`."""
        counts = self._counts_of.tolist()
        return [(part, draws * count / _BLOCK) for part, count in zip(self.sources.values(), counts, strict=True)]

    def use(self, draws: int) -> dict[str, dict[str, float]]:
        """Return the share and the epochs of each source in a number of draws."""
        return {
            source: {"share": own / draws, "epochs": own * part.frames / part.usable_frames}
            for source, (part, own) in zip(self.sources, self.sources_of(draws), strict=True)
        }

    def _order(self, seed: int, block: int) -> npt.NDArray[np.int64]:
        """Return the number of the source of each draw of a block, `[draws]`."""
        order = self._orders.get((seed, block))
        if order is None:
            order = np.repeat(np.arange(len(self._counts_of)), self._counts_of)
            random_source(seed, "mix", block).shuffle(order)
            # replaced as a whole, as other threads read; a batch lies in few blocks
            self._orders = {key: own for key, own in self._orders.items() if abs(key[1] - block) < 4} | {
                (seed, block): order
            }
        return order


def _counts(weights: Mapping[str, float]) -> npt.NDArray[np.int64]:
    """Return the draws of each source in a block: whole numbers by largest remainders.

    Raises:
        DataError: A source has less than one draw.

    Example:
        >>> _counts({"studio": 2.0, "talks": 1.0}).tolist()
        [667, 333]
    """
    values = np.array(list(weights.values()))
    exact = values / values.sum() * _BLOCK
    # a share of exactly a thousandth may round to just below one draw
    least = int(exact.argmin())
    if not exact[least] >= 1 - 1e-9:
        raise DataError(
            f"mix: {list(weights)[least]!r} has {exact[least] / _BLOCK:.3g} of the weights, and shares are exact among "
            f"{_BLOCK} windows; use a weight of at least 1/{_BLOCK} of their sum, or leave the source out"
        )
    counts: npt.NDArray[np.int64] = np.maximum(1, np.floor(exact)).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: _BLOCK - int(counts.sum())]] += 1
    return counts
