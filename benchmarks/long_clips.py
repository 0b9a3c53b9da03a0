"""Phone and word error rates of clips of 60 to 120 s by how they are cut: overlapping windows, quiet places, pauses.

    python -m benchmarks.long_clips DATA --speakers 40 --word-speakers 40

Writes benchmarks/results/long-clips.json, which docs/recognizers.md states. DATA is the folder of development data.
Each clip joins utterances of one adult of speechocean762: as they are, without the silence around them (so that
pauses are only those of the sentences), and both with white noise at 10 dB.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
from cdslm_eval_phones.network import session
from cdslm_eval_phones.per import phone_errors, text_phones

from cdslm_eval.builtin.recognizers.fold import to_arpabet
from cdslm_eval.core.audio import Clip, Samples
from cdslm_eval.core.degradation import add_noise, clip_rng
from cdslm_eval.core.levels import frame_levels_dbfs
from cdslm_eval.plugin.host import Host
from cdslm_eval.plugin.models import pause_cuts, silero_path, speech_probabilities

if TYPE_CHECKING:
    from cdslm_eval.plugin.contract import Recognizer

RESULT = Path(__file__).parent / "results" / "long-clips.json"
RATE_HZ, SHORTEST_S, LONGEST_S, WINDOW_S, SOUND = 16_000, 60, 110, 20, 0.02


def materials(data: Path, speakers: int) -> list[tuple[list[Samples], list[str]]]:
    """Return utterances of speakers who have enough of them, and their texts."""
    folder, by_speaker = data / "speech" / "speechocean762", dict[str, list[dict[str, str]]]()
    with (folder / "manifest.tsv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["group"] == "adult":
                by_speaker.setdefault(row["speaker"], []).append(row)
    chosen = []
    for _, rows in sorted(by_speaker.items()):
        ends = np.cumsum([float(row["seconds"]) for row in rows])
        if ends[-1] >= SHORTEST_S:
            taken = [row for row, end in zip(rows, ends, strict=True) if end <= LONGEST_S]
            utterances = [soundfile.read(folder / row["path"], dtype="float32")[0] for row in taken]
            chosen.append((utterances, [row["text"] for row in taken]))
    return chosen[:: len(chosen) // speakers][:speakers]


def trimmed(samples: Samples) -> Samples:
    """Return samples without what is quiet at both ends."""
    loud = np.flatnonzero(np.abs(samples) > SOUND)
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples


def quiet_cuts(samples: Samples) -> list[int]:
    """Return cuts of equal pieces, each moved by at most a second to the quietest 20 ms, as `whisper` cuts clips."""
    count = -(-len(samples) // ((WINDOW_S - 2) * RATE_HZ))
    cuts = [0]
    for number in range(1, count):
        start = number * len(samples) // count - RATE_HZ
        levels = frame_levels_dbfs(samples[start : start + 2 * RATE_HZ], RATE_HZ, 0.02)
        cuts.append(start + int(np.argmin(levels)) * RATE_HZ // 50)
    return [*cuts, len(samples)]


def recognized(recognizer: Recognizer, pieces: list[Samples]) -> list[str]:
    """Return the phones of pieces, one after the other."""
    clips = [Clip(key=str(number), samples=piece, rate_hz=RATE_HZ) for number, piece in enumerate(pieces)]
    return [phone for result in recognizer.recognize(clips) for phone in to_arpabet(list(result))]


def conditions(utterances: list[Samples]) -> dict[str, Samples]:
    """Return the clips that are made of the utterances of a speaker."""
    clean, tight = np.concatenate(utterances), np.concatenate([trimmed(part) for part in utterances])
    return {
        "joined": clean,
        "joined without silence": tight,
        "joined, noise 10 dB": add_noise(clean, RATE_HZ, 10, clip_rng(clean, 1)),
        "without silence, noise 10 dB": add_noise(tight, RATE_HZ, 10, clip_rng(tight, 1)),
    }


@dataclass
class Tally:
    """Errors and lengths by condition and way of cutting, one pair per clip, and what they cost."""

    errors: dict[str, dict[str, list[tuple[int, int]]]] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)
    audio_s: float = 0.0

    def add(self, condition: str, way: str, count: Callable[[], tuple[int, int]]) -> None:
        """Add the errors and the length of one clip, and the processor time of counting them."""
        before = time.process_time()
        counts = count()
        self.cpu_s[way] = self.cpu_s.get(way, 0.0) + time.process_time() - before
        self.errors.setdefault(condition, {}).setdefault(way, []).append(counts)

    def result(self, base: str) -> dict[str, Any]:
        """Return rates, differences from one way, and processor seconds per second of audio."""
        clips = len(next(iter(next(iter(self.errors.values())).values())))
        return {
            "clips": clips,
            "minutes": round(self.audio_s / 60 / len(self.errors), 1),
            "real_time_factor": {way: round(seconds / self.audio_s, 5) for way, seconds in self.cpu_s.items()},
            "rates": {condition: summary(own, base) for condition, own in self.errors.items()},
        }


def phone_tally(data: Path, speakers: int) -> Tally:
    """Return the phone errors of `phone-ctc` with overlapping windows, quiet cuts and cuts in pauses."""
    tally, host = Tally(), Host()
    window, pause = host.make("recognizer", "phone-ctc"), host.make("recognizer", "phone-ctc:cuts=pauses")

    def count(phones: list[str], recognizer: Recognizer, pieces: list[Samples]) -> tuple[int, int]:
        counts = phone_errors(phones, recognized(recognizer, pieces))
        return counts.substitutions + counts.deletions + counts.insertions, counts.phones

    with window.open("cpu"), pause.open("cpu"):
        for utterances, texts in materials(data, speakers):
            phones = [phone for line in text_phones(texts) for phone in line]
            for condition, samples in conditions(utterances).items():
                tally.audio_s += len(samples) / RATE_HZ
                quiet = [samples[start:end] for start, end in pairwise(quiet_cuts(samples))]
                for way, how in {"overlap": (window, [samples]), "quiet": (window, quiet),
                                 "pauses": (pause, [samples])}.items():  # fmt: skip
                    tally.add(condition, way, partial(count, phones, *how))
    return tally


def word_tally(data: Path, speakers: int) -> Tally:
    """Return the word errors of `faster-whisper` with its own cuts and with cuts in pauses."""
    tally, host = Tally(), Host()
    transcriber, metric = host.make("transcriber", "faster-whisper"), host.make("metric", "wer")
    detector = session(silero_path(), "cpu")

    def count(texts: list[str], samples: Samples, pauses: bool) -> tuple[int, int]:
        bounds = pause_cuts(speech_probabilities(detector, samples), len(samples), 30 * RATE_HZ) if pauses else []
        pieces = [samples[start:end] for start, end in pairwise(bounds)] or [samples]
        clips = [Clip(key=str(number), samples=piece, rate_hz=RATE_HZ) for number, piece in enumerate(pieces)]
        words = " ".join(result for result in transcriber.transcribe(clips) if isinstance(result, str))
        (row,) = metric.measure(
            [Clip(key="", samples=samples, rate_hz=RATE_HZ, text=" ".join(texts), transcript=words)]
        )
        return row["errors"], row["words"]

    with transcriber.open("cpu"):
        for utterances, texts in materials(data, speakers):
            for condition, samples in list(conditions(utterances).items())[:2]:
                tally.audio_s += len(samples) / RATE_HZ
                for way in ("quiet", "pauses"):
                    tally.add(condition, way, partial(count, texts, samples, way == "pauses"))
    return tally


def summary(errors: dict[str, list[tuple[int, int]]], base_way: str) -> dict[str, Any]:
    """Return the error rate of each way, and its difference from one of them with a bootstrap interval."""
    base = np.array(errors[base_way], float)
    draws = np.random.default_rng(0).integers(len(base), size=(4000, len(base)))
    cells = {}
    for name, counts in errors.items():
        own = np.array(counts, float)
        moved = (own[:, 0][draws] - base[:, 0][draws]).sum(1) / base[:, 1][draws].sum(1)
        cells[name] = {
            "rate": round(own[:, 0].sum() / own[:, 1].sum(), 4),
            "difference": round((own[:, 0] - base[:, 0]).sum() / base[:, 1].sum(), 4),
            "interval": [round(float(edge), 4) for edge in np.quantile(moved, [0.025, 0.975])],
        }
    return cells


def main() -> None:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--speakers", type=int, default=40)
    parser.add_argument("--word-speakers", type=int, default=40)
    options = parser.parse_args()
    results = {
        "measured": time.strftime("%Y-%m-%d"),
        "phones": phone_tally(options.data, options.speakers).result("overlap"),
        "words": word_tally(options.data, options.word_speakers).result("quiet"),
    }
    RESULT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(RESULT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
