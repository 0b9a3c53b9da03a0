"""What channels do to pJSD: held-out real speech through known degradations, and published samples of generators.

Usage: python -m benchmarks.calibration.channel --recognizer NAME [--group NAME] [--data ../shared/data] [--store FILE]

Writes benchmarks/results/channel-GROUP-RECOGNIZER.json and .md (rows of systems that --systems leaves out stay);
docs/recognizers.md prints parts of them. The systems
of the group "degradations" are the same 51 clips of speakers that are not in the reference: the true divergence is 0
in every row but the last, in which they are played backwards.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cdslm_eval import ClipSet, ScoreResult, score
from cdslm_eval.core.audio import Clip, Samples, resample
from cdslm_eval.core.degradation import add_noise, band_limit, clip_rng, reverberate
from cdslm_eval.results.numbers import to_json

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
RATE_HZ = 16_000
ORDERS = (1, 2)


def mp3(samples: Samples) -> Samples:
    """Return a clip coded as MP3 at 32 kbit/s and decoded."""
    import soundfile as sf

    coded = io.BytesIO()
    # libsndfile maps 0..1 onto 160..8 kbit/s at this rate
    level = (160 - 32) / (160 - 8)
    sf.write(coded, samples, RATE_HZ, format="MP3", bitrate_mode="CONSTANT", compression_level=level)
    kilobits = len(coded.getvalue()) * 8 / 1000 / (len(samples) / RATE_HZ)
    assert 28 < kilobits < 37, f"{kilobits:.0f} kbit/s"
    decoded: Samples = sf.read(io.BytesIO(coded.getvalue()), dtype="float32")[0]
    return decoded


DEGRADATIONS: dict[str, Callable[[Samples], Samples]] = {
    "clean": lambda samples: samples,
    "noise 20 dB": lambda samples: add_noise(samples, RATE_HZ, 20, clip_rng(samples, 1)),
    "noise 10 dB": lambda samples: add_noise(samples, RATE_HZ, 10, clip_rng(samples, 1)),
    "8 kHz": lambda samples: resample(resample(samples, RATE_HZ, 8000), 8000, RATE_HZ),
    "3.4 kHz low-pass": lambda samples: band_limit(samples, RATE_HZ, 3400),
    "reverberation .6 s": lambda samples: 0.5 * reverberate(samples, RATE_HZ, 0.6, 3.0, clip_rng(samples, 1)),
    "MP3 32 kbit/s": mp3,
    "backwards": lambda samples: np.ascontiguousarray(samples[::-1]),
}


def held_out(data: Path) -> list[Clip]:
    """Return the valid and test clips of librispeech_mini at 16 kHz."""
    folder = data / "speech" / "librispeech_mini"
    return [clip.at_rate(RATE_HZ) for split in ("valid", "test") for clip in ClipSet.open(folder / split)]


def degraded(data: Path) -> dict[str, ClipSet]:
    """Return the held-out clips through every degradation."""
    clips = held_out(data)
    return {
        name: ClipSet.from_clips([replace(clip, samples=degrade(clip.samples), digest="") for clip in clips], name)
        for name, degrade in DEGRADATIONS.items()
    }


def published(data: Path) -> dict[str, Any]:
    """Return published samples of generators, real speech, and digits as another language."""
    speech, samples = data / "speech" / "librispeech_mini", data / "slm_samples"
    systems: dict[str, Any] = {"real valid": speech / "valid", "real test": speech / "test"}
    systems |= {folder.name: folder for folder in sorted((samples / "tgslm").iterdir()) if folder.is_dir()}
    for unit in ("asr", "hubert", "logmel"):
        systems[f"GSLM {unit}"] = samples / "speechbot_gslm" / unit
    digits = ClipSet.open(data / "contrast" / "fsdd_digits")
    # whole seconds of digits: a clip of one word has few n-grams
    words = [clip.at_rate(RATE_HZ) for clip in digits[:: max(1, len(digits) // 200)]]
    pause = np.zeros(RATE_HZ // 10, np.float32)
    joined = [
        np.concatenate([part for word in words[start : start + 10] for part in (word.samples, pause)])
        for start in range(0, len(words) - 9, 10)
    ]
    systems["digits"] = ClipSet.from_arrays([(samples, RATE_HZ) for samples in joined], "digits")
    return systems


GROUPS: dict[str, Callable[[Path], dict[str, Any]]] = {"degradations": degraded, "published": published}


def rows(result: ScoreResult, recognizer: str) -> list[dict[str, Any]]:
    """Return one record per system and order, with its channel."""
    assert result.channel is not None
    channels = {entry.name: entry for entry in result.channel.sets}
    return [
        {
            "recognizer": recognizer,
            "identity": estimate.identity,
            "system": estimate.system,
            "order": int(estimate.name[-1]),
            "clips": estimate.n_scored,
            **{name: getattr(estimate, name) for name in ("corrected", "corrected_low", "corrected_high", "trust")},
            **to_json(estimate.acoustics),
            **{name: value for name, value in to_json(channels[estimate.system]).items() if name != "name"},
        }
        for estimate in result.estimates
        if estimate.name[-1].isdigit() and int(estimate.name[-1]) in ORDERS
    ]


def joined(path: Path, records: list[dict[str, Any]], order: list[str]) -> list[dict[str, Any]]:
    """Return new records with those of other systems that a file holds, in the order of the group.

    Args:
        path: The file, which may be absent; all its records must have the identity of the new ones.
        records: What was measured now.
        order: All systems of the group.
    """
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    done = {record["system"] for record in records}
    former = [record for record in known if record["system"] not in done]
    identities = {record["identity"] for record in (*former, *records)}
    assert len(identities) == 1, f"{path}: values of {identities} are not one table"
    return sorted([*former, *records], key=lambda record: (order.index(record["system"]), record["order"]))


def table(records: list[dict[str, Any]]) -> list[str]:
    """Return the records of one recognizer and one group of systems as a Markdown table."""

    def interval(record: dict[str, Any], name: str) -> str:
        value, low, high = (record[f"{name}{end}"] for end in ("", "_low", "_high"))
        number, *ends = ("—" if part is None else f"{part:+.3f}" for part in (value, low, high))
        return f"{number} [{', '.join(ends)}]"

    head = ("system", "clips", "kHz", "SNR", "decay", "phones/s", "posterior", "n", "corrected", "acoustic floor")
    lines = ["| " + " | ".join((*head, "matched", "backwards", "trust")) + " |", "|" + "---|" * 13]
    for record in records:
        posterior = "—" if record["confidence"] is None else f"{record['confidence']:.2f}"
        cells = (
            record["system"], record["clips"], f"{record['bandwidth_hz'] / 1000:.1f}", f"{record['snr_db']:.0f}",
            f"{record['decay_db_s']:.0f}", f"{record['phones_per_s']:.1f}", posterior, record["order"],
            interval(record, "corrected"), interval(record, "acoustic_floor"), interval(record, "matched"),
            f"{record['audible']:.3f} of {record['audible_clean']:.3f}", record["trust"].replace("_", " "),
        )  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--recognizer", required=True)
    parser.add_argument("--group", choices=GROUPS, default="degradations")
    parser.add_argument("--systems", default="", help="Some of the group's, comma-separated.")
    parser.add_argument("--store", type=Path, default=Path("channel.cdslm"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    reference = options.data / "speech" / "librispeech_mini" / "train"
    systems = GROUPS[options.group](options.data)
    chosen = options.systems.split(",") if options.systems else list(systems)
    result = score(
        {name: systems[name] for name in chosen},
        reference,
        "pjsd",
        recognizer=options.recognizer,
        store=options.store,
        jobs=2,
        channel=True,
        progress=True,
    )
    assert result.channel is not None
    path = options.out / f"channel-{options.group}-{options.recognizer}.json"
    records = joined(path, to_json(rows(result, options.recognizer)), list(systems))
    notes = [f"- {line}" for line in (*result.channel.lines(), *result.warnings)]
    text = path.with_suffix(".md")
    former = text.read_text(encoding="utf-8").splitlines() if text.is_file() else []
    notes += [line for line in former if line.startswith("- ") and line not in notes]
    path.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    text.write_text("\n".join([*table(records), "", *notes]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
