"""What a recognizer recovers of a known divergence: babble of orders 1 to 3, whose phones are known, against speech.

Both sides are spoken by the same voices, so that the channel is one and only the language differs.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import cdslm_eval
from cdslm_eval.builtin.generators.babble import BabbleGenerator, BabbleOptions
from cdslm_eval.builtin.generators.speak import SpeakGenerator, SpeakOptions
from cdslm_eval.builtin.recognizers.phonemize import phonemize
from cdslm_eval.core.audio import Clip

__all__ = ["ORDERS", "babble_rows", "babble_sets", "divergences"]

ORDERS = (1, 2, 3)
SECONDS = 6.0
_TEXTS = files("cdslm_eval.builtin.generators") / "texts"


def babble_sets(count: int, seed: int = 0, real_count: int = 0) -> tuple[list[Clip], dict[str, list[Clip]]]:
    """Return spoken sentences with their phones, and sets of `count` clips: other sentences, and babble by order.

    Args:
        count: Clips of each set.
        seed: Voices, and the phones of babble.
        real_count: Sentences of the reference; 0 takes the whole text.
    """
    real, learned = (str(_TEXTS / name) for name in ("demo_real.txt", "demo_learn.txt"))
    sets = {"sentences": _spoken(learned, count, seed + 1)}
    for order in ORDERS:
        generator = BabbleGenerator(BabbleOptions(order=order, text=learned))
        sets[f"babble {order}"] = list(generator.clips([], count, SECONDS, seed))
    lines = sum(1 for line in Path(real).read_text(encoding="utf-8").splitlines() if line.strip())
    return _spoken(real, real_count or lines, seed), sets


def _spoken(path: str, count: int, seed: int) -> list[Clip]:
    clips = list(SpeakGenerator(SpeakOptions(path=path)).clips([], count, SECONDS, seed))
    phones = phonemize([clip.text or "" for clip in clips])
    return [dataclasses.replace(clip, phones=tuple(row)) for clip, row in zip(clips, phones, strict=True)]


def divergences(
    real: Sequence[Clip], sets: dict[str, list[Clip]], recognizer: str, jobs: int = 0
) -> dict[str, dict[str, float]]:
    """Return the corrected pJSD of each set by set and value, under one recognizer."""
    with tempfile.TemporaryDirectory() as folder:
        result = cdslm_eval.score(
            dict(sets), real, "pjsd", recognizer=recognizer, store=f"{folder}/rows.cdslm", jobs=jobs, channel=False
        )
    return {
        name: {
            estimate.name: float(estimate.corrected)
            for estimate in result.estimates
            if estimate.system == name and estimate.corrected is not None
        }
        for name in sets
    }


def babble_rows(recognizers: Mapping[str, str], count: int = 70) -> Iterator[dict[str, Any]]:
    """Yield one row per set and recognizer; `truth` is the divergence of the phones that were spoken."""
    real, sets = babble_sets(count)
    for label, spec in {"truth": "sidecar", **recognizers}.items():
        for name, values in divergences(real, sets, spec).items():
            yield {"set": name, "recognizer": label, **{f"pjsd_{n}": round(values[f"pjsd_{n}"], 4) for n in (1, 2, 3)}}
