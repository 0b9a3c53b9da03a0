"""Objects are read ahead in their order and in bounded memory, and a failure is that of its clip."""

from __future__ import annotations

import pytest

from cdslm_eval.core.errors import AudioError
from cdslm_eval.core.remote import objects, prefetch
from cdslm_eval.core.spans import Address
from cdslm_eval.core.storage import Stamp

pytest.importorskip("s3fs")


def test_reading_ahead_keeps_the_order_and_a_bound_of_memory(monkeypatch):
    size, started, held = 8 << 20, [], []
    monkeypatch.setattr(
        prefetch,
        "_fetched",
        lambda address: started.append(1) or prefetch.Fetched(Stamp("s3", size, 0, 0, 1), bytes(size)),
    )
    addresses = [Address(f"s3://b/{number}") for number in range(40)]
    with prefetch.Prefetch(addresses) as ahead:
        for taken, address in enumerate(addresses):
            assert ahead.take(address).stamp.size == size
            held.append((len(started) - taken) * size)
    assert len(started) == 40
    assert max(held) <= prefetch._AHEAD_BYTES + objects.THREADS * objects.WHOLE_BYTES
    with prefetch.Prefetch([Address("/a.wav"), Address("s3://b/1")]) as ahead:
        assert ahead.take(Address("/a.wav")) is None
        monkeypatch.undo()


def test_a_failure_to_read_ahead_is_that_of_its_clip(monkeypatch):
    def fail(address):
        raise objects.RemoteError("no such object")

    monkeypatch.setattr(prefetch, "_fetched", fail)
    with prefetch.Prefetch([Address("s3://b/1")]) as ahead, pytest.raises(AudioError, match="no such object"):
        ahead.take(Address("s3://b/1"))
