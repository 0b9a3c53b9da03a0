"""Measures how fast metrics are here, on clips that need no data: spoken by espeak-ng, or noise with syllables."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from cdslm_eval.core import defaults
from cdslm_eval.core.audio import Clip, Samples, write_flac
from cdslm_eval.core.errors import EvalError
from cdslm_eval.core.sources import Source
from cdslm_eval.core.store import Outcome
from cdslm_eval.plugin.contract import UPSTREAM_FEATURES, Measurer, Metric
from cdslm_eval.plugin.execution import Executor, Produced, Task
from cdslm_eval.plugin.host import Host
from cdslm_eval.plugin.recognition import default_recognizer
from cdslm_eval.run.decoding import Unit
from cdslm_eval.run.measurer_graph import MeasurerGraph, resolve
from cdslm_eval.run.rates import CLIP_S, Rate
from cdslm_eval.run.worker import Measured, Worker

__all__ = ["Benchmark", "Unmeasured", "devices", "spoken_clips"]

_CLIPS = 8
_RATE_HZ = 22_050  # as espeak-ng speaks; no model's own rate, so that resampling counts as it does for most sets
_OFFLINE_TRANSCRIBERS = (defaults.TRANSCRIBER, "faster-whisper")


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """A metric that was not measured, and why."""

    name: str
    reason: str


def spoken_clips(host: Host, count: int = _CLIPS, seconds: float = CLIP_S) -> tuple[list[Clip], str]:
    """Return clips of one length with their texts, and what they are; equal on every call.

    Args:
        host: Provides the generator `speak`, where it can be used.
        count: Clips.
        seconds: Their length.
    """
    size = int(seconds * _RATE_HZ)
    registered = host.registered("generator").get("speak")
    if registered is None or registered.component.missing() is not None:
        rng = np.random.default_rng(0)
        return [_clip(number, _syllables(size, rng), None) for number in range(count)], "noise with syllables"
    path = files("cdslm_eval.builtin.generators") / "texts" / "demo_real.txt"
    sentences = iter(host.make("generator", f"speak:{path}").clips([], 20 * count, seconds, 0))
    clips = []
    for number in range(count):
        parts: list[Clip] = []
        while sum(len(part.samples) for part in parts) < size:
            parts.append(next(sentences))
        samples = np.concatenate([part.samples for part in parts])[:size]
        clips.append(_clip(number, samples, " ".join(part.text or "" for part in parts)))
    return clips, "sentences spoken by espeak-ng"


def _clip(number: int, samples: Samples, text: str | None) -> Clip:
    return Clip(key=f"{number:02d}", samples=samples, rate_hz=_RATE_HZ, text=text, speaker=f"voice{number}")


def _syllables(size: int, rng: np.random.Generator) -> Samples:
    """Return noise whose level rises and falls four times a second."""
    envelope = np.maximum(0.0, np.sin(2 * np.pi * rng.uniform(3, 5) * np.arange(size) / _RATE_HZ))
    return (0.2 * envelope * rng.standard_normal(size)).clip(-1, 1).astype(np.float32)


def devices(device: str) -> list[str]:
    """Return the devices to measure on: all there are for "auto"."""
    if device != "auto":
        return [device]
    from importlib.util import find_spec

    if find_spec("torch") is None:
        return ["cpu"]
    import torch

    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


@dataclass(frozen=True, slots=True)
class _Timing:
    """One batch in a worker: seconds by the clock and of the processor, outcomes, and memory so far."""

    seconds: float
    cpu_s: float
    outcomes: tuple[Outcome, ...]
    memory_mb: float
    gpu_memory_mb: float | None


@dataclass(frozen=True, slots=True)
class _Timed:
    """A worker that reports times instead of rows."""

    inner: Worker

    @contextmanager
    def open(self) -> Iterator[Callable[[Sequence[Unit]], Iterator[_Timing]]]:
        """Provide the function that measures a batch."""
        with self.inner.open() as work:

            def timed(units: Sequence[Unit]) -> Iterator[_Timing]:
                start, cpu = time.perf_counter(), time.process_time()
                outcomes = tuple(event.outcome for event in work(units) if isinstance(event, Measured))
                taken, cpu = time.perf_counter() - start, time.process_time() - cpu
                yield _Timing(taken, cpu, outcomes, _memory_mb(), _gpu_memory_mb())

            yield timed


@dataclass
class Benchmark:
    """Measures metrics one after the other, each in a worker process of its own.

    Attributes:
        host: The plugins of this environment.
        executor: Runs the worker processes.
        folder: Takes the clips.
        seconds: Least time that each is measured for, start-up excluded.
        sources: The clips; each is the prompt and the reference of the next.
        audio: What the clips are.
        providers: Upstream feature -> what provides it; without "transcript" where no transcriber can be used offline.
    """

    host: Host
    executor: Executor
    folder: Path
    seconds: float
    sources: list[Source] = field(init=False)
    audio: str = field(init=False)
    providers: dict[str, Measurer] = field(init=False)

    def __post_init__(self) -> None:
        clips, self.audio = spoken_clips(self.host)
        paths = [self.folder / f"{clip.key}.flac" for clip in clips]
        for path, clip in zip(paths, clips, strict=True):
            write_flac(path, clip.samples, clip.rate_hz)
        self.sources = [
            Source(
                key=clip.key,
                path=str(path),
                text=clip.text,
                speaker=clip.speaker,
                reference=str(paths[number - 1]),
                reference_text=clips[number - 1].text,
            )
            for number, (path, clip) in enumerate(zip(paths, clips, strict=True))
        ]
        self.providers = {"phones": self.host.make("recognizer", default_recognizer(self.host))}
        for name in _OFFLINE_TRANSCRIBERS:
            entry = self.host.registered("transcriber").get(name)
            if entry and entry.component.missing() is None and entry.component.fetches() is None:
                self.providers["transcript"] = self.host.make("transcriber", name)
                break
        self._upstream: dict[tuple[str, str], tuple[Outcome, ...]] = {}

    def measure(self, name: str, device: str) -> Iterator[Rate | Unmeasured]:
        """Yield the rate of a metric, after those of what it reads that were not measured yet.

        Args:
            name: A registered metric.
            device: "cpu", "cuda" or "cuda:N".
        """
        component = self.host.registered("metric")[name].component
        why = component.missing() or (component.fetches() and f"would fetch {component.fetches()}")
        if why:
            yield Unmeasured(name, str(why))
            return
        try:
            metric: Metric = self.host.make("metric", name)
            if "transcript" in metric.needs and "transcript" not in self.providers:
                yield Unmeasured(name, "no transcriber can be used here without a download")
                return
            graph = resolve([metric], self.providers)
            if graph.unusable:
                yield Unmeasured(name, "; ".join(graph.unusable.values()))
                return
            own = graph.number(metric)
            for feature in UPSTREAM_FEATURES:
                if feature in graph.depends_on[own] and (feature, device) not in self._upstream:
                    yield from self._provider(graph, feature, device)
            rate, _ = self._timed(graph, own, device)
        except EvalError as error:
            yield Unmeasured(name, str(error))
            return
        yield rate

    def _provider(self, graph: MeasurerGraph, feature: str, device: str) -> Iterator[Rate]:
        rate, outcomes = self._timed(graph, graph.number(graph.providers[feature]), device)
        self._upstream[feature, device] = outcomes
        yield rate

    def _timed(self, graph: MeasurerGraph, number: int, device: str) -> tuple[Rate, tuple[Outcome, ...]]:
        """Return the rate of one measurer and the outcomes of the clips.

        Raises:
            EvalError: No clip could be measured.
        """
        measurer = graph.measurers[number]
        units = self._units(graph, number, device)
        size = max(1, min(measurer.batch_clips, len(units)))
        batches = [units[start : start + size] for start in range(0, len(units), size)]
        timings: list[_Timing] = []
        spent = 0.0

        def next_task() -> Task | None:
            """Return the first clip alone, then every clip once, then all again until the time is over."""
            count = len(timings)
            if count == 0:
                return Task(1, units[:1])
            if count > len(batches) and spent >= self.seconds:
                return None
            return Task(count + 1, batches[(count - 1) % len(batches)])

        started, first = time.perf_counter(), 0.0
        for event in self.executor.run(_Timed(Worker(graph.measurers, device)), next_task, 1):
            if isinstance(event, Produced):
                timings.append(event.value)
                first = first or time.perf_counter() - started
                spent += event.value.seconds if len(timings) > 1 else 0.0
        if len(timings) <= len(batches):
            raise EvalError(f"{measurer.name}: its worker process ended")
        outcomes = tuple(outcome for timing in timings[1 : len(batches) + 1] for outcome in timing.outcomes)
        if reasons := {outcome.reason for outcome in outcomes if outcome.status == "failed"}:
            raise EvalError(f"{measurer.name}: {min(reasons)}")
        clips = sum(len(timing.outcomes) for timing in timings[1:])
        a_clip = spent / clips
        rate = Rate(
            name=measurer.name,
            ident=graph.identities[number].ident,
            device=device.partition(":")[0],
            clips_per_s=1 / a_clip,
            real_time_factor=a_clip / CLIP_S,
            cpu_s_per_clip=sum(timing.cpu_s for timing in timings[1:]) / clips,
            memory_mb=max(timing.memory_mb for timing in timings),
            gpu_memory_mb=timings[-1].gpu_memory_mb,
            start_up_s=max(0.0, first - a_clip),
            clips=clips,
            audio=self.audio,
            measured=datetime.now(UTC).date().isoformat(),
        )
        return rate, outcomes

    def _units(self, graph: MeasurerGraph, number: int, device: str) -> tuple[Unit, ...]:
        units = []
        for uid, source in enumerate(self.sources):
            known: Mapping[str, Outcome] = {
                feature: self._upstream[feature, device][uid]
                for feature in UPSTREAM_FEATURES
                if feature in graph.depends_on[number]
            }
            units.append(Unit(uid, source, (number,), known))
        return tuple(units)


def _memory_mb() -> float:
    """Return the most memory that this process has held, in MB."""
    try:
        # the kernel's other figure is inherited from the process that started this one
        status = Path("/proc/self/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    except (OSError, StopIteration):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most * (1 if os.uname().sysname == "Darwin" else 1024) / 1e6


def _gpu_memory_mb() -> float | None:
    """Return the most memory that torch has held on a GPU, in MB; None where it was not used."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return float(torch.cuda.max_memory_allocated()) / 1e6
