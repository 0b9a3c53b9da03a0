"""dnsmos against a loop of speechmos; two workers against one; pesq, stoi and dnsmos in a run against plain loops."""

from __future__ import annotations

import os
import resource
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from cdslm_eval.core.audio import Clip
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.store import Store
from cdslm_eval.plugin.host import Host
from cdslm_eval.run import Request, Runner
from cdslm_eval.run.executors.local import LocalExecutor

RATE_HZ = 16_000


def speech(count, seconds, seed=0):
    """Return noise with the rhythm of syllables: its cost does not depend on the words."""
    rng = np.random.default_rng(seed)
    times = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    for _ in range(count):
        envelope = np.maximum(0.0, np.sin(2 * np.pi * rng.uniform(3, 5) * times + rng.uniform(0, 6)))
        yield (0.2 * envelope * rng.standard_normal(len(times))).clip(-1, 1).astype(np.float32)


@contextmanager
def one_core():
    """Keep this process to one core, so that a library's own threads do not blur what a core does."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def seconds_of(action, clock=time.perf_counter):
    start = clock()
    action()
    return clock() - start


def workers_cpu():
    """Return the processor seconds of all processes that were started from here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def with_speechmos(clips):
    from speechmos import dnsmos

    for samples in clips:
        dnsmos.run(samples, RATE_HZ)


# on one core processor time is time, whoever else is on the machine
@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("seconds", [4.0, 3.7, 14.0])
def test_dnsmos_per_core_against_a_loop_of_speechmos(benchmark, seconds):
    clips = list(speech(6, seconds))
    metric = Host().make("metric", "dnsmos")
    ours = [Clip(key=str(n), samples=samples, rate_hz=RATE_HZ) for n, samples in enumerate(clips)]
    with one_core(), metric.open("cpu"):
        with_speechmos(clips[:1])
        plain = seconds_of(lambda: with_speechmos(clips), time.process_time)
        benchmark.pedantic(lambda: list(metric.measure(ours)), rounds=3, warmup_rounds=1)
    benchmark.extra_info["ratio"] = plain / benchmark.stats.stats.median
    assert benchmark.extra_info["ratio"] > 1


@pytest.fixture
def pairs(tmp_path):
    """Return 200 pairs of 4 s as a manifest and as arrays."""
    real, rng = list(speech(200, 4.0)), np.random.default_rng(1)
    tested = [(clip + 0.02 * rng.standard_normal(len(clip))).clip(-1, 1).astype(np.float32) for clip in real]
    lines = []
    for number, (first, other) in enumerate(zip(real, tested, strict=True)):
        for name, samples in (("real", first), ("tested", other)):
            sf.write(tmp_path / f"{name}{number}.wav", samples, RATE_HZ, subtype="FLOAT")
        lines.append(f'{{"path": "tested{number}.wav", "reference": "real{number}.wav"}}')
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    return tmp_path / "pairs.jsonl"


def a_run(manifest: Path, names, jobs, count=None):
    host = Host()
    chosen = tuple(host.make("metric", name) for name in names)
    subset = ClipSet.open(manifest)[:count]
    path = manifest.with_name(f"{time.time_ns()}.cdslm")
    with Store(path) as store:
        runner = Runner(store, LocalExecutor(), None, jobs=jobs)
        (measured,) = runner.run([Request(subset, chosen)])
        assert all(outcome.status == "ok" for metric in chosen for outcome in measured.outcomes(metric))


def plain_loops(manifest: Path, count):
    """Call the three packages file by file, as a script does that has no host."""
    from pesq import pesq
    from pystoi import stoi
    from speechmos import dnsmos

    for number in range(count):
        tested, real = (sf.read(manifest.with_name(f"{name}{number}.wav"))[0] for name in ("tested", "real"))
        pesq(RATE_HZ, real, tested, "wb")
        stoi(real, tested, RATE_HZ)
        dnsmos.run(tested.astype(np.float32), RATE_HZ)


def test_two_workers_against_one(benchmark, pairs):
    started = workers_cpu()
    first = seconds_of(lambda: a_run(pairs, ["dnsmos"], 1, 60))
    between = workers_cpu()
    benchmark.pedantic(a_run, (pairs, ["dnsmos"], 2, 60), rounds=1)
    benchmark.extra_info["ratio"] = first / benchmark.stats.stats.median
    # what two workers spend together against what one spends: 1 is no work added by sharing it
    benchmark.extra_info["workers_cpu_ratio"] = (workers_cpu() - between) / (between - started)
    assert benchmark.extra_info["workers_cpu_ratio"] < 1.2


def test_three_metrics_on_two_cores_against_plain_loops(benchmark, pairs):
    sample = 20  # of the 200: the loop's cost is per clip
    plain = seconds_of(lambda: plain_loops(pairs, sample)) * 200 / sample
    benchmark.pedantic(a_run, (pairs, ["pesq", "stoi", "dnsmos"], 2), rounds=1)
    benchmark.extra_info["ratio"] = plain / benchmark.stats.stats.median
    benchmark.extra_info["plain_s"] = plain
    assert benchmark.extra_info["ratio"] > 1
