"""Nothing is downloaded at run time: every metric that calls itself offline works without a socket."""

from __future__ import annotations

import dataclasses
import socket

import numpy as np
import pytest

from cdslm_eval.plugin.host import Host
from cdslm_eval.testing.clips import spoken

HOST = Host()
OFFLINE = [
    name
    for name, entry in HOST.registered("metric").items()
    if entry.component.missing() is None and entry.component.fetches() is None
]


class RefusedError(Exception):
    """A socket was used."""


@pytest.fixture
def no_sockets(monkeypatch):
    def refuse(*_, **__):
        raise RefusedError

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(RefusedError):
        socket.create_connection(("192.0.2.1", 80))


@pytest.mark.parametrize("name", OFFLINE)
def test_an_offline_metric_opens_no_connection(name, no_sockets):
    metric = HOST.make("metric", name)
    clip = next(clip for clip in spoken() if clip.seconds > 1).at_rate(metric.rate_hz)
    # long enough for what follows a clip over time
    clip = dataclasses.replace(clip, samples=np.tile(clip.samples, int(8 / clip.seconds) + 1))
    rng = np.random.default_rng(0)
    noisy = dataclasses.replace(clip, samples=clip.samples + 0.01 * rng.standard_normal(len(clip.samples), np.float32))
    phones, transcript = tuple("abcab"), "a quiet morning in the old house"
    clip = dataclasses.replace(
        clip, reference=noisy, speaker="s", text=transcript, phones=phones, transcript=transcript
    )
    metric.fingerprint()
    with metric.open("cpu"):
        (row,) = metric.measure([clip])
    assert isinstance(row, dict), row
