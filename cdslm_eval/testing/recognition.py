"""What every recognizer of audio must keep when the channel changes and the words do not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from cdslm_eval.core.audio import Clip, Samples
from cdslm_eval.core.degradation import add_noise, band_limit, change_speed
from cdslm_eval.core.levels import is_silent
from cdslm_eval.plugin.contract import Failed, Recognizer, Skipped
from cdslm_eval.testing.check import Check, demand
from cdslm_eval.testing.clips import silent, spoken

__all__ = ["CHANNEL_CHECKS", "PHONE_CHECK"]

_NOISE_DB, _BAND_HZ, _SPEED, _GAIN = 20.0, 4000.0, 0.94, 0.1
_FEW = 20
_LONG_S = 60.0
_LONG_TOLERANCE = 0.05
_LEVEL_TOLERANCE = 0.05
_RATE_HZ = 16_000


def _symbols(recognizer: Recognizer) -> None:
    for phones in _recognized(recognizer, [*spoken()]):
        demand(all(isinstance(phone, str) and phone.split() == [phone] for phone in phones),
               f"phones are strings without white space, not {phones[:5]!r}")  # fmt: skip


def _noise(recognizer: Recognizer) -> None:
    rng = np.random.default_rng(0)
    _keeps_apart(recognizer, lambda samples: add_noise(samples, _RATE_HZ, _NOISE_DB, rng), "under white noise at 20 dB")


def _band(recognizer: Recognizer) -> None:
    _keeps_apart(recognizer, lambda samples: band_limit(samples, _RATE_HZ, _BAND_HZ), "through a band of 4 kHz")


def _speed(recognizer: Recognizer) -> None:
    _keeps_apart(recognizer, lambda samples: change_speed(samples, _SPEED), "played 6 % slower")


def _keeps_apart(recognizer: Recognizer, change: Callable[[Samples], Samples], how: str) -> None:
    """Demand that each changed clip is nearer to itself than to any other clip, by the edit distance of its phones.

    An error rate would be no contract: synthetic speech lies outside of what some recognizers were trained on. Clips of
    a few phones are not looked at.
    """
    clips = spoken()
    changed = [dataclasses.replace(clip, samples=change(clip.samples)) for clip in clips]
    with _opened(recognizer) as recognize:
        plain, others = recognize(clips), recognize(changed)
    for number, phones in enumerate(others):
        if len(plain[number]) < _FEW:
            continue
        distances = [_distance(phones, known) for known in plain]
        nearest = int(np.argmin(distances))
        demand(
            nearest == number,
            f"{clips[number].key} {how}: its phones are nearer to those of {clips[nearest].key} "
            f"({distances[nearest]:.2f} errors a phone) than to its own ({distances[number]:.2f})",
        )


def _level(recognizer: Recognizer) -> None:
    clips = spoken()
    quiet = [dataclasses.replace(clip, samples=(clip.samples * _GAIN).astype(np.float32)) for clip in clips]
    with _opened(recognizer) as recognize:
        plain, others = recognize(clips), recognize(quiet)
    for clip, phones, known in zip(clips, others, plain, strict=True):
        distance = _distance(phones, known)
        demand(
            distance <= _LEVEL_TOLERANCE,
            f"{clip.key} at a tenth of its level: {distance:.2f} of its phones change; scale clips to one level first",
        )


def _long(recognizer: Recognizer) -> None:
    samples = np.concatenate([clip.samples for clip in spoken()] * 8)[: round(_LONG_S * _RATE_HZ)]
    half = len(samples) // 2
    pieces = [dataclasses.replace(spoken()[0], samples=part) for part in (samples, samples[:half], samples[half:])]
    with _opened(recognizer) as recognize:
        whole, *halves = (len(phones) for phones in recognize(pieces))
    demand(
        abs(whole - sum(halves)) <= max(2.0, _LONG_TOLERANCE * sum(halves)),
        f"a clip of 60 s has {whole} phones and its halves have {' + '.join(map(str, halves))}; cut long clips into "
        "windows that overlap (cdslm_eval.plugin.models.join_windows)",
    )


def _short(recognizer: Recognizer) -> None:
    clip = spoken()[0]
    tiny = dataclasses.replace(clip, samples=clip.samples[8000:8320])
    with _opened(recognizer) as recognize:
        (phones,), (quiet,) = recognize([tiny]), recognize([silent()])
    demand(len(phones) <= 1, f"20 ms of speech have {len(phones)} phones: {phones[:5]}")
    demand(len(quiet) <= 1, f"two seconds of digital silence have {len(quiet)} phones: {quiet[:5]}")


def _pair(recognizer: Recognizer) -> None:
    clips = spoken()[:2]
    with _opened(recognizer) as recognize:
        together, alone = recognize(clips), [recognize([clip])[0] for clip in clips]
    demand(together == alone, f"two clips in a batch have the phones {together}, one by one {alone}")


@contextmanager
def _opened(recognizer: Recognizer) -> Iterator[Callable[[Sequence[Clip]], list[list[str]]]]:
    """Yield a function that returns the phones of clips; none for a clip that is skipped or fails."""

    def recognize(clips: Sequence[Clip]) -> list[list[str]]:
        """Return the phones of each clip, in order."""
        admitted = [_admits(recognizer, clip) for clip in clips]
        rows: list[Any] = [
            clip.at_rate(recognizer.rate_hz) for clip, passed in zip(clips, admitted, strict=True) if passed
        ]
        results = iter(list(recognizer.recognize(rows)))
        phones = [next(results) if passed else [] for passed in admitted]
        return [[] if isinstance(row, Skipped | Failed) else list(row) for row in phones]

    with recognizer.open("cpu"):
        yield recognize


def _admits(recognizer: Recognizer, clip: Clip) -> bool:
    """Return whether the host would hand a clip to the recognizer."""
    silence = recognizer.accepts_silence or not is_silent(clip.samples)
    return len(clip.samples) > 0 and clip.seconds >= recognizer.min_seconds and silence


def _recognized(recognizer: Recognizer, clips: Sequence[Clip]) -> list[list[str]]:
    with _opened(recognizer) as recognize:
        return recognize(clips)


def _distance(phones: Sequence[str], reference: Sequence[str]) -> float:
    """Return the edit distance of two sequences over the length of the longer one."""
    row = np.arange(len(reference) + 1)
    symbols = np.array(reference, dtype=object)
    for number, phone in enumerate(phones, 1):
        changed = np.minimum(row[:-1] + (symbols != phone), row[1:] + 1)
        # insertions: each cell is at most one more than the one before it, that is, a running minimum
        row = np.minimum.accumulate(np.concatenate([[number], changed]) - np.arange(len(row))) + np.arange(len(row))
    return float(row[-1]) / max(len(phones), len(reference), 1)


def _of_audio(function: Callable[[Recognizer], None]) -> Callable[[Recognizer], None]:
    """Return a check that holds for recognizers that read no audio: a text has no channel."""

    def check(recognizer: Recognizer) -> None:
        if "audio" in recognizer.needs:
            function(recognizer)

    return check


PHONE_CHECK = Check("phones are symbols", _symbols)
CHANNEL_CHECKS = tuple(
    Check(name, _of_audio(function))
    for name, function in (
        ("noise at 20 dB keeps sentences apart", _noise),
        ("a narrow band keeps sentences apart", _band),
        ("another speed keeps sentences apart", _speed),
        ("the level moves no phone", _level),
        ("a minute has the phones of its halves", _long),
        ("20 ms and silence have no phones", _short),
        ("two clips in a batch equal one by one", _pair),
    )
)
