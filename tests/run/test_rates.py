"""Measured rates: how they are kept, what a run takes by them, and how a metric is measured."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import cdslm_eval
from cdslm_eval import Mean
from cdslm_eval.builtin.metrics.channel import ChannelMetric as Channel
from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.contract import Metric
from cdslm_eval.plugin.host import Host
from cdslm_eval.plugin.identity import identify
from cdslm_eval.run.benchmark import Benchmark, Unmeasured, spoken_clips
from cdslm_eval.run.clip_ranges import InProcess
from cdslm_eval.run.decoding import Read, Unit
from cdslm_eval.run.rates import Rate, RateBook
from cdslm_eval.run.worker import Measured, Worker

RATE = Rate("channel", "", "cpu", 1.0, 100.0, 1.0, 60.0, None, 7.0, 8, "noise", "2026-01-02")


@pytest.fixture
def book(tmp_path, monkeypatch):
    monkeypatch.setenv("CDSLM_EVAL_STORE", str(tmp_path / "user" / "store.cdslm"))
    monkeypatch.setenv("CDSLM_EVAL_PLUGINS", "")
    return RateBook()


def tones(count, seconds=1.0):
    times = np.arange(int(8000 * seconds)) / 8000
    return [(0.1 * np.sin((200 + number) * times).astype(np.float32), 8000) for number in range(count)]


def notes_of(tmp_path, clips, **options):
    """Return the notes of a run on clips in memory about how long it takes."""
    notes = []
    cdslm_eval.score(
        clips, metrics="channel", jobs=2, note=notes.append, store=tmp_path / "s.cdslm", executor=InProcess, **options
    )
    return [note for note in notes if "clips take" in note]


def test_a_run_states_what_it_takes_by_the_measured_rates(book, tmp_path):
    book.add([dataclasses.replace(RATE, ident=identify(Channel()).ident)])
    # 4 clips of 1 s at 100 s of work a second, on 2 workers, and 7 s to start
    assert notes_of(tmp_path, tones(4)) == [
        "note: measuring 4 clips takes about 3 min on 2 workers, by rates of 2026-01-02"
    ]
    # what the store holds is not measured again: 1 of 5 is left
    (rest,) = notes_of(tmp_path, tones(5))
    assert "measuring 1 clips takes about 2 min on 1 worker," in rest


def test_without_a_rate_a_large_run_says_how_to_measure_one_and_a_small_one_says_nothing(book, tmp_path):
    # a rate of another device or identity is no rate
    book.add([RATE, dataclasses.replace(RATE, ident=identify(Channel()).ident, device="cuda")])
    assert notes_of(tmp_path, tones(3, 0.1), device="cpu") == []
    (note,) = notes_of(tmp_path, tones(205, 0.05), device="cpu")
    assert "no rate of channel was measured here; Use: cdslm-eval bench" in note


def test_a_damaged_book_costs_a_run_its_forecast_only(book, tmp_path):
    book.path.parent.mkdir(parents=True)
    book.path.write_text("{")
    notes = []
    options = {"jobs": 1, "store": tmp_path / "s.cdslm", "executor": InProcess}
    result = cdslm_eval.score(tones(3), metrics="channel", note=notes.append, **options)
    assert result.estimates[0].n_scored == 3
    assert any("not readable as measured rates" in note for note in notes)


def test_rates_replace_their_own_and_leave_other_machines_alone(book):
    book.add([RATE])
    other = {"another machine": [dataclasses.asdict(RATE)]}
    book.path.write_text(json.dumps({**json.loads(book.path.read_text()), **other}))
    book.add([dataclasses.replace(RATE, clips_per_s=2.0), dataclasses.replace(RATE, ident="x")])
    assert {key: rate.clips_per_s for key, rate in book.rates().items()} == {("", "cpu"): 2.0, ("x", "cpu"): 1.0}
    assert json.loads(book.path.read_text())["another machine"] == other["another machine"]


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1} trailing'])
def test_a_damaged_book_names_the_file_and_the_fix(book, text):
    book.path.parent.mkdir()
    book.path.write_text(text)
    with pytest.raises(UsageError, match=r"rates\.json: not readable as measured rates .*delete it"):
        book.rates()


class Broken(Metric):
    """Fails on every clip."""

    name = "broken"
    version = "1"
    statistics = {"x": Mean("x")}  # noqa: RUF012 - as plugins write it

    def measure(self, clips):
        raise ValueError("no such thing")


class Fetching(Broken):
    """Needs a download."""

    name = "fetching"

    @classmethod
    def fetches(cls):
        return "everything"


def test_a_metric_is_measured_after_its_recognizer_and_a_failing_one_has_a_reason(tmp_path, monkeypatch):
    host = Host(pinned=[])
    entries = host.registered("metric")
    broken = {klass.name: dataclasses.replace(entries["signal"], component=klass) for klass in (Broken, Fetching)}
    monkeypatch.setattr(
        host, "registered", lambda kind: {**Host.registered(host, kind), **(broken if kind == "metric" else {})}
    )
    monkeypatch.setattr(
        host, "make", lambda kind, spec: broken[spec].component() if spec in broken else Host.make(host, kind, spec)
    )
    measuring = Benchmark(host, InProcess(), tmp_path, 0.0)
    measuring.providers["phones"] = host.make("recognizer", "sidecar")
    (channel,) = measuring.measure("channel", "cpu")
    assert channel.ident == identify(Channel()).ident
    assert channel.real_time_factor == pytest.approx(1 / (10 * channel.clips_per_s))
    assert 20 < channel.memory_mb < 20_000
    assert [rate.name for rate in measuring.measure("signal", "cpu")] == ["sidecar", "signal"]
    (reason,) = measuring.measure("broken", "cpu")
    assert isinstance(reason, Unmeasured)
    assert reason.reason.startswith("broken: ValueError: no such thing (")
    assert list(measuring.measure("fetching", "cpu")) == [Unmeasured("fetching", "would fetch everything")]


def test_the_clips_are_the_same_on_every_call_and_last_what_they_should():
    (first, what), (second, _) = (spoken_clips(Host(pinned=[]), 2, 3.0) for _ in range(2))
    assert what == "sentences spoken by espeak-ng"
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.samples, b.samples)
        assert a.seconds == pytest.approx(3.0, abs=1e-3)
    assert first[0].text != first[1].text


class Paired(Metric):
    """Reads the clip and its reference at 16 kHz."""

    name = "paired"
    version = "1"
    needs = frozenset({"audio", "reference_audio"})
    rate_hz = 16_000
    statistics = {"x": Mean("x")}  # noqa: RUF012 - as plugins write it

    def measure(self, clips):
        for clip in clips:
            yield {"x": float(len(clip.samples) + len(clip.reference.samples))}


class PairedToo(Paired):
    """The same under another name."""

    name = "paired_too"


@pytest.mark.parametrize(("rates", "calls"), [((16_000, 24_000), 1), ((24_000, 16_000), 1), ((8_000, 24_000), 2)])
def test_a_clip_is_decoded_once_and_resampled_once_a_rate_however_many_metrics_read_it(
    tmp_path, monkeypatch, rates, calls
):
    import soundfile as sf

    from cdslm_eval.core import audio
    from cdslm_eval.core.sources import Source

    for name, rate_hz in zip(("own", "real"), rates, strict=True):
        sf.write(tmp_path / f"{name}.wav", np.sin(np.arange(rate_hz) / 9), rate_hz)
    source = Source(key="a", path=str(tmp_path / "own.wav"), reference=str(tmp_path / "real.wav"))
    resampled, plain = [], audio.resample

    def counted(samples, from_hz, to_hz):
        resampled.extend([from_hz] * (from_hz != to_hz))
        return plain(samples, from_hz, to_hz)

    monkeypatch.setattr(audio, "resample", counted)
    metrics = (Paired(), PairedToo(), Paired())
    with Worker(metrics, "cpu").open() as work:
        events = list(work([Unit(0, source, (0, 1, 2))]))
    assert [event.address.path for event in events if isinstance(event, Read)] == [source.path, source.reference]
    assert [event.outcome.row["x"] for event in events if isinstance(event, Measured)] == [32_000.0] * 3
    assert len(resampled) == calls
