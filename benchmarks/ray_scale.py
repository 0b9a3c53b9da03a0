"""Speed of the executor `ray`: its overhead next to `local`, two nodes next to one, and a million references.

    python benchmarks/ray_scale.py overhead --audio DIR --clips 300 --rounds 3 --json benchmarks/results/ray-scale.json
    python benchmarks/ray_scale.py nodes --audio DIR --clips 300 --rounds 3 --json benchmarks/results/ray-scale.json
    python benchmarks/ray_scale.py schedule --clips 1000000 --json benchmarks/results/ray-scale.json

Clips are 10 s cut from the recordings under DIR, joined one after the other; without DIR they are `bench`'s own. Runs
of the two kinds alternate, so that other work on the machine meets both; its load is recorded. Nodes are those of
`ray.cluster_utils.Cluster`, real processes with their own schedulers on this machine. The rate of a run is that in the
middle of it; start-up is stated apart. Processor seconds are those of all processes of the cluster.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

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
    raise SystemExit(f"{audio}: holds {number} clips of {SECONDS} s; {count} were asked for")


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


def measured(
    executor: Executor, jobs: int, folder: Path, metric: str | type[Metric] = "pjsd"
) -> tuple[dict[str, Any], list[Outcome]]:
    """Measure a metric's rows of all clips into a new store; return the times, and the rows."""
    host = Host()
    recognizer = host.make("recognizer", "phone-ctc")
    clips = ClipSet.open(folder)
    # the middle of the run: every worker has opened its models by then, and none waits for work
    begin, end = 0.4 * len(clips), 0.9 * len(clips)
    first: list[float] = []
    marks: list[tuple[float, float, int]] = []

    def note(done: int, _: int) -> None:
        first.extend([time.perf_counter()] if done and not first else [])
        if done >= (begin, end, math.inf)[len(marks)]:
            marks.append((time.perf_counter(), processor_s(), done))

    with tempfile.TemporaryDirectory() as name, Store(Path(name) / "s.cdslm") as store:
        runner = Runner(store, executor, recognizer, jobs=jobs)
        metric = host.resolve("metric", metric)
        start = time.perf_counter()
        (rows,) = runner.run([Request(clips, (metric,))], note)
        wall = time.perf_counter() - start
        outcomes = list(rows.outcomes(metric))
    assert all(outcome.status == "ok" for outcome in outcomes)
    (from_s, from_cpu, begun), (to_s, to_cpu, done) = marks
    facts = {
        "wall_s": wall,
        "first_s": first[0] - start,
        "clips_per_s": (done - begun) / (to_s - from_s),
        "cpu_ms_per_clip": 1000 * (to_cpu - from_cpu) / (done - begun),
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
    """Compare one worker of `ray` with one of `local`."""
    with cluster_of(1) as address:
        executor = RayExecutor(RayOptions(address=address))
        times, equal = alternated(
            {
                "local": lambda: measured(LocalExecutor(), 1, folder),
                "ray": lambda: measured(executor, 1, folder),
            },
            arguments.rounds,
        )
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
                "2 nodes": partial(measured, two, 1, folder, metric),
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
    host = Host()
    metric, recognizer = host.make("metric", "pjsd"), host.make("recognizer", "phone-ctc")
    paths = (str(folder / f"{number:07d}.flac") for number in range(arguments.clips))
    whole = ClipSet("references", tuple(Source(f"{number:07d}", path) for number, path in enumerate(paths)), "")
    with cluster_of(2) as address:
        parts = {"handed out": (False, whole), "handed out, a row each stored": (True, whole[: len(whole) // 10])}
        for name, (rows, clips) in parts.items():
            executor = Answering(RayOptions(address=address))
            executor.rows = rows
            start, cpu = time.perf_counter(), time.process_time()
            with Store(folder / f"{rows}.cdslm") as store:
                Runner(store, executor, recognizer).run([Request(clips, (metric,))])
            result[name] = {
                "references": len(clips),
                "wall_s": round(time.perf_counter() - start, 1),
                "driver_cpu_s": round(time.process_time() - cpu, 1),
                "driver_peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2),
                "load": round(os.getloadavg()[0], 1),
            }
            print(name, result[name], flush=True)
    return result


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
