"""The share of repeated n-grams is that of counting them, near 0 without repetition and near 1 in a loop."""

from __future__ import annotations

import numpy as np
import pytest

from cdslm_eval import Clip
from cdslm_eval.builtin.metrics.repetition import Repetition, RepetitionOptions
from cdslm_eval.testing import check_metric


@pytest.mark.parametrize("check", check_metric(Repetition), ids=str)
def test_the_contract(check):
    check()


def share(phones, n=5):
    clip = Clip(key="c", samples=np.zeros(1, np.float32), rate_hz=16_000, phones=tuple(phones))
    (row,) = Repetition(RepetitionOptions(n=n)).measure([clip])
    return row["repeated"], row["ngrams"]


def test_sequences_whose_repetitions_can_be_counted_by_hand():
    assert share("abcdefgh") == (0, 4)
    # 5 phones over and over: 5 different n-grams, whatever the length
    assert share("abcde" * 20) == (91, 96)
    # the second half says what the first said, but for the n-grams across the middle
    assert share("abcdefghij" * 2) == (6, 16)
    assert share("abab", n=2) == (1, 3)
    assert share("abc") == (0, 0)
