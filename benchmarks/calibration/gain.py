"""Recognition gain on real speech with texts: what a recognizer recovers of a divergence between groups of learners.

Usage: python -m benchmarks.calibration.gain --recognizer NAME [--data ../shared/data] [--store FILE]

Writes its rows into benchmarks/results/recognition-gain.json, where those of other recognizers stay;
docs/recognizers.md prints them. The reference is the valid split of speechocean762; `score` wants a system as well.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from cdslm_eval import ClipSet, score
from cdslm_eval.results.numbers import to_json

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "recognition-gain.json"


def readers_with_texts(data: Path) -> ClipSet:
    """Return the valid split of speechocean762 with its texts."""
    clips = ClipSet.open(data / "speech" / "speechocean762" / "manifest.tsv", ignore_columns=["*"])
    sources = [source for source in clips.sources if Path(source.path).parent.name == "valid"]
    return ClipSet("speechocean762 valid", sources)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--recognizer", required=True)
    parser.add_argument("--store", type=Path, default=Path("gain.cdslm"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    system = options.data / "speech" / "librispeech_mini" / "valid"
    result = score(
        system,
        readers_with_texts(options.data),
        "pjsd",
        recognizer=options.recognizer,
        store=options.store,
        jobs=1,
        channel=False,
        progress=True,
    )
    identity = result.estimate("pjsd_1").identity
    records = [
        {"recognizer": options.recognizer, "identity": identity, "share": gain.share, **to_json(gain)}
        for gain in result.recognition_gain
    ]
    known = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else []
    kept = [record for record in known if record["recognizer"] != options.recognizer]
    options.out.write_text(json.dumps(to_json([*kept, *records]), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
