"""Phone error rate and real-time factor of recognizers on real speech, and what they recover of known divergences.

Usage: python -m benchmarks.calibration.recognizers [--data ../shared/data] [--recognizer NAME ...] [--limit N]
           [--own LABEL phone-ctc:model=FILE] [--babble N]

Writes benchmarks/results/recognizers.json (rows of others stay), whose tables docs/recognizers.md prints. The
LibriVox clips are scored against their aligned phones, speechocean762 against CMUdict's phones of what the learners
were to read, which they did not always read: no recognizer can reach 0 there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cdslm_eval_phones.per import try_recognizer

from benchmarks.calibration.babble import babble_rows
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.plugin.host import Host
from cdslm_eval.plugin.identity import identify

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "recognizers.json"


def librivox(data: Path) -> ClipSet:
    """Return the LibriVox clips with the phones of their alignments."""
    clips = ClipSet.open(data / "speech" / "pocketsphinx_librivox")

    def aligned(path: str) -> tuple[str, ...]:
        words = json.loads(Path(path).with_suffix(".phone.json").read_text())["w"]
        phones = [phone["t"] for word in words for phone in word.get("w", [])]
        return tuple(phone for phone in phones if phone.isalpha() and phone != "SIL")

    return ClipSet("librivox", [source._replace(phones=aligned(source.path)) for source in clips.sources])


def learners(data: Path) -> ClipSet:
    """Return the test split of speechocean762."""
    clips = ClipSet.open(data / "speech" / "speechocean762" / "manifest.tsv", ignore_columns=["*"])
    return ClipSet(
        "speechocean762 test", [source for source in clips.sources if Path(source.path).parent.name == "test"]
    )


def rows(data: Path, recognizers: Mapping[str, str], limit: int) -> Iterator[dict[str, Any]]:
    """Yield one row per set and recognizer, which are given by label."""
    host = Host()
    for clips in (librivox(data), learners(data)):
        for label, spec in recognizers.items():
            recognizer = host.make("recognizer", spec)
            trial = try_recognizer(clips[:limit] if limit else clips, recognizer)
            errors = trial.errors
            row = {
                "set": clips.name,
                "recognizer": label,
                "identity": identify(recognizer).ident,
                "per": round(errors.rate, 4),
                "substitutions": errors.substitutions,
                "deletions": errors.deletions,
                "insertions": errors.insertions,
                "phones": errors.phones,
                "clips": trial.clips,
                "failed": trial.failed,
                "real_time_factor": round(trial.real_time_factor, 5),
            }
            print(row, flush=True)
            yield row


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--recognizer", action="append")
    parser.add_argument("--own", nargs=2, action="append", default=[], metavar=("LABEL", "SPEC"))
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--babble", type=int, default=70, help="clips of each set of babble; 0 leaves it out")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    named = options.recognizer or ([] if options.own else ["phone-ctc", "pocketsphinx"])
    recognizers = {**{name: name for name in named}, **dict(options.own)}
    measured = list(rows(options.data, recognizers, options.limit))
    if options.babble:
        measured += babble_rows(recognizers, options.babble)
    done = {(row["set"], row["recognizer"]) for row in measured}
    former = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else []
    measured = [row for row in former if (row["set"], row["recognizer"]) not in done] + measured
    options.out.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
