"""Clips of the reaction tables: real speech, the same speech changed in one way, and samples of published models.

Each set of the table is a manifest of FLAC files. What a clip has beside it depends on the metrics that read the set:
the 3 s before it (`prompted`), the unchanged clip (`paired`), or the text that was read (`texted`).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from cdslm_eval.core.audio import Samples, resample
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.degradation import add_noise, clip_rng, reverberate

RATE_HZ, PROMPT_S, CLIP_S, CLIPS = 16_000, 3, 6, 20
READERS, SHORTEST_S = 40, 2.0


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


def equally_long(data: Path, folder: Path) -> ClipSet:
    """Return real speech of other speakers, cut as the clips are: an embedding may hold the length of a clip."""
    source, entries = data / "speech" / "librispeech_mini", {}
    with (source / "manifest.tsv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["split"] == "train" and float(row["seconds"]) >= PROMPT_S + CLIP_S:
                samples = soundfile.read(source / row["path"], dtype="float32")[0]
                start, end = PROMPT_S * RATE_HZ, (PROMPT_S + CLIP_S) * RATE_HZ
                entries[row["id"]] = {"samples": samples[start:end], "speaker": row["speaker"]}
    return write_set(folder / "reference", entries)


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
        row = {name: entry[name] for name in ("speaker", "text") if entry.get(name)} | {"path": f"{key}.flac"}
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


def prompted(data: Path, folder: Path) -> dict[str, ClipSet]:
    """Return the sets of all conditions, each clip with the prompt that it continues."""
    clips = real(data)
    entries: dict[str, dict[str, dict[str, Any]]] = {}
    for condition, change in changes().items():
        entries[condition] = {
            key: {"samples": change(samples), "reference": prompt, "speaker": speaker}
            for key, (samples, prompt, speaker) in clips.items()
        }
    keys = list(clips)
    entries["another voice"] = {
        key: {"samples": clips[key][0], "reference": clips[keys[number - 1]][1], "speaker": clips[key][2]}
        for number, key in enumerate(keys)
    }
    return write_sets(folder / "prompted", entries | published(data))


def paired(data: Path, folder: Path) -> dict[str, ClipSet]:
    """Return the sets of the changed clips, each with the unchanged clip; published samples have none."""
    clips = real(data)
    entries = {
        condition: {
            key: {"samples": change(samples), "reference": samples, "speaker": speaker}
            for key, (samples, _, speaker) in clips.items()
        }
        for condition, change in changes().items()
    }
    return write_sets(folder / "paired", entries)


def texted(data: Path, folder: Path) -> dict[str, ClipSet]:
    """Return the sets of adult learners of English, one utterance with many words of each, and what was to be read."""
    source, longest = data / "speech" / "speechocean762", dict[str, dict[str, str]]()
    with (source / "manifest.tsv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["group"] == "adult"]
    for row in rows:
        if float(row["seconds"]) >= SHORTEST_S:
            known = longest.setdefault(row["speaker"], row)
            if len(row["text"].split()) > len(known["text"].split()):
                longest[row["speaker"]] = row
    chosen = [row for _, row in sorted(longest.items())]
    chosen = chosen[:: len(chosen) // READERS][:READERS]
    clips = {row["id"]: soundfile.read(source / row["path"], dtype="float32")[0] for row in chosen}
    entries = {
        condition: {
            row["id"]: {"samples": change(clips[row["id"]]), "text": row["text"], "speaker": row["speaker"]}
            for row in chosen
        }
        for condition, change in changes().items()
    }
    return write_sets(folder / "texted", entries)


def write_sets(folder: Path, entries: dict[str, dict[str, dict[str, Any]]]) -> dict[str, ClipSet]:
    """Write one set per condition, and return them by condition."""
    return {condition: write_set(folder / condition, clips) for condition, clips in entries.items()}
