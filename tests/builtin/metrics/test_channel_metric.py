"""The metric `channel` keeps the contract, and its rows are channel profiles."""

from __future__ import annotations

import pytest

from cdslm_eval.builtin.metrics.channel import ChannelMetric
from cdslm_eval.core.channel import ChannelProfile, profile
from cdslm_eval.testing import check_metric
from cdslm_eval.testing.clips import spoken


@pytest.mark.parametrize("check", check_metric(ChannelMetric), ids=str)
def test_the_contract(check):
    check()


def test_a_row_holds_the_whole_profile():
    clip = spoken()[1]
    (row,) = ChannelMetric().measure([clip])
    read = ChannelProfile.from_row(row)
    assert read.as_row() == profile(clip.samples).as_row()
    assert 0.3 * clip.seconds < read.speech_s <= row["seconds"] == clip.seconds
