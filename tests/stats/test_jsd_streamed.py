"""Divergences of large sets, counted in blocks: equal to those of one table, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from cdslm_eval.stats.jsd import streamed
from cdslm_eval.stats.jsd.ngrams import NgramTable, PhoneSequences
from cdslm_eval.stats.jsd.plug_in import plug_in


def sequences(clips: int, seed: int, symbols: str = "abcdefg") -> PhoneSequences:
    rng = np.random.default_rng(seed)
    return PhoneSequences.from_lists(
        [[symbols[i] for i in np.minimum(rng.geometric(0.3, rng.integers(0, 40)) - 1, len(symbols) - 1)]
         for _ in range(clips)]
    )  # fmt: skip


@pytest.mark.parametrize("dense", [1 << 20, 50])
@pytest.mark.parametrize("block", [100, 1 << 22])
def test_blocks_equal_one_table(monkeypatch, dense, block):
    monkeypatch.setattr(streamed, "_BLOCK", block)
    sides = sequences(60, 0), sequences(45, 1, "gfedcbaz")
    clusters = np.arange(60) // 2, np.arange(45) // 3
    table = NgramTable(*sides, orders=5)
    joint = np.concatenate([clusters[0], clusters[1] + 30])
    wanted = {n: plug_in(table, table.orders[n - 1], joint) for n in (1, 2, 3, 4, 5)}
    assert streamed.streamed_plug_in(*sides, (1, 2, 3, 4, 5), clusters, dense=dense) == wanted
    assert streamed.streamed_plug_in(*sides, (4, 2), clusters, dense=dense) == {n: wanted[n] for n in (4, 2)}


def test_a_side_without_ngrams_has_no_value():
    short = PhoneSequences.from_lists([["a", "b"], [], ["b"]])
    values = streamed.streamed_plug_in(short, sequences(20, 0), (1, 3), (np.arange(3), np.arange(20)))
    assert np.isfinite(values[1]).all()
    assert np.isnan(values[3]).all()
