"""Time and peak memory of stores at scale: merging shards, a mean over 10 million rows, pJSD over a million clips.

    python benchmarks/store_scale.py merge --shards 1000 --rows 10000 --json benchmarks/results/store-scale.json
    python benchmarks/store_scale.py mean --rows 10000000 --json benchmarks/results/store-scale.json
    python benchmarks/store_scale.py pjsd --clips 1000000 --phones 120 --json benchmarks/results/store-scale.json

Stores are made from a seed in a temporary folder, and deleted. Each command that is measured is a fresh process, whose
wall and processor time and largest resident memory the kernel reports. Entries of the JSON file are named by `--name`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cdslm_eval.core.provenance import host_id
from cdslm_eval.core.spans import Address
from cdslm_eval.core.store import FileFacts, Outcome, Store
from cdslm_eval.plugin.host import Host
from cdslm_eval.plugin.identity import identify

WORDS = 20_000


def measured(command: list[str], folder: Path) -> dict[str, Any]:
    """Run a command in a fresh process; return its seconds, its peak memory in GB and what it prints."""
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=folder) as process:
        assert process.stdout is not None
        printed = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:6])} ...: exit code {process.returncode}")
    return {
        "wall_s": round(time.monotonic() - began, 1),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_gb": round(usage.ru_maxrss * 1024 / 1e9, 2),
        "printed": printed,
    }


def program(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "cdslm_eval", *map(str, arguments)]


def digests(count: int, rng: np.random.Generator) -> list[str]:
    """Return content digests in the order in which a store keeps them, which makes writing it quick."""
    return sorted(rng.bytes(32).hex() for _ in range(count))


def identity_of(metric: str) -> tuple[str, dict[str, Any]]:
    host = Host()
    recognizer = host.resolve("recognizer", "pocketsphinx")
    identity = identify(host.resolve("metric", metric), {"phones": recognizer})
    return identity.ident, dict(identity.parts)


def facts(digest: str) -> FileFacts:
    return FileFacts(host_id(), 1, 1, 1, 1, digest, 10.0, 16000, 1, "FLAC PCM_16", "none", 0.5, 0.0, -20.0, 0.0, "")


def write_levels(path: Path, subjects: list[str], rng: np.random.Generator) -> None:
    """Write a store of rows of `signal`, as it measures clips of 10 s."""
    ident, parts = identity_of("signal")
    silent, levels = 10 * rng.beta(2, 8, len(subjects)), rng.normal(-24, 3, len(subjects))
    with Store(path) as store:
        store.put_identity(ident, parts)
    # as `Store.put_row` writes them, but many in one call: ten million calls take longer than what is measured
    with sqlite3.connect(path) as db:
        rows = zip(subjects, silent.tolist(), levels.tolist(), strict=True)
        db.executemany(
            "INSERT INTO rows VALUES (?, ?, 'ok', '', ?)", ((ident, subject, _row(*row)) for subject, *row in rows)
        )
    db.close()
    with Store(path) as store:
        store.seal()


def _row(pause: float, level: float) -> str:
    return (
        f'{{"seconds": 10.0, "level_dbfs": {level!r}, "silent_s": {pause!r}, "speech_s": {10.0 - pause!r}, '
        '"clipped": 0, "samples": 160000, "phones": 120}'
    )


def merge(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measure `store merge` over many small stores."""
    rng = np.random.default_rng(args.seed)
    shards = [folder / f"shard{number:04d}.cdslm" for number in range(args.shards)]
    for shard in shards:
        write_levels(shard, digests(args.rows, rng), rng)
    result = measured(program("merge", folder / "all.cdslm", *shards), folder)
    del result["printed"]
    with Store(folder / "all.cdslm", read_only=True) as store:
        ((rows,),) = store.query("SELECT count(*) FROM rows")
    assert rows == args.shards * args.rows
    return result | {"shards": args.shards, "rows": rows, "bytes": sum(shard.stat().st_size for shard in shards)}


def write_rows(path: Path, rows: int, seed: int) -> None:
    """Write a store of levels."""
    rng = np.random.default_rng(seed)
    write_levels(path, digests(rows, rng), rng)


def mean(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measure `store estimate` of a mean over many rows."""
    # in a process of its own: the kernel counts the memory of the one that starts a command as that of the command
    writer = multiprocessing.Process(target=write_rows, args=(folder / "levels.cdslm", args.rows, args.seed))
    writer.start()
    writer.join()
    assert writer.exitcode == 0
    command = ("store", "estimate", folder / "levels.cdslm", "--metrics", "signal", "--json")
    return estimates(measured(program(*command), folder)) | {"rows": args.rows}


def sentences(clips: int, phones: int, rng: np.random.Generator, words: np.random.Generator) -> Iterator[list[str]]:
    """Yield clips of about `phones` phones: words of a Zipf lexicon, so that n-grams are as rare as those of speech."""
    symbols = np.array([f"P{number:02d}" for number in range(40)])
    common = 1 / np.arange(1, 41) / (1 / np.arange(1, 41)).sum()
    lengths = words.integers(1, 8, WORDS)
    lexicon = np.split(words.choice(40, int(lengths.sum()), p=common), np.cumsum(lengths)[:-1])
    spoken = [symbols[codes].tolist() for codes in lexicon]
    chances = 1 / np.arange(1, WORDS + 1)
    cumulative = np.cumsum(chances / chances.sum())
    for _ in range(clips):
        clip: list[str] = []
        for word in np.searchsorted(cumulative, rng.random(phones // 2)).tolist():
            clip += spoken[min(word, WORDS - 1)]
            if len(clip) >= phones:
                break
        yield clip[:phones]


def pjsd(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measure `store estimate` of pJSD over many clips."""
    ident, parts = identity_of("pjsd")
    rng = np.random.default_rng(args.seed)
    with Store(folder / "phones.cdslm") as store:
        store.put_identity(ident, parts)
        for name, count, lexicon in (("system", args.clips, 1), ("real", args.reference, 2)):
            words = np.random.default_rng([args.seed, lexicon])
            subjects = digests(count, rng)
            with store.writing():
                clips = sentences(count, args.phones, rng, words)
                for number, (subject, clip) in enumerate(zip(subjects, clips, strict=True)):
                    store.put_row(ident, subject, Outcome("ok", "", {"phones": clip}))
                    store.put_file(Address(f"/{name}/{number:07d}.flac"), facts(subject))
        store.seal()
    command = ("store", "estimate", folder / "phones.cdslm", "--metrics", "pjsd")
    sides = ("--system", "/system/", "--reference", "/real/", "--json")
    result = estimates(measured(program(*command, *sides), folder))
    return result | {"clips": args.clips, "reference_clips": args.reference, "phones_a_clip": args.phones}


def estimates(result: dict[str, Any]) -> dict[str, Any]:
    """Replace what was printed by its values, so that a run can be compared with another."""
    printed = json.loads(result.pop("printed"))
    return result | {"values": {entry["name"]: entry["value"] for entry in printed["estimates"]}}


def main() -> None:
    """Run one measurement and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["merge", "mean", "pjsd"])
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--reference", type=int, default=100_000)
    parser.add_argument("--phones", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", help="Of the entry; default: what is measured.")
    parser.add_argument("--json", type=Path, help="Takes the result, next to those that it holds.")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="store-scale-") as folder:
        result = {"merge": merge, "mean": mean, "pjsd": pjsd}[args.what](Path(folder), args)
    result["load"] = round(os.getloadavg()[0], 1)
    print(json.dumps(result, indent=1))
    if args.json:
        known = json.loads(args.json.read_text(encoding="utf-8")) if args.json.exists() else {}
        known[args.name or args.what] = result
        args.json.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
