"""A recognizer that is unsure of a system's phones is reported, and one whose confidence is not known is not."""

from __future__ import annotations

import math

import pytest

from cdslm_eval.results.channel import ChannelReport, SetChannel


@pytest.mark.parametrize(("confidence", "reported"), [(0.77, True), (0.91, False), (0.96, False), (math.nan, False)])
def test_a_fall_of_the_confidence_is_reported(confidence, reported):
    sets = (SetChannel(name="reference", confidence=0.92), SetChannel(name="learners", confidence=confidence))
    sentences = list(ChannelReport(sets=sets).doubts())
    assert len(sentences) == reported
    assert all("learners" in sentence and "0.77" in sentence and "0.92" in sentence for sentence in sentences)


def test_without_a_confidence_of_the_reference_there_is_no_doubt():
    sets = (SetChannel(name="reference"), SetChannel(name="learners", confidence=0.5))
    assert list(ChannelReport(sets=sets).doubts()) == []
