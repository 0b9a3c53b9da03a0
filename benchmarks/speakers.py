"""What `speaker_similarity` measures with Resemblyzer: equal error rates, continuations and published samples.

    python benchmarks/speakers.py DATA --json benchmarks/results/speakers.json

DATA holds `speech/librispeech_mini`, `speech/speechocean762` and `slm_samples/speechbot_gslm`. Same-voice pairs of
librispeech_mini are two halves of one recording, which share its channel; those of speechocean762 are two recordings.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import soundfile
from cdslm_eval_embeddings.encoder import ENCODERS, Which

from cdslm_eval.core.clips import ClipSet

DRAWS = 1000
PROMPT_S = 3
SHORTEST_S = 5
RATE_HZ = 16_000


def equal_error_rate(same, different):
    """Return the rate at which as many same-voice pairs are refused as others are accepted."""
    thresholds = np.sort(np.concatenate([same, different]))
    refused = np.searchsorted(np.sort(same), thresholds) / len(same)
    accepted = 1 - np.searchsorted(np.sort(different), thresholds) / len(different)
    nearest = np.argmin(np.abs(refused - accepted))
    return float((refused[nearest] + accepted[nearest]) / 2)


def interval(values):
    """Return the central 95 % of bootstrap values."""
    return [round(float(edge), 4) for edge in np.quantile(values, [0.025, 0.975])]


def verification(first, second, rng):
    """Return the equal error rate of row i of `first` against row j of `second`, same voice where i = j.

    The bootstrap draws speakers; a pair of one speaker drawn twice is no pair of different voices.
    """
    cosine = first @ second.T
    n = len(cosine)
    off = ~np.eye(n, dtype=bool)
    draws = []
    for _ in range(DRAWS // 5):
        drawn = rng.integers(0, n, n)
        grid = cosine[np.ix_(drawn, drawn)]
        draws.append(equal_error_rate(np.diag(grid), grid[drawn[:, None] != drawn]))
    return {
        "speakers": n,
        "equal_error_rate": round(equal_error_rate(np.diag(cosine), cosine[off]), 4),
        "interval": interval(draws),
        "same_mean": round(float(np.diag(cosine).mean()), 4),
        "different_mean": round(float(cosine[off].mean()), 4),
    }


def mean_cosine(first, second, rng):
    """Return the mean similarity of paired rows with its bootstrap interval, or its range for under ten rows."""
    values = (first * second).sum(1)
    if len(values) < 10:
        span = [round(float(edge), 4) for edge in (values.min(), values.max())]
        return {"clips": len(values), "similarity": round(float(values.mean()), 4), "range": span}
    draws = rng.choice(values, (DRAWS, len(values))).mean(1)
    return {"clips": len(values), "similarity": round(float(values.mean()), 4), "interval": interval(draws)}


def samples_of(folder):
    """Return the samples of a folder's clips at 16 kHz, by key."""
    return {Path(clip.key).stem: clip.at_rate(RATE_HZ).samples for clip in ClipSet.open(folder)}


def main():
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    data, rng = arguments.data, np.random.default_rng(0)
    encoder = ENCODERS["resemblyzer"].make(Which())
    results = {"encoder": dict(encoder.fingerprint())}
    with encoder.open("cpu"):
        native = [
            clip
            for split in ("train", "valid", "test")
            for clip in samples_of(data / "speech/librispeech_mini" / split).values()
            if len(clip) >= SHORTEST_S * RATE_HZ
        ]
        halves = [np.array_split(clip, 2) for clip in native]
        first, second = (encoder.encode([pair[side] for pair in halves]) for side in (0, 1))
        results["librispeech_mini, halves of a recording"] = verification(first, second, rng)

        prompts = encoder.encode([clip[: PROMPT_S * RATE_HZ] for clip in native])
        rest = encoder.encode([clip[PROMPT_S * RATE_HZ :] for clip in native])
        results["real continuation of 3 s"] = mean_cosine(prompts, rest, rng)
        # a cyclic shift pairs every prompt with another speaker's continuation
        results["continuation of another speaker"] = mean_cosine(prompts, np.roll(rest, 1, axis=0), rng)

        learners = data / "speech/speechocean762"
        by_speaker = defaultdict(list)
        with (learners / "manifest.tsv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                if row["split"] == "test" and float(row["seconds"]) >= 3:
                    by_speaker[row["speaker"]].append(learners / row["path"])
        pairs = [paths[:2] for paths in by_speaker.values() if len(paths) > 1]
        # the files are mono at 16 kHz
        clips = [soundfile.read(path, dtype="float32")[0] for pair in pairs for path in pair]
        vectors = encoder.encode(clips)
        results["speechocean762, two recordings of 3 s and more"] = verification(vectors[::2], vectors[1::2], rng)

        published = data / "slm_samples/speechbot_gslm"
        prompt_samples = samples_of(published / "prompts")
        for system in ("asr", "hubert", "logmel"):
            outputs = samples_of(published / system / "cond")
            matched = [(clip, prompt_samples[key]) for key, clip in outputs.items() if key in prompt_samples]
            if matched:
                own, real = (encoder.encode([pair[side] for pair in matched]) for side in (0, 1))
                results[f"GSLM over {system} units, against its prompt"] = mean_cosine(own, real, rng)
                results[f"GSLM over {system} units, against another prompt"] = mean_cosine(
                    own, np.roll(real, 1, axis=0), rng
                )
    arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
