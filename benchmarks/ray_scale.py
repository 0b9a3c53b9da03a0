"""Speed of the executor `ray`: its overhead next to `local`, two nodes next to one, and a million references.

    python benchmarks/ray_scale.py overhead --audio DIR --clips 1280 --rounds 3 --json benchmarks/results/ray-scale.json
    python benchmarks/ray_scale.py nodes --audio DIR --clips 1280 --rounds 3 --json benchmarks/results/ray-scale.json
    python benchmarks/ray_scale.py schedule --clips 1000000 --json benchmarks/results/ray-scale.json

Clips are 10 s cut from the recordings under DIR, joined one after the other; without DIR they are `bench`'s own. Runs
of the two kinds alternate, so that other work on the machine meets both; its load is recorded. Nodes are those of
`ray.cluster_utils.Cluster`, real processes with their own schedulers on this machine, and none runs beside `local`. The
rate of a run is that of the rows after the first group of every worker, to the last row; start-up is stated apart.
Processor seconds are those of all processes of the cluster. Peaks of memory are of a fresh process each.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import cloudpickle
import numpy as np
import psutil
import ray
from cdslm_eval_ray.executor import RayExecutor, RayOptions
from ray.cluster_utils import Cluster

from cdslm_eval import Mean, Metric
from cdslm_eval.core.audio import Clip, read_audio, write_flac
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.sources import Source
from cdslm_eval.core.store import FileFacts, Outcome, Store
from cdslm_eval.plugin.execution import Executor, Finished, Lost, Produced, Task, Worker
from cdslm_eval.plugin.host import Host
from cdslm_eval.run import Request, Runner
from cdslm_eval.run.benchmark import spoken_clips
from cdslm_eval.run.decoding import Read, Unit
from cdslm_eval.run.executors.local import LocalExecutor
from cdslm_eval.run.worker import Measured

SECONDS = 10
WAIT_S = 0.027  # phone-ctc on one core, with decoding
RATE_HZ = 16_000
GROUP_S = 0.05
"""Within which a group of rows is taken: a worker sends the next 0.2 s later."""
AUDIO = (".flac", ".ogg", ".opus", ".wav", ".mp3")


def write_clips(audio: Path | None, count: int, folder: Path) -> str:
    """Write clips of 10 s; return what they are."""
    if audio is None:
        clips, what = spoken_clips(Host(), count, SECONDS)
        for clip in clips:
            write_flac(folder / f"{clip.key}.flac", clip.samples, clip.rate_hz)
        return what
    size, number, rest = SECONDS * RATE_HZ, 0, np.zeros(0, np.float32)
    for path in sorted(path for path in audio.rglob("*") if path.suffix in AUDIO):
        decoded = read_audio(str(path))
        clip = Clip(key="", samples=decoded.samples, rate_hz=decoded.rate_hz).at_rate(RATE_HZ)
        rest = np.concatenate([rest, clip.samples])
        while len(rest) >= size and number < count:
            write_flac(folder / f"{number:05d}.flac", rest[:size], RATE_HZ)
            rest, number = rest[size:], number + 1
        if number == count:
            return f"{audio.name}, joined and cut"
    raise SystemExit(f"{audio}: holds {number} clips of {SECONDS} s; {count} are needed")


def processor_s() -> float:
    """Return the processor seconds of this process and of all its descendants, ended ones included."""
    total = 0.0
    own = psutil.Process()
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


class Waits(Metric):
    """Waits for as long as recognizing phones takes, instead of using a processor."""

    name = "waits"
    statistics: ClassVar = {"seconds": Mean("seconds")}
    batch_clips = 4

    def measure(self, clips: Sequence[Clip]) -> Iterator[dict[str, float]]:
        """Wait, and yield the length of each clip."""
        for clip in clips:
            time.sleep(WAIT_S)
            yield {"seconds": clip.seconds}


@dataclass
class Clock:
    """Counts the rows of a run as they arrive, in groups: those that were made before the count begins are left out.

    Attributes:
        workers: How many there are; the count begins when each has sent its first group.
        first_s: When the first row arrived.
        begin: Seconds and processor seconds when the count began; None before that.
        before: Rows that had arrived with the groups of that moment.
        last_s, rows: When the last row arrived, and how many there were.
        cpu: Processor seconds when the last task ended: those of workers that a cluster ends are lost with them.
    """

    workers: int
    first_s: float = 0.0
    begin: tuple[float, float] | None = None
    before: int = 0
    last_s: float = 0.0
    rows: int = 0
    cpu: float = 0.0

    def attach(self, executor: Executor) -> Executor:
        """Return a copy of an executor whose events are counted."""
        counted = copy.copy(executor)
        run = executor.run_lanes

        def timed(*arguments: Any) -> Iterator[Produced | Finished | Lost]:
            tasks: set[int] = set()
            for event in run(*arguments):
                if isinstance(event, Produced) and isinstance(event.value, Measured):
                    tasks.add(event.ident)
                    self._count(len(tasks))
                elif isinstance(event, Finished):
                    self.cpu = processor_s()
                yield event

        counted.run_lanes = timed  # type: ignore[method-assign]
        return counted

    def _count(self, tasks: int) -> None:
        now = time.perf_counter()
        self.rows, self.last_s, self.first_s = self.rows + 1, now, self.first_s or now
        if self.begin is None and tasks >= self.workers:
            self.begin = now, processor_s()
        if self.begin is not None and now - self.begin[0] < GROUP_S:
            self.before = self.rows


def measured(
    executor: Executor, workers: int, folder: Path, metric: str | type[Metric] = "pjsd"
) -> tuple[dict[str, Any], list[Outcome]]:
    """Measure a metric's rows of all clips into a new store; return the times, and the rows."""
    host = Host()
    recognizer = host.make("recognizer", "phone-ctc")
    clips = ClipSet.open(folder)
    clock = Clock(workers)
    with tempfile.TemporaryDirectory() as name, Store(Path(name) / "s.cdslm") as store:
        runner = Runner(store, clock.attach(executor), recognizer, jobs=workers)
        metric = host.resolve("metric", metric)
        start = time.perf_counter()
        (rows,) = runner.run([Request(clips, (metric,))])
        wall = time.perf_counter() - start
        outcomes = list(rows.outcomes(metric))
    assert all(outcome.status == "ok" for outcome in outcomes)
    assert clock.begin is not None
    from_s, from_cpu = clock.begin
    share = (clock.rows - clock.before) / clock.rows
    facts = {
        "wall_s": wall,
        "first_s": clock.first_s - start,
        "clips_per_s": share * len(clips) / (clock.last_s - from_s),
        "cpu_ms_per_clip": 1000 * (clock.cpu - from_cpu) / (share * len(clips)),
        "load": os.getloadavg()[0],
    }
    return {key: round(value, 3) for key, value in facts.items()}, outcomes


@contextmanager
def cluster_of(nodes: int) -> Iterator[str]:
    """Start a cluster of nodes of one CPU each, and provide its address."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(nodes - 1):
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    try:
        yield cluster.address
    finally:
        ray.shutdown()
        cluster.shutdown()


Run = Callable[[], tuple[dict[str, Any], list[Outcome]]]


def alternated(runs: dict[str, Run], rounds: int) -> tuple[dict[str, list[dict[str, Any]]], bool]:
    """Run each in turn, several times; return the times of each, and whether all rows were equal."""
    times: dict[str, list[dict[str, Any]]] = {name: [] for name in runs}
    first: list[Outcome] = []
    equal = True
    for _, (name, run) in itertools.product(range(rounds), runs.items()):
        facts, outcomes = run()
        first = first or outcomes
        equal &= outcomes == first
        times[name].append(facts)
        print(name, facts, flush=True)
    return times, equal


def median(times: list[dict[str, Any]], key: str) -> float:
    return statistics.median(facts[key] for facts in times)


def overhead(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Compare one worker of `ray` with one of `local`; the cluster runs for its own turns alone."""

    def on_cluster() -> tuple[dict[str, Any], list[Outcome]]:
        with cluster_of(1) as address:
            return measured(RayExecutor(RayOptions(address=address)), 1, folder)

    runs: dict[str, Run] = {"local": lambda: measured(LocalExecutor(), 1, folder), "ray": on_cluster}
    times, equal = alternated(runs, arguments.rounds)
    rates = {name: median(facts, "clips_per_s") for name, facts in times.items()}
    return {
        "runs": times,
        "rows equal": equal,
        "overhead of the rate": round(rates["local"] / rates["ray"] - 1, 3),
        "overhead of processor time": round(
            median(times["ray"], "cpu_ms_per_clip") / median(times["local"], "cpu_ms_per_clip") - 1, 3
        ),
        "seconds to the first result": {name: round(median(facts, "first_s"), 1) for name, facts in times.items()},
    }


def nodes(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Compare two nodes of one CPU with one; where other work shares the cores, waiting shows what Ray allows."""
    result: dict[str, Any] = {}
    with cluster_of(2) as address:
        one, two = RayExecutor(RayOptions(address=address, workers=1)), RayExecutor(RayOptions(address=address))
        for name, metric in (("waiting", Waits), ("recognition", "pjsd")):
            runs: dict[str, Run] = {
                "1 node": partial(measured, one, 1, folder, metric),
                "2 nodes": partial(measured, two, 2, folder, metric),
            }
            times, equal = alternated(runs, arguments.rounds)
            ratio = median(times["2 nodes"], "clips_per_s") / median(times["1 node"], "clips_per_s")
            result[name] = {"times one": round(ratio, 2), "rows equal": equal, "runs": times}
    return result


@dataclass(frozen=True)
class Answers:
    """A worker that measures nothing, so that the cost of handing out and of taking back is what is left.

    Attributes:
        rows: Whether it answers each clip with its facts and a row, which the driver stores.
    """

    rows: bool

    @contextmanager
    def open(self) -> Iterator[Callable[[Any], Iterator[Any]]]:
        """Provide the function that answers."""

        def answer(units: tuple[Unit, ...]) -> Iterator[Any]:
            for unit in units if self.rows else ():
                digest = sha256(unit.source.path.encode()).hexdigest()
                facts = FileFacts(
                    "", 1, 1, 1, 1, digest, 10.0, 16000, 1, "FLAC PCM_16", "none", 0.5, 0.0, -20.0, 0.0, ""
                )
                yield Read(unit.uid, unit.source.address, facts)
                for number in unit.wanted:
                    yield Measured(unit.uid, number, Outcome("ok", "", {"phones": ["AH0"] * 100}))

        yield answer


class Answering(RayExecutor):
    """`ray`, with workers that measure nothing."""

    rows = False

    def run(
        self, worker: Worker, next_task: Callable[[], Task | None], jobs: int
    ) -> Iterator[Produced | Finished | Lost]:
        """Run tasks as `ray` does."""
        del worker
        yield from super().run(Answers(self.rows), next_task, jobs)


def schedule(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Hand references out to two workers through a whole run; for a tenth of them a row each is taken back as well."""
    result: dict[str, Any] = {}
    parts = {"handed out": (False, arguments.clips), "handed out, a row each stored": (True, arguments.clips // 10)}
    for name, (rows, count) in parts.items():
        # the peak of memory is that of a process's whole life
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
            result[name] = fresh.submit(scheduled, count, rows, folder).result()
        print(name, result[name], flush=True)
    return result


def scheduled(count: int, rows: bool, folder: Path) -> dict[str, float]:
    """Hand references out; return what it took this process, which does nothing else."""
    # a spawned process knows this file by a name that actors cannot import
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    host = Host()
    metric, recognizer = host.make("metric", "pjsd"), host.make("recognizer", "phone-ctc")
    paths = (str(folder / f"{number:07d}.flac") for number in range(count))
    clips = ClipSet("references", tuple(Source(f"{number:07d}", path) for number, path in enumerate(paths)), "")
    with cluster_of(2) as address, Store(folder / f"{rows}.cdslm") as store:
        executor = Answering(RayOptions(address=address))
        executor.rows = rows
        start, cpu = time.perf_counter(), time.process_time()
        Runner(store, executor, recognizer).run([Request(clips, (metric,))])
        return {
            "references": count,
            "wall_s": round(time.perf_counter() - start, 1),
            "driver_cpu_s": round(time.process_time() - cpu, 1),
            "driver_peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2),
            "load": round(os.getloadavg()[0], 1),
        }


MODES: dict[str, Callable[[argparse.Namespace, Path], dict[str, Any]]] = {
    "overhead": overhead,
    "nodes": nodes,
    "schedule": schedule,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=[*MODES])
    parser.add_argument("--audio", type=Path, help="Recordings that clips are cut from.")
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="File of results; the entry of this mode is replaced.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "clips"
        folder.mkdir()
        references = arguments.mode == "schedule"
        what = "no audio" if references else write_clips(arguments.audio, arguments.clips, folder)
        result = MODES[arguments.mode](arguments, folder)
    result = {"clips": arguments.clips, "audio": what, "cores": os.cpu_count(), "ray": ray.__version__, **result}
    print(json.dumps(result, indent=1))
    if arguments.json:
        book = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
        book[arguments.mode] = result
        arguments.json.write_text(json.dumps(book, indent=1) + "\n")


if __name__ == "__main__":
    main()
