"""The metric `channel` keeps the contract, and its rows are channel profiles."""

from __future__ import annotations

import numpy as np
import pytest

from cdslm_eval.builtin.metrics.channel import ChannelMetric, profile_from_row
from cdslm_eval.core.channel import profile
from cdslm_eval.testing import check_metric
from cdslm_eval.testing.clips import spoken


@pytest.mark.parametrize("check", check_metric(ChannelMetric), ids=str)
def test_the_contract(check):
    check()


def test_a_row_holds_the_whole_profile():
    clip = spoken()[1]
    (row,) = ChannelMetric().measure([clip])
    np.testing.assert_allclose(profile_from_row(row).noise_db, profile(clip.samples).noise_db)
    assert profile_from_row(row).snr_db == pytest.approx(row["snr_db"])
