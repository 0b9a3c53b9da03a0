"""Generation over executors: the same bytes for any number of workers, resumed clip by clip, failures named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from cdslm_eval import api
from cdslm_eval.core.audio import Clip
from cdslm_eval.core.clips import MANIFEST
from cdslm_eval.core.errors import EvalError, UsageError
from cdslm_eval.plugin.contract import Generator, GeneratorInfo, Options, RangeGenerator
from cdslm_eval.plugin.host import Host
from cdslm_eval.run.generation import GenerationRequest, generate_set


class LogOptions(Options):
    log: str = ""
    fails_at: int = -1
    dies_at: int = -1


class Batches(RangeGenerator):
    """Each clip depends on which clips share its batch, as sums on a GPU do."""

    name = "batches"
    Options = LogOptions
    batch_clips = 4

    def info(self):
        return GeneratorInfo()

    def clip_range(self, prompts, numbers, seconds, seed):
        options = self.options
        for start in range(numbers.start, numbers.stop, 4):
            batch = range(start, min(start + 4, numbers.stop))
            for number in batch:
                if options.log:
                    with Path(options.log).open("a") as file:
                        file.write(f"{number}\n")
                if number == options.fails_at:
                    raise ValueError("no such sound")
                if number == options.dies_at:
                    os._exit(9)
                samples = np.full(400, (1 + sum(batch)) * (number + 1) / 10_000, np.float32)
                yield Clip(key=f"k{number}", samples=samples, rate_hz=8000, text=f"text {number}")


class OneStream(Generator):
    """Each clip continues the one before: a generator that knows nothing of ranges."""

    name = "stream"

    def info(self):
        return GeneratorInfo()

    def clips(self, prompts, count, seconds, seed):
        rng = np.random.default_rng(seed)
        for number in range(count):
            yield Clip(key=f"k{number}", samples=rng.uniform(-0.5, 0.5, 400).astype(np.float32), rate_hz=8000)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("generator", [Batches, OneStream, "noise"])
def test_any_number_of_workers_writes_the_same_files(generator, tmp_path, tone_set):
    prompts = tone_set("real", 3) if generator == "noise" else None
    arguments = {"count": 9, "seconds": 0.1, "seed": 4, "prompts": prompts}
    api.generate(generator, tmp_path / "alone", **arguments)
    done = []
    api.generate(generator, tmp_path / "two", **arguments, jobs=2, progress=lambda *counts: done.append(counts))
    assert content(tmp_path / "two") == content(tmp_path / "alone")
    assert len(content(tmp_path / "alone")) == 9 + 2
    assert done == [(number, 9) for number in range(1, 10)]


def interrupted(folder: Path, whole: Path, numbers: list[int]) -> None:
    """Leave what a call that was killed leaves: some clips, in the order in which workers sent them."""
    folder.mkdir()
    lines = (whole / MANIFEST).read_text().splitlines()
    info = json.loads((whole / "generator.json").read_text())
    header = {"order": {name: info[name] for name in ("spec", "seconds", "seed", "version")}}
    for number in numbers:
        (folder / f"{number:05d}.flac").write_bytes((whole / f"{number:05d}.flac").read_bytes())
    kept = [json.dumps(header), *(lines[number] for number in numbers), '{"path": "000']
    (folder / "manifest.part.jsonl").write_text("\n".join(kept))


def test_a_resumed_call_generates_the_missing_batches_only(tmp_path):
    log = tmp_path / "log.txt"
    generator = Batches(LogOptions(log=str(log)))
    whole = tmp_path / "whole"
    api.generate(generator, whole, count=16, seconds=0.1)
    interrupted(tmp_path / "part", whole, [9, 8, 0, 1, 2, 3, 10, 11, 5, 12, 13, 14, 15])
    log.unlink()
    api.generate(generator, tmp_path / "part", count=16, seconds=0.1, jobs=2)
    assert content(tmp_path / "part") == content(whole)
    assert sorted(map(int, log.read_text().split())) == [4, 5, 6, 7]


def test_a_clip_that_fails_costs_its_range_and_the_same_call_continues(tmp_path):
    folder = tmp_path / "out"
    with pytest.raises(EvalError, match=r"ValueError: no such sound \(\S*test_generation.py:\d+\)$"):
        api.generate(Batches(LogOptions(fails_at=5)), folder, count=16, seconds=0.1, executor="local", jobs=2)
    written = {int(path.stem) for path in folder.glob("*.flac")}
    assert written == set(range(16)) - {5, 6, 7}
    api.generate(Batches(), folder, count=16, seconds=0.1)
    api.generate(Batches(), tmp_path / "whole", count=16, seconds=0.1)
    assert content(folder) == content(tmp_path / "whole")


def test_a_process_that_dies_is_named_with_its_clips(tmp_path):
    folder = tmp_path / "out"
    with pytest.raises(EvalError, match="clips 4 to 7: the worker process ended with exit code 9"):
        api.generate(Batches(LogOptions(dies_at=6)), folder, count=8, seconds=0.1, jobs=2)
    assert {0, 1, 2, 3} <= {int(path.stem) for path in folder.glob("*.flac")}


def test_systems_of_score_are_generated_where_metrics_run(tmp_path, monkeypatch):
    log = tmp_path / "log.txt"
    result = api.score(
        Batches(LogOptions(log=str(log))), metrics="signal", count=5, executor="local", jobs=1,
        store=tmp_path / "s.cdslm", recognizer="sidecar",
    )  # fmt: skip
    assert result.estimate("duration").n_scored == 5
    assert sorted(map(int, log.read_text().split())) == [0, 1, 2, 3, 4]
    with pytest.raises(UsageError, match="no executor 'locl'"):
        api.generate("noise", tmp_path / "g", executor="locl")


def test_a_set_resolves_its_generator_once(tmp_path):
    made = []

    class Counted(OneStream):
        name = "counted"

        def __init__(self, options=None):
            super().__init__(options)
            made.append(self)

    request = GenerationRequest(Counted, count=2, seconds=0.05)
    assert len(generate_set(Host(), request, tmp_path, lambda _: None)) == 2
    assert len(made) == 1
