"""Cost of intake: the gate that every clip passes, against a run of `signal`; opening a manifest of a million rows."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf

from cdslm_eval.core.admission import Levels, fault
from cdslm_eval.core.audio import read_audio
from cdslm_eval.core.completeness import truncation

SECONDS, RATE_HZ, CLIPS = 10.0, 16000, 100
ROWS = 1_000_000


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for number in range(CLIPS):
        sf.write(folder / f"{number}.flac", 0.05 * rng.standard_normal(int(SECONDS * RATE_HZ)), RATE_HZ)
    return sorted(folder.iterdir())


def gate(files, clips):
    for path, samples in zip(files, clips, strict=True):
        assert not truncation(path)
        assert not fault(Levels.of(samples).peak)


@pytest.mark.benchmark(group="admission, clips of 10 s")
def test_the_gate_as_a_share_of_a_run_of_signal(benchmark, files, tmp_path):
    """Compare processor time of the gate with that of the whole command, over as many clips, start-up left out."""
    clips = [read_audio(path).samples for path in files]

    def run(n_clips):
        folder = tmp_path / f"clips-{n_clips}"
        folder.mkdir()
        for index in range(n_clips):
            (folder / f"{index}.flac").symlink_to(files[index % CLIPS])
        command = [sys.executable, "-m", "cdslm_eval", "score", str(folder), "-m", "signal", "--jobs", "1"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*command, "--store", str(folder / "store")], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    start_up_s = run(1)
    run_s = (run(CLIPS) - start_up_s) / (CLIPS - 1)
    benchmark.pedantic(gate, args=(files, clips), rounds=50, iterations=1, warmup_rounds=2)
    gate_s = benchmark.stats.stats.median / CLIPS
    benchmark.extra_info.update(gate_ms=gate_s * 1e3, run_ms=run_s * 1e3, share=gate_s / run_s)
    assert gate_s / run_s < 0.02


OPEN = """
import re, sys, time
from cdslm_eval import ClipSet
start_s = time.process_time()
clips = ClipSet.open(sys.argv[1])
seconds = time.process_time() - start_s
# the peak of getrusage would count that of the process this was started from
kilobytes = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
print(len(clips), seconds, kilobytes * 1024 / 1e6)
"""


@pytest.mark.benchmark(group="opening a manifest of a million rows")
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_opening_a_million_rows(benchmark, tmp_path, suffix):
    """Open it in a process of its own, so that the peak of its memory, imports included, is that of opening alone."""
    manifest = tmp_path / f"m{suffix}"
    with manifest.open("w") as file:
        file.write("path,key,text,speaker\n" if suffix == ".csv" else "")
        for number in range(ROWS):
            row = {
                "path": f"clips/{number // 1000:04d}/{number:07d}.flac",
                "key": f"utt-{number:07d}",
                "text": f"the words of clip {number}",
                "speaker": f"s{number % 1000}",
            }
            file.write((",".join(row.values()) if suffix == ".csv" else json.dumps(row)) + "\n")

    def opened():
        command = [sys.executable, "-c", OPEN, str(manifest)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    n_clips, seconds, megabytes = benchmark.pedantic(opened, rounds=3, iterations=1)
    assert int(n_clips) == ROWS
    benchmark.extra_info.update(cpu_s=float(seconds), peak_mb=float(megabytes))
    assert float(seconds) < 6
    assert float(megabytes) < 400
