"""Devices side by side, the CPU beside them: the rows of one worker, whatever runs where and fails how."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import ClassVar

import hostile_metrics as hostile
import numpy as np
import pytest
import soundfile as sf

from cdslm_eval import Clip, GeneratorInfo, Mean, Metric, RangeGenerator, api
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.packed import ParquetCell
from cdslm_eval.core.sources import Source
from cdslm_eval.core.spans import Span
from cdslm_eval.core.store import Outcome, Store
from cdslm_eval.plugin.execution import Finished, Produced
from cdslm_eval.run import Request, Runner
from cdslm_eval.run.decoding import Unit, decoded_groups
from cdslm_eval.run.executors import devices
from cdslm_eval.run.executors.local import LocalExecutor
from cdslm_eval.run.worker import Measured, Worker


class TwoDevices(LocalExecutor):
    """`local` on a machine with two devices that no library knows."""

    def devices(self, device):
        assert device == "fake:*"
        return ("fake:0", "fake:1")


def outcomes(path, executor, clips, metrics, recognizer, device, transcriber=None):
    with Store(path) as store:
        runner = Runner(store, executor, recognizer, jobs=1, device=device, transcriber=transcriber)
        calls = []
        (measured,) = runner.run([Request(clips, metrics)], lambda done, total: calls.append((done, total)))
        assert calls[-1] == (len(clips), len(clips))
        return [list(measured.outcomes(metric)) for metric in metrics]


def test_two_devices_and_the_cpu_measure_side_by_side_what_one_worker_does(tone_set, tmp_path, monkeypatch):
    monkeypatch.setenv("DEVICES", str(tmp_path))
    folder = tone_set("t", 40)
    (folder / "c05.wav").write_bytes(b"no audio")
    clips = ClipSet.open(folder)
    metrics = (hostile.BesideDevices(), hostile.CountsPhones())
    beside, phones = outcomes(tmp_path / "s", TwoDevices(), clips, metrics, hostile.OnDevice(), "fake:*")
    sums = [float(np.sum(clip.samples, dtype=np.float64)) for clip in clips[:5]]
    sums += [float(np.sum(clip.samples, dtype=np.float64)) for clip in clips[6:]]
    assert [outcome.row["x"] for outcome in beside if outcome.status == "ok"] == sums
    assert [outcome.row["x"] for outcome in phones if outcome.status == "ok"] == [3.0] * 37
    assert phones[2].reason == "no phones: on_device: the worker process ended with exit code 7"
    assert phones[3].reason.startswith("no phones: ValueError: not this one")
    assert beside[5].status == "failed"
    assert phones[5] == beside[5]
    for fits in (1, 2):
        runs = [list(map(int, path.read_text().split())) for path in tmp_path.glob(f"sizes-{fits}-*")]
        assert any(max(sizes) > fits for sizes in runs)  # out of memory at first, and then not again
        assert all(sum(size > fits for size in sizes) <= 3 - fits for sizes in runs)


class InThisProcess(LocalExecutor):
    """Runs lanes in turn without processes: what is routed where shows without their cost."""

    def devices(self, device):
        return tuple(device.split(",")) if "," in device else ()

    tasks: ClassVar[list] = []

    def run_lanes(self, lanes):
        with ExitStack() as stack:
            work = [(lane, stack.enter_context(lane.worker.open())) for lane in lanes]
            self.tasks[:] = [0] * len(lanes)
            busy = True
            while busy:
                busy = False
                for number, (lane, measure) in enumerate(work):
                    if (task := lane.next_task()) is not None:
                        busy = True
                        self.tasks[number] += 1
                        for value in measure(task.payload):
                            yield Produced(task.ident, value)
                        yield Finished(task.ident)


class Opens(hostile.FlakyEncoder):
    """A metric with a model on a device that reads what a recognizer of the CPU provides."""

    name = "opens"
    needs = frozenset({"audio", "phones"})


class OnCpu(hostile.Flaky):
    name = "on_cpu"
    cpu_only = True


@pytest.mark.parametrize("flaky", ["", "flaky:clip", "on_cpu:clip", "writer:clip", "flaky:open", "opens:open"])
def test_what_one_lane_provides_reaches_those_that_read_it_in_another(tone_set, tmp_path, monkeypatch, flaky):
    monkeypatch.setenv("FLAKY", flaky)
    clips = ClipSet.open(tone_set("t", 9))
    # transcripts on a device -> words on the CPU; phones on either -> a metric of either
    metrics = (Opens(), hostile.CountsPhones(), hostile.CountsWords(), hostile.Batched())
    writer = hostile.FlakyTranscriber()
    for recognizer in (hostile.Flaky(), OnCpu(), hostile.FlakyReader()):
        executor, rows = InThisProcess(), {}
        for device in ("cpu", "fake:0,fake:1"):
            store = tmp_path / f"{recognizer.name}-{device}"
            rows[device] = outcomes(store, executor, clips, metrics, recognizer, device, writer)
        assert repr(rows["fake:0,fake:1"]) == repr(rows["cpu"])
        assert len(executor.tasks) == 3
        assert all(executor.tasks)


def test_a_file_that_changes_between_two_lanes_vouches_for_no_row_of_the_other(tone_set, tmp_path):
    folder = tone_set("t", 2)

    class Rewrites(Metric):
        """Runs on the CPU, and changes a file once, before the device reads it."""

        name = "rewrites"
        statistics: ClassVar = {"x": Mean("x")}

        def measure(self, clips):
            for clip in clips:
                if clip.key == "c00" and not (folder.parent / "done").exists():
                    sf.write(folder / "c00.wav", 0.5 * clip.samples, clip.rate_hz)
                    (folder.parent / "done").touch()
                yield {"x": float(np.abs(clip.samples).max())}

    clips, metrics = ClipSet.open(folder), (Rewrites(), hostile.FlakyEncoder())
    peaks = [float(np.abs(clip.samples).max()) for clip in clips]
    runs = []
    with Store(tmp_path / "s") as store:
        for _ in range(2):
            runner = Runner(store, InThisProcess(), hostile.Flaky(), jobs=1, device="fake:0,fake:1")
            (measured,) = runner.run([Request(clips, metrics)])
            runs.append([list(measured.outcomes(metric)) for metric in metrics])
    (first, encoder), (again, encoder_again) = runs
    assert [outcome.row["x"] for outcome in first] == peaks
    assert [outcome.reason for outcome in encoder] == [
        "its file changed while it was measured; repeat the command",
        "",
    ]
    assert [outcome.row["x"] for outcome in again] == [pytest.approx(peaks[0] / 2, rel=1e-3), peaks[1]]
    assert [outcome.status for outcome in encoder_again] == ["ok", "ok"]


def test_the_next_batch_is_decoded_while_one_is_measured(tone_set, monkeypatch):
    from cdslm_eval.run import decoding

    decoded, decode = [], decoding.decode_unit
    ahead = threading.Event()

    def noted(unit, measurers, fetches):
        decoded.append(unit.uid)
        if len(decoded) == 8:
            ahead.set()
        return decode(unit, measurers, fetches)

    class Waits(Metric):
        name = "waits"
        statistics: ClassVar = {"x": Mean("x")}
        batch_clips = 4

        def measure(self, clips):
            assert ahead.wait(10), "the second batch was not decoded while the first was measured"
            assert len(decoded) <= (8 if clips[0].key == "c00" else 12)  # and no further: memory is bounded
            for clip in clips:
                yield {"x": float(len(clip.samples))}

    monkeypatch.setattr(decoding, "decode_unit", noted)
    units = [Unit(number, source, (0,)) for number, source in enumerate(ClipSet.open(tone_set("t", 12)).sources)]
    with Worker((Waits(),), "cpu", decoders=2).open() as work:
        outcomes = [event.outcome for event in work(units) if isinstance(event, Measured)]
    assert outcomes == [Outcome("ok", "", {"x": 4000.0})] * 12


def test_clips_of_unknown_size_are_not_decoded_without_a_bound():
    class Reads(Metric):
        name = "reads"
        needs: ClassVar = {"text"}
        statistics: ClassVar = {"x": Mean("x")}
        batch_clips = 1000

        def measure(self, clips):
            return ({"x": 1.0} for _ in clips)

    objects = [Source(f"{number}", f"s3://bucket/{number}.flac", text="a") for number in range(200)]
    parts = [source._replace(span=Span.between(0, 60)) for source in objects]
    cells = [source._replace(packed=ParquetCell(0, 0, "audio")) for source in objects]
    assert {source.bytes for source in (*objects, *cells)} == {None}
    assert {source.bytes for source in parts} == {60 * 192_000}
    for sources, largest in ((objects, 64), (cells, 64), (parts, 5)):
        units = [Unit(number, source, (0,)) for number, source in enumerate(sources)]
        groups = [list(group) for group in decoded_groups(units, (Reads(),), None)]
        assert [decoded.unit for group in groups for decoded in group] == units
        assert max(map(len, groups)) == largest


@pytest.mark.parametrize(("device", "count", "named"), [
    ("auto", 0, ()),
    ("cpu", 0, ()),
    ("cuda", 2, ()),
    ("cuda:1", 2, ("cuda:1",)),
    ("cuda:1, cuda:0", 2, ("cuda:1", "cuda:0")),
    ("cuda:*", 3, ("cuda:0", "cuda:1", "cuda:2")),
    ("cuda:2", 2, "there is no cuda:2 here, only cuda:0, cuda:1"),
    ("cuda:*", 0, "there is no GPU here .* Use: --device cpu"),
    ("cuda:0,cuda:*", 2, "names a GPU twice"),
    ("cuda:0,cpu", 2, "no such device; Use: auto, cpu, cuda, cuda:N"),
    ("gpu", 2, "no such device"),
    ("cuda:-1", 2, "no such device"),
])  # fmt: skip
def test_devices_by_name_are_those_that_there_are(device, count, named, monkeypatch):
    monkeypatch.setattr(devices, "count_gpus", lambda: count)
    if isinstance(named, tuple):
        assert LocalExecutor().devices(device) == named
        return
    with pytest.raises(UsageError, match=f"--device {device}: {named}".replace("*:", r"\*:")):
        LocalExecutor().devices(device)


def test_a_device_that_is_not_there_stops_a_run_before_anything_is_measured(tone_set, tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "count_gpus", lambda: 2)
    with pytest.raises(UsageError, match="--device cuda:1,cuda:2: there is no cuda:2 here, only cuda:0, cuda:1"):
        api.score(tone_set("t", 2), metrics="signal", device="cuda:1,cuda:2", store=tmp_path / "s.cdslm")


def test_devices_share_the_clips_of_a_generator_and_write_the_files_of_one(tmp_path):
    arguments = {"count": 24, "seconds": 0.2, "seed": 4}
    api.generate(NotesDevices, tmp_path / "one", **arguments)
    NotesDevices.opened.clear()
    api.generate(NotesDevices, tmp_path / "two", **arguments, executor=InThisProcess(), device="fake:0,fake:1")
    assert NotesDevices.opened == ["fake:0", "fake:1"]
    assert min(InThisProcess.tasks) >= 3
    written, expected = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("two", "one")
    )
    assert written == expected


class NotesDevices(RangeGenerator):
    """Noise, keyed by the number of the clip, from a model that notes its device."""

    name = "notes_devices"
    opened: ClassVar[list] = []

    @contextmanager
    def open(self, device):
        self.opened.append(device)
        yield

    def info(self):
        return GeneratorInfo(rate_hz=8000)

    def clip_range(self, prompts, numbers, seconds, seed):
        for number in numbers:
            samples = np.random.default_rng((seed, number)).uniform(-1, 1, int(8000 * seconds)).astype(np.float32)
            yield Clip(key=f"{number:03d}", samples=samples, rate_hz=8000)
