"""What each metric reacts to: real speech, the same speech changed in one way, and samples of published models.

    python benchmarks/reactions.py DATA --store FILE --folder FOLDER --jobs 2

Writes benchmarks/results/reactions.json, which docs/metrics.md prints (`--print` writes the tables again). DATA is
the folder of development data. Each clip is 6 s of a speaker of librispeech_mini (valid and test); the 3 s before it
are its prompt. The reference of divergences and distances are the 200 clips of its train split.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

import cdslm_eval
from cdslm_eval.core.audio import Samples, resample
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.degradation import add_noise, clip_rng, reverberate

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "reactions.json"
PAGE = ROOT / "docs" / "metrics.md"
RATE_HZ, PROMPT_S, CLIP_S, CLIPS = 16_000, 3, 6, 20
ALONE = "signal,channel,activity,dnsmos,speaker_similarity"
SETS = "pjsd"
AXES = {
    "another voice": ("another voice",),
    "channel": ("noise 20 dB", "8 kHz", "reverberation"),
    "vocoder": ("resynthesis",),
    "language": ("backwards", "shuffled words"),
    "silence": ("silence padding",),
    "models": ("200ms-tGSLM", "GSLM"),
}


def real(data: Path) -> dict[str, tuple[Samples, Samples, str]]:
    """Return clip, prompt and speaker of each real clip, by key."""
    folder, clips = data / "speech" / "librispeech_mini", {}
    with (folder / "manifest.tsv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["split"] in ("valid", "test") and float(row["seconds"]) >= PROMPT_S + CLIP_S:
                samples = soundfile.read(folder / row["path"], dtype="float32")[0]
                start, end = PROMPT_S * RATE_HZ, (PROMPT_S + CLIP_S) * RATE_HZ
                clips[row["id"]] = (samples[start:end], samples[:start], row["speaker"])
    return dict(sorted(clips.items())[:CLIPS])


def resynthesis() -> Callable[[Samples], Samples]:
    """Return analysis into 80 log-mels at 24 kHz and synthesis by Griffin-Lim, as the offline vocoder does."""
    import torch

    from cdslm_model.data.mel import LogMel, MelSpec
    from cdslm_model.sample.vocoder import GriffinLim

    spec = MelSpec()
    mels, vocoder = LogMel(spec), GriffinLim(spec)

    def through(samples: Samples) -> Samples:
        wave = torch.from_numpy(resample(samples, RATE_HZ, spec.rate_hz))[None]
        with torch.inference_mode():
            out = vocoder(mels(wave))[0].numpy()
        return resample(out, spec.rate_hz, RATE_HZ)[: len(samples)]

    return through


def shuffled() -> Callable[[Samples], Samples]:
    """Return a function that puts words in random order, cut where the phone recognizer sees their boundaries."""
    from cdslm_eval_phones.network import Network, bundled, bundled_vocabulary

    vocabulary = bundled_vocabulary()
    network, boundary = Network(bundled(), vocabulary, "cpu"), vocabulary.symbols.index("<wb>")

    def shuffle(samples: Samples) -> Samples:
        best = next(network.scores([samples])).argmax(-1)
        starts = np.flatnonzero((best[1:] == boundary) & (best[:-1] != boundary)) + 1
        cuts = (starts * len(samples) / len(best)).astype(int)
        words = np.split(samples, cuts[np.diff(cuts, prepend=0) > RATE_HZ // 10])
        assert len(words) > 3, "no word boundaries"
        order = clip_rng(samples, 2).permutation(len(words))
        return np.concatenate([words[number] for number in order])

    return shuffle


def changes() -> dict[str, Callable[[Samples], Samples]]:
    """Return what is done to the real clips, by condition."""
    pause = np.zeros(RATE_HZ, np.float32)
    return {
        "real": lambda samples: samples,
        "resynthesis": resynthesis(),
        "noise 20 dB": lambda samples: add_noise(samples, RATE_HZ, 20, clip_rng(samples, 1)),
        "8 kHz": lambda samples: resample(resample(samples, RATE_HZ, 8000), 8000, RATE_HZ),
        "reverberation": lambda samples: 0.5 * reverberate(samples, RATE_HZ, 0.6, 3.0, clip_rng(samples, 1)),
        "backwards": lambda samples: np.ascontiguousarray(samples[::-1]),
        "shuffled words": shuffled(),
        "silence padding": lambda samples: np.concatenate([pause, samples, pause]),
    }


def write_set(folder: Path, clips: dict[str, dict[str, Any]]) -> ClipSet:
    """Write clips and what goes with them, and return the set."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for key, entry in clips.items():
        row = {name: entry[name] for name in ("speaker",) if entry.get(name)} | {"path": f"{key}.flac"}
        soundfile.write(folder / f"{key}.flac", entry["samples"].clip(-1, 1), RATE_HZ)
        if entry.get("reference") is not None:
            soundfile.write(folder / f"{key}.ref", entry["reference"].clip(-1, 1), RATE_HZ, format="FLAC")
            row["reference"] = f"{key}.ref"
        lines.append(json.dumps(row))
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ClipSet.open(folder, folder.name)


def published(data: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the first 6 s of published samples: of a model without prompts, and of one with them."""
    samples = data / "slm_samples"

    def cut(path: Path) -> Samples:
        clip, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        return resample(np.ascontiguousarray(clip.mean(1)), rate_hz, RATE_HZ)[: CLIP_S * RATE_HZ]

    def audio(folder: Path) -> list[Path]:
        return sorted(path for path in folder.rglob("*") if path.suffix in (".wav", ".flac", ".ogg", ".mp3"))

    tgslm = audio(samples / "tgslm" / "200ms-tGSLM@LS-VERT")[:CLIPS]
    prompts = {path.stem.partition("__")[0]: path for path in audio(samples / "speechbot_gslm" / "prompts")}
    gslm = {}
    for unit in ("hubert", "logmel", "asr"):
        for path in audio(samples / "speechbot_gslm" / unit / "cond"):
            name = path.stem.partition("__")[0]
            prompt = cut(prompts[name]) if name in prompts else None
            gslm[f"{unit}-{path.stem}"] = {"samples": cut(path), "reference": prompt, "speaker": name}
    return {"200ms-tGSLM": {path.stem: {"samples": cut(path)} for path in tgslm}, "GSLM": gslm}


def sets(data: Path, folder: Path) -> dict[str, ClipSet]:
    """Return the sets of all conditions, each clip with its prompt."""
    clips = real(data)
    prompted: dict[str, ClipSet] = {}
    for condition, change in changes().items():
        entries = {
            key: {"samples": change(samples), "reference": prompt, "speaker": speaker}
            for key, (samples, prompt, speaker) in clips.items()
        }
        prompted[condition] = write_set(folder / "prompted" / condition, entries)
    keys = list(clips)
    other = {
        key: {"samples": clips[key][0], "reference": clips[keys[number - 1]][1], "speaker": clips[key][2]}
        for number, key in enumerate(keys)
    }
    prompted["another voice"] = write_set(folder / "prompted" / "another voice", other)
    for name, entries in published(data).items():
        prompted[name] = write_set(folder / "prompted" / name, entries)
    return prompted


def _number(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None


def record(estimate: Any) -> dict[str, Any]:
    """Return what the tables print of an estimate."""
    head = estimate.headline()
    return {
        "value": _number(head.value),
        "low": _number(head.low),
        "high": _number(head.high),
        "clips": estimate.n_scored,
        "better": estimate.better,
        "unit": estimate.unit,
        "identity": estimate.identity,
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return value, interval and shift from real speech of every value in every condition."""
    prompted = sets(options.data, options.folder)
    reference = options.data / "speech" / "librispeech_mini" / "train"
    shared = {"store": options.store, "jobs": options.jobs, "channel": False,
              "time_limit_s": 600.0, "progress": True}  # fmt: skip
    table: dict[str, dict[str, Any]] = {}

    for estimate in cdslm_eval.score(prompted, reference, f"{SETS},{ALONE}", **shared).estimates:
        table.setdefault(estimate.name, {})[estimate.system] = record(estimate)
    for condition, clips in prompted.items():
        if condition == "real":
            continue
        compared = cdslm_eval.compare(clips, prompted["real"], None, ALONE, **without(shared, "channel"))
        for difference in compared.differences:
            entry = table[difference.name].get(condition)
            if entry is not None:
                entry["shift"] = [_number(v) for v in (difference.difference, difference.low, difference.high)]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "measured": time.strftime("%Y-%m-%d"),
        "clips": CLIPS,
        "seconds": CLIP_S,
        "cpu_minutes": round((used.ru_utime + used.ru_stime + time.process_time()) / 60, 1),
        "values": table,
    }


def without(options: dict[str, Any], name: str) -> dict[str, Any]:
    """Return options without one."""
    return {key: value for key, value in options.items() if key != name}


_MARKS = {1: "▲", -1: "▼", 0: "·", None: "?"}


def shifted(values: dict[str, Any], condition: str) -> int | None:
    """Return whether a value lies above (1) or below (-1) that of real speech beyond chance, 0 for neither.

    Values of clips by the interval of the paired difference, values of sets by intervals that do not overlap; None
    where it was not measured.
    """
    entry, clean = values.get(condition), values.get("real")
    if entry is None or clean is None:
        return None
    if "shift" in entry:
        _, low, high = entry["shift"]
        return None if low is None or high is None else (low > 0) - (high < 0)
    edges = [entry["low"], entry["high"], clean["low"], clean["high"]]
    if None in edges:
        return None
    return (entry["low"] > clean["high"]) - (entry["high"] < clean["low"])


def glance(results: dict[str, Any]) -> list[str]:
    """Return the table of what each value reacts to."""
    lines = ["| value | " + " | ".join(AXES) + " |", "|" + "---|" * (len(AXES) + 1)]
    for name, values in results["values"].items():
        cells = []
        for conditions in AXES.values():
            marks = "".join(_MARKS[shifted(values, condition)] for condition in conditions)
            cells.append(marks)
        if set("".join(cells)) != {_MARKS[None]}:
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def cell(entry: dict[str, Any] | None) -> str:
    """Return a value with its interval, or its bounds alone."""
    if entry is None:
        return " "
    value, low, high = (entry[name] for name in ("value", "low", "high"))
    ends = "" if low is None or high is None else f" [{low:.3g}, {high:.3g}]"
    return (f"{value:.3g}{ends}" if value is not None else ends.strip()) or " "


def whole(results: dict[str, Any]) -> list[str]:
    """Return the table of all values."""
    conditions = list(dict.fromkeys(name for values in results["values"].values() for name in values))
    lines = ["| value | " + " | ".join(conditions) + " |", "|" + "---|" * (len(conditions) + 1)]
    for name, values in results["values"].items():
        lines.append(f"| {name} | " + " | ".join(cell(values.get(condition)) for condition in conditions) + " |")
    return lines


def blind(results: dict[str, Any]) -> str:
    """Return the names of directed values that rank no published model below real speech."""
    names = []
    for name, values in results["values"].items():
        sign = {"higher": 1, "lower": -1}.get(next(iter(values.values()))["better"])
        shifts = [shifted(values, model) for model in AXES["models"]]
        if sign and any(s is not None for s in shifts) and not any(s is not None and s * sign < 0 for s in shifts):
            names.append(f"`{name}`")
    return ", ".join(names)


def printed(page: str, results: dict[str, Any]) -> str:
    """Return a page with the tables between its marks as the results have them."""
    parts = {"glance": glance(results), "values": whole(results), "blind": [blind(results)]}
    for name, lines in parts.items():
        start, end = f"<!-- reactions: {name} -->\n", f"<!-- end of {name} -->"
        head, _, rest = page.partition(start)
        page = head + start + "\n".join(lines) + "\n" + end + rest.partition(end)[2]
    return page


def main() -> None:
    """Measure, write the file, and print the tables into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--print", action="store_true", help="Only print the recorded file into docs/metrics.md.")
    options = parser.parse_args()
    if not options.print:
        if None in (options.data, options.folder, options.store):
            parser.error("DATA, --folder and --store are needed to measure")
        RESULT.write_text(json.dumps(measure(options), indent=1) + "\n", encoding="utf-8")
    results = json.loads(RESULT.read_text(encoding="utf-8"))
    PAGE.write_text(printed(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    main()
