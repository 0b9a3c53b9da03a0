"""Batches that run out of memory: halved, remembered by the worker, and every clip measured once."""

from __future__ import annotations

from typing import ClassVar

import pytest

from cdslm_eval import Mean, Metric
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.run.decoding import Unit
from cdslm_eval.run.worker import Measured, Worker


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


class Fits(Metric):
    name = "fits"
    statistics: ClassVar = {"x": Mean("x")}
    batch_clips = 8

    def __init__(self, most, error):
        super().__init__()
        self.most, self.error, self.sizes = most, error, []

    def measure(self, clips):
        self.sizes.append(len(clips))
        if len(clips) > self.most:
            raise self.error
        for clip in clips:
            yield {"x": float(clip.key.removeprefix("c"))}


@pytest.mark.parametrize(
    "error", [OutOfMemoryError("2 GiB"), MemoryError(), RuntimeError("CUDNN_STATUS: out of memory")]
)
def test_a_batch_that_does_not_fit_is_halved_and_the_size_is_remembered(tone_set, error):
    metric = Fits(3, error)
    sources = ClipSet.open(tone_set("t", 20)).sources
    units = [Unit(number, source, (0,)) for number, source in enumerate(sources)]
    with Worker((metric,), "cpu").open() as work:
        events = [*work(units[:12]), *work(units[12:])]
    rows = {event.uid: event.outcome.row["x"] for event in events if isinstance(event, Measured)}
    assert rows == {number: float(number) for number in range(20)}
    assert metric.sizes == [8, 4, *[2] * 10]


def test_another_error_keeps_the_batch_size_and_one_clip_that_does_not_fit_fails_alone(tone_set):
    sources = ClipSet.open(tone_set("t", 12)).sources
    units = [Unit(number, source, (0,)) for number, source in enumerate(sources)]
    for most, error, sizes in (
        (3, ValueError("odd"), [8, *[1] * 8, 4, *[1] * 4]),
        (0, MemoryError(), [8, 4, 2, *[1] * 12]),
    ):
        metric = Fits(most, error)
        with Worker((metric,), "cpu").open() as work:
            outcomes = [event.outcome for event in work(units) if isinstance(event, Measured)]
        assert metric.sizes == sizes
        assert [outcome.status for outcome in outcomes] == ["ok" if most else "failed"] * 12
