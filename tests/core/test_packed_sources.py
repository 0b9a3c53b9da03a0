"""Sources in blocks of bytes: the same clips as a tuple of sources, in a fraction of the memory."""

from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pytest

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.packed_sources import PackedSources
from cdslm_eval.core.sources import Source
from cdslm_eval.core.spans import Span


def plain(number: int) -> Source:
    return Source(key=f"utt-{number:06d}", path=f"clips/{number}.flac", text=f"the words of {number}", speaker="s1")


SOURCES = [
    *(plain(number) for number in range(300)),
    Source("utt-1", "\udcff.wav", span=Span(0.1, None), phones=("a b", "", "ʃ"), allow_truncated=True),
    Source("utt-2", "b.wav", span=Span(1.5, 4.25), language="de", prompt_seconds=3.0, phones=()),
    Source("utt-3", "c.wav", text="", reference="r\0.wav", reference_text="日本語 \N{GRINNING FACE}"),
    *(plain(number) for number in range(400, 900)),
]


def test_packed_sources_are_the_sequence_that_was_packed():
    packed = PackedSources(iter(SOURCES))
    assert list(packed) == SOURCES == [packed[number] for number in range(len(SOURCES))]
    assert [packed[-number] for number in (1, len(SOURCES))] == [SOURCES[-1], SOURCES[0]]
    for part in (slice(250, 310), slice(None, None, 7), slice(800, 100, -3), slice(5, 5)):
        assert list(packed[part]) == SOURCES[part]
    assert list(pickle.loads(pickle.dumps(packed))) == SOURCES
    for index in (len(SOURCES), -len(SOURCES) - 1):
        with pytest.raises(IndexError):
            packed[index]


def test_clips_in_memory_stay_as_they_are():
    decoded = list(ClipSet.from_arrays([(np.full(8, 0.5), 8000)]).sources)
    packed = PackedSources([*SOURCES, *decoded])
    assert packed[len(SOURCES)].decoded is decoded[0].decoded
    assert list(packed)[:-1] == SOURCES


@pytest.mark.parametrize("first", [0, 255, 256, 700])
def test_a_key_that_occurs_twice_is_found_in_any_block(first):
    sources = [plain(number) for number in range(800)]
    assert len(ClipSet("s", sources[::-1])) == 800
    with pytest.raises(UsageError, match="'utt-000000' occurs twice"):
        ClipSet("s", [*sources[: first + 1], plain(0), *sources[first + 1 :]])


def test_they_take_under_a_third_of_the_memory():
    def memory(collect):
        tracemalloc.start()
        sources = collect(plain(number) for number in range(10_000))
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(sources) == 10_000
        return taken

    assert memory(PackedSources) < memory(tuple) / 3
