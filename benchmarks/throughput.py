"""Where the processor time of a run goes: five metrics over clips of 10 s, and loops over the packages next to it.

    python benchmarks/throughput.py DATA --clips 1000 --folder FOLDER --json benchmarks/results/throughput.json

DATA holds `speech/librispeech_mini` and `speech/speechocean762`. FOLDER takes the clips: FLAC, half of them at 24 kHz
and half at 16 kHz, each with the next 10 s of the same speaker, at either rate, as its prompt. Everything is processor
time, which other programs on the machine do not move; "models" is what is spent inside `measure` and `recognize`, of
which "networks" is inside onnxruntime and torch.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import sys
import tempfile
import time
import types
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from cdslm_eval.core.audio import resample
from cdslm_eval.core.clips import ClipSet, decode
from cdslm_eval.core.store import Store
from cdslm_eval.plugin.execution import Executor, Finished, Lost, Produced, Task, Worker
from cdslm_eval.plugin.host import Host
from cdslm_eval.run import Request, Runner
from cdslm_eval.run.executors.local import LocalExecutor

METRICS = ("pjsd", "signal", "dnsmos", "speaker_similarity", "activity")
RATE_HZ, OTHER_HZ, SECONDS = 16_000, 24_000, 10


def pairs(data: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield 10 s of a speaker with the next 10 s of the same speaker; loudness and words as recorded."""
    for corpus in ("librispeech_mini", "speechocean762"):
        folder, by_speaker = data / "speech" / corpus, defaultdict(list)
        with (folder / "manifest.tsv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                by_speaker[row["speaker"]].append(folder / row["path"])
        for paths in by_speaker.values():
            samples = np.concatenate([soundfile.read(path, dtype="float32")[0] for path in paths])
            whole = samples[: len(samples) // (SECONDS * RATE_HZ) * SECONDS * RATE_HZ].reshape(-1, SECONDS * RATE_HZ)
            yield from zip(whole, np.roll(whole, -1, axis=0), strict=True)


def make(data: Path, folder: Path, count: int) -> Path:
    """Write clips and their prompts once, and return the manifest."""
    manifest = folder / "manifest.jsonl"
    if manifest.exists():
        return manifest
    folder.mkdir(parents=True, exist_ok=True)
    source, lines = pairs(data), []
    for number in range(count):
        samples, prompt = next(source)
        pair = {f"{number:04d}": (samples, number % 2), f"prompt{number:04d}": (prompt, number // 2 % 2)}
        for name, (speech, other) in pair.items():
            rate_hz = OTHER_HZ if other else RATE_HZ
            soundfile.write(folder / f"{name}.flac", resample(speech, RATE_HZ, rate_hz).clip(-1, 1), rate_hz)
        lines.append(json.dumps({"path": f"{number:04d}.flac", "reference": f"prompt{number:04d}.flac"}))
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return manifest


@dataclass
class Timed:
    """A worker whose measurers and networks report their processor time after each task.

    Attributes:
        inner: The worker of the run.
        folder: Takes one JSON file per process.
    """

    inner: Any
    folder: str

    @contextmanager
    def open(self) -> Iterator[Callable[[Any], Iterator[Any]]]:
        """Wrap what is measured, and open the worker."""
        spent: dict[str, float] = defaultdict(float)
        _wrap_networks(spent)
        for measurer in getattr(self.inner, "measurers", ()):
            _wrap_measure(measurer, spent)
        start = time.process_time()
        with self.inner.open() as work:

            def timed(payload: Any) -> Iterator[Any]:
                yield from work(payload)
                report = {**spent, "process": time.process_time(), "imports": start}
                Path(self.folder, f"{os.getpid()}.json").write_text(json.dumps(report), encoding="utf-8")

            yield timed


def _wrap_measure(measurer: Any, spent: dict[str, float]) -> None:
    """Add the processor time of a measurer's `measure` and `open` to `spent`."""
    measure, opened = measurer.measure, measurer.open

    def timed(clips: Any) -> list[Any]:
        start = time.process_time()
        rows = list(measure(clips))
        spent[f"measure {measurer.name}"] += time.process_time() - start
        return rows

    @contextmanager
    def timed_open(device: str) -> Iterator[None]:
        start = time.process_time()
        with opened(device):
            spent[f"open {measurer.name}"] += time.process_time() - start
            yield

    measurer.measure, measurer.open = timed, timed_open


def _wrap_networks(spent: dict[str, float]) -> None:
    """Add the processor time inside onnxruntime and torch to `spent`."""
    import onnxruntime
    import torch

    run, call = onnxruntime.InferenceSession.run, torch.nn.Module.__call__

    def timed_run(self: Any, *args: Any, **options: Any) -> Any:
        start = time.process_time()
        try:
            return run(self, *args, **options)
        finally:
            spent["networks"] += time.process_time() - start

    def timed_call(self: Any, *args: Any, **options: Any) -> Any:
        start = time.process_time()
        try:
            return call(self, *args, **options)
        finally:
            spent["networks"] += time.process_time() - start

    onnxruntime.InferenceSession.run, torch.nn.Module.__call__ = timed_run, timed_call


class TimedExecutor(Executor):
    """`local`, with workers that report their processor time."""

    name = "timed"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.inner = folder, LocalExecutor()

    def run(
        self, worker: Worker, next_task: Callable[[], Task | None], jobs: int
    ) -> Iterator[Produced | Finished | Lost]:
        """Run tasks as `local` does."""
        yield from self.inner.run(Timed(worker, str(self.folder)), next_task, jobs)


def cpu(who: int) -> float:
    """Return the processor seconds of this process or of its ended children."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def whole_run(manifest: Path, jobs: int, count: int) -> dict[str, Any]:
    """Measure everything once, and return where the processor time went, in seconds."""
    host = Host()
    metrics = tuple(host.make("metric", name) for name in METRICS)
    recognizer = host.make("recognizer", "phone-ctc")
    with tempfile.TemporaryDirectory() as name, Store(Path(name) / "s.cdslm") as store:
        parent, start, children = cpu(resource.RUSAGE_SELF), time.perf_counter(), cpu(resource.RUSAGE_CHILDREN)
        runner = Runner(store, TimedExecutor(Path(name)), recognizer, jobs=jobs)
        (measured,) = runner.run([Request(ClipSet.open(manifest)[:count], metrics)])
        wall, parent = time.perf_counter() - start, cpu(resource.RUSAGE_SELF) - parent
        children = cpu(resource.RUSAGE_CHILDREN) - children
        scored = {m.name: sum(outcome.status == "ok" for outcome in measured.outcomes(m)) for m in metrics}
        reports = [json.loads(path.read_text()) for path in Path(name).glob("*.json")]
    spent: dict[str, float] = defaultdict(float)
    for report in reports:
        for part, seconds in report.items():
            spent[part] += seconds
    models = sum(seconds for part, seconds in spent.items() if part.startswith("measure "))
    start_up = spent["imports"] + sum(seconds for part, seconds in spent.items() if part.startswith("open "))
    total = parent + spent["process"] - start_up
    return {
        "clips": count,
        "scored": scored,
        "jobs": jobs,
        "wall_s": wall,
        "load": os.getloadavg()[0],
        "cpu_s": {
            "total without start-up": total,
            "models": models,
            "networks": spent["networks"],
            "workers outside models": spent["process"] - start_up - models,
            "parent": parent,
            "start-up": start_up,
            "children by the kernel": children,
        },
        "measure_cpu_s": {part[8:]: seconds for part, seconds in spent.items() if part.startswith("measure ")},
        "share_outside_models": 1 - models / total,
        "share_outside_networks": 1 - spent["networks"] / total,
    }


def packages() -> Mapping[str, Callable[[np.ndarray, np.ndarray], Any]]:
    """Return one call per package as its documentation has it: samples and prompt at 16 kHz in, scores out."""
    import silero_vad
    import torch
    from pesq import pesq
    from pystoi import stoi
    from speechmos import dnsmos

    # the speaker encoder needs it for trimming alone, which no call below uses; it has no wheel
    sys.modules.setdefault("webrtcvad", types.ModuleType("webrtcvad"))
    import resemblyzer

    encoder, detector = resemblyzer.VoiceEncoder("cpu", verbose=False), silero_vad.load_silero_vad(onnx=True)
    return {
        "dnsmos": lambda clip, _: dnsmos.run(clip, RATE_HZ),
        "stoi": lambda clip, prompt: stoi(prompt, clip, RATE_HZ),
        "pesq": lambda clip, prompt: pesq(RATE_HZ, prompt, clip, "wb"),
        "speaker_similarity": lambda clip, prompt: encoder.embed_utterance(clip) @ encoder.embed_utterance(prompt),
        "activity": lambda clip, _: silero_vad.get_speech_timestamps(torch.from_numpy(clip), detector),
    }


def next_to_packages(manifest: Path, count: int) -> dict[str, Any]:
    """Return the processor seconds a clip of each metric in a run of its own, and of a loop over its package."""
    import torch

    torch.set_num_threads(1)
    clips, host, table = ClipSet.open(manifest)[:count], Host(), {}
    for name, call in packages().items():
        metric = host.make("metric", name)
        ours = []
        with metric.open("cpu"):
            for source in clips.sources:
                start = time.process_time()
                clip = decode(source, with_reference="reference_audio" in metric.needs)
                list(metric.measure([clip.at_rate(metric.rate_hz)]))
                ours.append(time.process_time() - start)
        loop = []
        for source in clips.sources:
            start = time.process_time()
            pair = []
            for path in (source.path, source.reference):
                samples, rate_hz = soundfile.read(path, dtype="float32")
                pair.append(resample(samples, rate_hz, RATE_HZ).clip(-1, 1))
            call(*pair)
            loop.append(time.process_time() - start)
        # the first clip of each warms caches
        table[name] = {"ours_cpu_s": float(np.mean(ours[1:])), "package_cpu_s": float(np.mean(loop[1:]))}
        table[name]["ratio"] = table[name]["package_cpu_s"] / table[name]["ours_cpu_s"]
    return table


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--packages", type=int, default=20, help="Clips of the loops over packages; 0: none.")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--label", default="after", help="Key of this run in the file.")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    manifest = make(options.data, options.folder, options.clips)
    results = json.loads(options.json.read_text(encoding="utf-8")) if options.json.exists() else {}
    results[options.label] = whole_run(manifest, options.jobs, options.clips)
    if options.packages:
        results["packages"] = next_to_packages(manifest, options.packages)
    options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
