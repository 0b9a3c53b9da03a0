"""Suites: planning a large grid; judging again what a store holds, against summarising it again."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from cdslm_eval.core.errors import EvalError
from cdslm_eval.core.provenance import host_id
from cdslm_eval.core.store import FileFacts, Outcome, Store
from cdslm_eval.plugin.host import Host
from cdslm_eval.plugin.identity import content_needs, identify, subject
from cdslm_eval.suite import RunOptions, load_suite, make_plan, run_suite

SYSTEMS = 20
CLIPS = 1000
LIMIT_PLAN_S = 0.3
LIMIT_JUDGE_S = 10.0


def write_suite(folder, systems, clips, metrics=("pjsd", "signal")):
    """Write a suite over sets of empty files with phones beside them, and return its path."""
    rng = np.random.default_rng(0)
    lines = ['name = "large"', 'recognizer = "sidecar"', "[references.real]", 'path = "real"']
    for name in ("real", *(f"s{number:02d}" for number in range(systems))):
        (folder / name).mkdir()
        with (folder / name / "manifest.jsonl").open("w") as manifest:
            for number in range(clips):
                phones = " ".join(f"P{phone}" for phone in rng.zipf(1.4, 60) % 40)
                (folder / name / f"{number}.wav").touch()
                manifest.write(f'{{"path": "{number}.wav", "phones": "{phones}"}}\n')
        if name != "real":
            lines += [f"[systems.{name}]", f'path = "{name}"']
    lines += [f"[metrics.{name}]" for name in metrics]
    for number in range(10):
        lines += ["[[gates]]", f'gate = "pjsd_{1 + number % 5} < {0.1 * (1 + number)}"']
    path = folder / "suite.toml"
    path.write_text("\n".join(lines))
    return path


def fill(store_path, plan):
    """Put rows for every clip under every metric into a store, as a finished measurement leaves them."""
    rng = np.random.default_rng(1)
    with Store(store_path) as store, store.writing():
        for number, entry in enumerate(plan.sets):
            for index, source in enumerate(entry.clips.sources):
                digest = f"{number:04d}{index:060d}"
                stat = Path(source.path).stat()
                store.put_file(
                    source.address,
                    FileFacts(
                        host=host_id(),
                        size=stat.st_size,
                        mtime_ns=stat.st_mtime_ns,
                        ctime_ns=stat.st_ctime_ns,
                        inode=stat.st_ino,
                        digest=digest,
                        seconds=5.0,
                        rate_hz=16000,
                        channels=1,
                        encoding="PCM",
                        mixdown="",
                    ),
                )
                for metric in plan.metrics.values():
                    ident = plan.identities[metric.name]
                    row = {"phones": list(source.phones)}
                    if metric.name == "signal":
                        columns = {c for s in metric.statistics.values() for c in s.columns}
                        row = dict(zip(sorted(columns), rng.random(len(columns)).tolist(), strict=True))
                    key = subject(content_needs(metric, plan.upstream), source, digest, None)
                    store.put_row(ident.stored.ident, key, Outcome("ok", "", row))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    path = write_suite(folder, SYSTEMS, CLIPS)
    plan = make_plan(load_suite(path), Host(pinned=[]))
    fill(folder / "s.cdslm", plan)
    start = time.perf_counter()
    first = run_suite(plan, RunOptions(store=folder / "s.cdslm"))
    return path, folder / "s.cdslm", first, time.perf_counter() - start


def usable(host, wanted):
    """Return metrics of this environment whose weights, if any, are here."""
    names = []
    for name, klass in host.registered("metric").items():
        try:
            identify(host.make("metric", name), {})
        except EvalError:
            continue
        if klass.component.fetches() is None and "transcript" not in klass.component.needs:
            names.append(name)
    return sorted(names, key=lambda name: (name not in ("pjsd", "signal"), name))[:wanted]


def test_planning_20_systems_of_10_metrics(benchmark, tmp_path):
    """Sets of 100 clips each, ten gates; as many metrics as are installed, up to ten."""
    metrics = usable(Host(), 10)
    path = write_suite(tmp_path, SYSTEMS, 100, metrics)
    plan = benchmark.pedantic(lambda: make_plan(load_suite(path), Host()), rounds=5)
    benchmark.extra_info["metrics"] = len(plan.metrics)
    assert len(plan.cells) == SYSTEMS * len(metrics)
    assert benchmark.stats["median"] < LIMIT_PLAN_S


def test_judging_again_over_20_000_cached_clips_against_summarising_them(benchmark, large):
    path, store, first, once_s = large

    def again():
        return run_suite(make_plan(load_suite(path), Host(pinned=[])), RunOptions(store=store))

    result = benchmark.pedantic(again, rounds=3)
    benchmark.extra_info["times_summarising"] = once_s / benchmark.stats["median"]
    assert result.as_json()["estimates"] == first.as_json()["estimates"]
    assert benchmark.stats["median"] < LIMIT_JUDGE_S
