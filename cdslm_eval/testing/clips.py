"""The clips that the checks measure: espeak-ng's sentences with text, speaker, phones and a paired clip; odd ones."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import numpy as np

from cdslm_eval.core.audio import Clip, Samples, content_digest, write_flac
from cdslm_eval.core.clips import Source

__all__ = ["empty", "odd", "silent", "spoken", "written"]

_RATE_HZ = 16_000
_SENTENCES = (
    "the boat came in late",
    "nobody asked the old man why he had painted every door of the house green",
    "seven birds",
    "when the rain stops we will walk along the river and count the bridges until it is dark",
    "it is only a small question",
)


def spoken() -> tuple[Clip, ...]:
    """Return five spoken sentences at 16 kHz, of 0.7 to 6 s, each with everything that a metric may need.

    The first half of each counts as its prompt.

    The samples are the caller's own: what one check's subject does to them, the next check does not see.
    """
    return tuple(dataclasses.replace(clip, samples=clip.samples.copy()) for clip in _spoken())


@cache
def _spoken() -> tuple[Clip, ...]:
    from cdslm_eval.builtin.generators.espeak import RATE_HZ, VARIANTS, open_espeak
    from cdslm_eval.builtin.recognizers.phonemize import phonemize

    rng = np.random.default_rng(7)
    clips = []
    with open_espeak() as espeak:
        for number, text in enumerate(_SENTENCES):
            raw = espeak.synthesize(text, voice=f"en-us+{VARIANTS[number]}", rate=150 + 8 * number)
            clean = Clip(key="", samples=raw, rate_hz=RATE_HZ).at_rate(_RATE_HZ).samples
            noisy = (clean + 0.01 * rng.standard_normal(len(clean))).astype(np.float32).clip(-1, 1)
            real = _clip(f"real{number}", clean, text)
            clips.append(dataclasses.replace(_clip(f"clip{number}", noisy, text), reference=real))
    phones = phonemize([clip.text or "" for clip in clips])
    return tuple(
        dataclasses.replace(
            clip, phones=tuple(row), transcript=clip.text, speaker=f"s{number % 2}", prompt_seconds=clip.seconds / 2
        )
        for number, (clip, row) in enumerate(zip(clips, phones, strict=True))
    )


def silent() -> Clip:
    """Return two seconds of digital silence."""
    return _beside_speech("silent", np.zeros(2 * _RATE_HZ, np.float32))


def empty() -> Clip:
    """Return a clip without a sample."""
    return _beside_speech("empty", np.zeros(0, np.float32))


def odd() -> tuple[Clip, ...]:
    """Return clips at the edge of what a metric is defined for: tiny, constant, an impulse, clipped, noise, NaN."""
    rng = np.random.default_rng(11)
    impulse = np.zeros(_RATE_HZ, np.float32)
    impulse[_RATE_HZ // 2] = 1.0
    square = np.sign(np.sin(2 * np.pi * 200 * np.arange(_RATE_HZ) / _RATE_HZ)).astype(np.float32)
    broken = rng.standard_normal(_RATE_HZ).astype(np.float32) * 0.1
    broken[100] = np.nan
    return (
        _beside_speech("one sample", np.full(1, 0.5, np.float32)),
        _beside_speech("20 ms", (0.1 * rng.standard_normal(_RATE_HZ // 50)).astype(np.float32)),
        _beside_speech("constant", np.full(_RATE_HZ, 0.25, np.float32)),
        _beside_speech("impulse", impulse),
        _beside_speech("square wave at full scale", square),
        _beside_speech("white noise", (0.1 * rng.standard_normal(_RATE_HZ)).astype(np.float32)),
        _beside_speech("a NaN among its samples", broken),
    )


def written(clips: tuple[Clip, ...], folder: Path) -> list[Source]:
    """Write clips (and their paired ones) as FLAC and return their sources."""
    sources = []
    for number, clip in enumerate(clips):
        path, reference = folder / f"{number}.flac", None
        write_flac(path, clip.samples, clip.rate_hz)
        if clip.reference is not None:
            reference = folder / f"{number}.reference.flac"
            write_flac(reference, clip.reference.samples, clip.reference.rate_hz)
        sources.append(
            Source(
                key=clip.key,
                path=str(path),
                text=clip.text,
                speaker=clip.speaker,
                phones=clip.phones,
                reference=None if reference is None else str(reference),
                reference_text=clip.reference.text if clip.reference else None,
                prompt_seconds=clip.prompt_seconds,
            )
        )
    return sources


def _clip(key: str, samples: Samples, text: str | None) -> Clip:
    digest = content_digest(samples, _RATE_HZ)
    return Clip(key=key, samples=samples, rate_hz=_RATE_HZ, digest=digest, text=text)


def _beside_speech(key: str, samples: Samples) -> Clip:
    """Return a clip that has, but for its samples, what a spoken one has."""
    return dataclasses.replace(
        spoken()[0],
        key=key,
        samples=samples,
        digest=content_digest(samples, _RATE_HZ),
        text="",
        phones=(),
        transcript="",
    )
