"""Word error rate and processor time of the transcriber that runs offline, on read speech with known texts.

    OMP_NUM_THREADS=1 python benchmarks/word_errors.py DATA --folder FOLDER

Writes benchmarks/results/word-errors.json, which docs/metrics.md states. DATA is the folder of development data:
speechocean762 (learners of English, several speakers) and five LibriVox clips of one native reader.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import resource
import time
from pathlib import Path

import cdslm_eval
from cdslm_eval.core.clips import ClipSet

RESULT = Path(__file__).parent / "results" / "word-errors.json"
UTTERANCES = 240


def learners(data: Path) -> list[dict[str, str]]:
    """Return utterances spread over the test split, which is sorted by speaker, so that many are there."""
    folder = data / "speech" / "speechocean762"
    with (folder / "manifest.tsv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["split"] == "test"]
    chosen = rows[:: max(1, len(rows) // UTTERANCES)][:UTTERANCES]
    return [{"path": str(folder / row["path"]), "text": row["text"], "speaker": row["speaker"]} for row in chosen]


def librivox(data: Path) -> list[dict[str, str]]:
    """Return the clips of one native reader."""
    folder = data / "speech" / "pocketsphinx_librivox"
    return [
        {"path": str(path), "text": path.with_suffix(".txt").read_text(encoding="utf-8").strip(), "speaker": "reader"}
        for path in sorted(folder.glob("*.wav"))
    ]


def measure(name: str, rows: list[dict[str, str]], folder: Path) -> dict[str, object]:
    """Return the error rate with its interval, and seconds of processor time per second of speech."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / f"{name}.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    clips = ClipSet.open(manifest, name)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = cdslm_eval.score(
        clips,
        None,
        "signal,wer",
        transcriber="faster-whisper",
        # a new store: rows that are there already would cost nothing
        store=folder / f"{name}-{time.time_ns()}.cdslm",
        jobs=1,
        time_limit_s=600,
        real_row=False,
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    estimate, duration = result.estimate("wer"), result.estimate("duration")
    return {
        "utterances": estimate.n_scored,
        "failed": estimate.n_failed,
        "words": sum(len(row["text"].split()) for row in rows),
        "wer": round(estimate.value, 4),
        # a single reader has no interval: nothing tells how speakers differ
        "low": round(estimate.low, 4) if math.isfinite(estimate.low) else None,
        "high": round(estimate.high, 4) if math.isfinite(estimate.high) else None,
        "real_time_factor": round(cpu_s / (duration.value * duration.n_scored), 4),
        "identity": estimate.identity,
    }


def main() -> None:
    """Measure both sets and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    sets = {"speechocean762": learners(options.data), "librivox": librivox(options.data)}
    results = {name: measure(name, rows, options.folder) for name, rows in sets.items()}
    RESULT.write_text(json.dumps({"measured": time.strftime("%Y-%m-%d"), **results}, indent=1) + "\n", encoding="utf-8")
    print(RESULT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
