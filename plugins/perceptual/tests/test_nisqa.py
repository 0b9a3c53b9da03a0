"""NISQA against torchmetrics on the published weights; weights that are missing, wrong or hostile."""

from __future__ import annotations

import hashlib
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from cdslm_eval_perceptual import nisqa_weights
from cdslm_eval_perceptual.nisqa import NisqaMetric, NisqaOptions

from cdslm_eval.core.audio import Clip, read_audio
from cdslm_eval.core.errors import EvalError
from cdslm_eval.plugin.contract import Skipped
from cdslm_eval.plugin.identity import identify
from cdslm_eval.testing import METRIC_CHECKS

torch = pytest.importorskip("torch")
NAMES = ["mos", "noisiness", "discontinuity", "coloration", "loudness"]


@pytest.fixture(scope="module")
def weights(shared_data):
    return shared_data / "weights/nisqa/nisqa.tar"


@pytest.fixture
def metric(weights):
    return NisqaMetric(NisqaOptions(weights=str(weights)))


@pytest.fixture
def nothing_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(nisqa_weights.VARIABLE, raising=False)
    return tmp_path / "cache/cdslm_eval/nisqa.tar"


@pytest.fixture
def server():
    """Serve bytes by path on this machine, as the authors' repository does."""
    files = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = files.get(self.path)
            self.send_response(200 if body is not None else 404)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_):
            pass

    web_server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=web_server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{web_server.server_port}", files
    web_server.shutdown()
    web_server.server_close()


def clip_of(path, seconds=None):
    audio = read_audio(path)
    count = len(audio.samples) if seconds is None else int(seconds * audio.rate_hz)
    return Clip(key=path.stem, samples=audio.samples[:count], rate_hz=audio.rate_hz)


@pytest.mark.filterwarnings("default")
def test_scores_are_those_of_torchmetrics_at_any_rate_and_length(metric, weights, shared_data, monkeypatch):
    pytest.importorskip("librosa")
    pytest.importorskip("requests")
    theirs = pytest.importorskip("torchmetrics.functional.audio.nisqa")
    monkeypatch.setattr(theirs, "NISQA_DIR", str(weights.parent))
    generated = sorted((shared_data / "slm_samples/tgslm").rglob("*.flac"))
    odd = shared_data / "odd/generated"
    clips = [
        clip_of(generated[0], 0.3),
        clip_of(generated[30]),
        clip_of(odd / "8k.wav"),
        clip_of(odd / "96k_24bit.wav"),
    ]
    with metric.open("cpu"):
        rows = list(metric.measure(clips))
    for clip, row in zip(clips, rows, strict=True):
        assert list(row) == NAMES
        wanted = theirs.non_intrusive_speech_quality_assessment(torch.from_numpy(clip.samples), clip.rate_hz)
        assert list(row.values()) == pytest.approx(wanted.tolist(), abs=1e-4)


def test_clips_outside_its_domain_are_skipped_with_the_limit(metric):
    noise = 0.1 * np.random.default_rng(0).standard_normal(16_000 * 53).astype(np.float32)
    clips = [
        (noise[:0], 16_000),
        (noise[:16_000] * 0, 16_000),
        (noise, 16_000),
        (noise[:90_000], 384_000),
        (noise[:1500], 16_000),
    ]
    with metric.open("cpu"):
        rows = list(metric.measure([Clip(key="x", samples=clip, rate_hz=rate) for clip, rate in clips]))
    assert all(isinstance(row, Skipped) for row in rows)
    assert [row.reason.split(";")[0].split(",")[0] for row in rows] == [
        "no samples", "silent", "over 52 s", "a rate of 384000 Hz", "under 0.15 s",
    ]  # fmt: skip


def test_weights_are_looked_for_where_they_may_lie_and_their_digest_is_the_identity(
    weights, nothing_cached, monkeypatch
):
    assert NisqaMetric.fetches() == "nisqa.tar (1 MB)"
    monkeypatch.setenv(nisqa_weights.VARIABLE, str(weights))
    assert NisqaMetric.fetches() is None
    assert NisqaMetric().fingerprint() == {"weights": hashlib.sha256(weights.read_bytes()).hexdigest()}
    # the same weights elsewhere are the same metric
    assert identify(NisqaMetric()) == identify(NisqaMetric(NisqaOptions(weights=str(weights))))


def test_a_download_is_kept_only_when_its_digest_is_right(weights, nothing_cached, server):
    address, files = server
    files["/right"], files["/wrong"] = weights.read_bytes(), b"<html>not found</html>"
    with pytest.raises(EvalError, match=r"/wrong gave another file than wanted"):
        nisqa_weights.located(None, url=f"{address}/wrong")
    with pytest.raises(EvalError, match=r"cannot be downloaded from .*/absent .*nisqa:weights=FILE"):
        nisqa_weights.located(None, url=f"{address}/absent")
    assert not nothing_cached.exists()
    assert nisqa_weights.located(None, url=f"{address}/right") == nothing_cached
    files.clear()
    assert nisqa_weights.located(None, url=f"{address}/right") == nothing_cached
    assert [web_server.name for web_server in nothing_cached.parent.iterdir()] == ["nisqa.tar"]


class _Hostile:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "cannot be read"),
        (lambda path: path.write_bytes(b"no checkpoint"), "no checkpoint of NISQA or holds code"),
        (
            lambda path: torch.save({"args": _Hostile(path.with_name("mark")), "model_state_dict": {}}, path),
            "holds code",
        ),
        (lambda path: torch.save({"weights": torch.zeros(1)}, path), "not of NISQA"),
        (lambda path: torch.save({"args": {"model": "NISQA"}, "model_state_dict": {}}, path), "another network"),
    ],
    ids=["absent", "text", "code", "other checkpoint", "other architecture"],
)
def test_a_file_that_is_no_weights_is_named_and_nothing_in_it_runs(tmp_path, make, message):
    path = tmp_path / "mine.tar"
    make(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "0"
    with (
        pytest.raises(EvalError, match=message) as caught,
        NisqaMetric(NisqaOptions(weights=str(path), sha256=digest)).open("cpu"),
    ):
        pass
    assert str(path) in str(caught.value)
    assert not (tmp_path / "mark").exists()


def test_another_digest_is_refused_with_both_ways_out(tmp_path, weights):
    path = tmp_path / "nisqa.tar"
    path.write_bytes(weights.read_bytes() + b"\0")
    actual_digest = hashlib.sha256(path.read_bytes()).hexdigest()
    broken = NisqaMetric(NisqaOptions(weights=str(path)))
    assert broken.fingerprint() == {"weights": "missing"}
    with pytest.raises(EvalError, match=f"not the published weights.*sha256={actual_digest}"), broken.open("cpu"):
        pass


@pytest.mark.parametrize("check", METRIC_CHECKS, ids=str)
def test_the_contract(metric, check):
    check(metric)
