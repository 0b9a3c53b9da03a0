"""Cost of the gate that every clip passes: completeness of the file and levels, against decoding and `signal`."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile as sf

from cdslm_eval.builtin.metrics.signal import Signal
from cdslm_eval.core.admission import Levels, fault
from cdslm_eval.core.audio import Clip, content_digest, read_audio
from cdslm_eval.core.completeness import truncation

SECONDS, RATE_HZ, CLIPS = 10.0, 16000, 20


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


def whole(files):
    """Decode, hash and measure with `signal`, as a worker does for each clip."""
    metric = Signal()
    with metric.open("cpu"):
        for path in files:
            audio = read_audio(path)
            digest = content_digest(audio.samples, audio.rate_hz)
            list(metric.measure([Clip(key=path.name, samples=audio.samples, rate_hz=audio.rate_hz, digest=digest)]))


@pytest.mark.benchmark(group="admission, 20 clips of 10 s")
def test_the_gate_alone(benchmark, files):
    clips = [read_audio(path).samples for path in files]
    benchmark.pedantic(gate, args=(files, clips), rounds=20, iterations=1, warmup_rounds=2)


@pytest.mark.benchmark(group="admission, 20 clips of 10 s")
def test_decoding_and_signal_with_the_gate(benchmark, files):
    benchmark.pedantic(whole, args=(files,), rounds=20, iterations=1, warmup_rounds=2)
