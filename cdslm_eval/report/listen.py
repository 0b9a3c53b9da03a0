"""Clips on a page: a small player and a spectrogram each, as data URIs, so that the page needs no other file."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cdslm_eval.core.audio import read_audio, resample
from cdslm_eval.core.errors import AudioError
from cdslm_eval.core.remote.addresses import is_remote
from cdslm_eval.core.spans import Address
from cdslm_eval.results.score_result import ScoreResult, Take

if TYPE_CHECKING:
    from cdslm_eval.core.audio import Samples

__all__ = ["MAX_SECONDS", "Player", "Players", "takes_of"]

MAX_SECONDS = 12.0
_MAX_RATE_HZ = 24_000
_MAX_EMBEDDED = 80
_MAX_TAKES = 40
_HEIGHT, _MAX_WIDTH = 72, 480
_RANGE_DB = 70.0
"""Levels below the loudest by more than this are drawn as silence."""


@dataclass(frozen=True, slots=True)
class Player:
    """A clip on the page.

    Attributes:
        anchor: Its id on the page.
        label: Its name.
        uri: The audio as a `data:` URI, or "".
        spectrogram: The picture as a `data:` URI, or "".
        seconds: Length of what is played.
        problem: Why there is no audio, or "".
    """

    anchor: str
    label: str
    uri: str
    spectrogram: str
    seconds: float
    problem: str


class Players:
    """Embeds each clip once, up to a number of them.

    Args:
        prefix: Of the ids on the page.
        most: Clips that are embedded.
    """

    def __init__(self, prefix: str = "clip", most: int = _MAX_EMBEDDED) -> None:
        self._prefix, self._most = prefix, most
        self._by_path: dict[str, Player] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._by_path

    def get(self, path: str, label: str) -> Player | None:
        """Return the player of a file, or None when the page is full."""
        if path not in self._by_path:
            if len(self._by_path) >= self._most:
                return None
            self._by_path[path] = _player(f"{self._prefix}-{len(self._by_path)}", label, path)
        return self._by_path[path]

    def all(self) -> list[Player]:
        """Return the players, in the order in which they were added."""
        return list(self._by_path.values())


def takes_of(result: ScoreResult) -> list[tuple[str, list[tuple[Take, Player]]]]:
    """Return the shared keys, each with its clips; a prompt is marked as one over its whole length."""
    players = Players("take", _MAX_TAKES)
    takes: dict[str, list[tuple[Take, Player]]] = {}
    for take in result.takes:
        player = players.get(take.path, f"{take.system or 'prompt'}, {take.key}")
        if player is not None:
            marked = take if take.system else replace(take, prompt_seconds=player.seconds)
            takes.setdefault(take.key, []).append((marked, player))
    return list(takes.items())


def _player(anchor: str, label: str, path: str) -> Player:
    try:
        samples, rate_hz = _first_seconds(path)
        uri = f"data:audio/mpeg;base64,{_base64(_mp3(samples, rate_hz))}"
    except AudioError as error:
        return Player(anchor, label, "", "", 0.0, str(error))
    picture = f"data:image/png;base64,{_base64(_spectrogram(samples))}"
    return Player(anchor, label, uri, picture, len(samples) / rate_hz, "")


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _first_seconds(path: str) -> tuple[Samples, int]:
    """Return the first seconds of a file, mono, at a rate that MP3 has.

    Raises:
        AudioError: The file cannot be read, or holds nothing that can be played.
    """
    import numpy as np

    # a file may have a name that ends like a span
    address = Address(path) if os.path.lexists(path) else Address.parse(path)
    if not is_remote(address.path) and not Path(address.path).is_file():  # a pipe would never end
        raise AudioError("not a file any more")
    audio = read_audio(address.path, span=address.span, packed=address.packed)
    samples = audio.samples[: int(MAX_SECONDS * audio.rate_hz)]
    if not len(samples) or not np.isfinite(samples).all():
        raise AudioError("nothing to play: no samples, or samples that are not finite")
    # MP3 has only these rates; every browser plays it
    rate_hz = max((rate for rate in (8_000, 16_000, _MAX_RATE_HZ) if rate <= audio.rate_hz), default=8_000)
    return np.clip(resample(samples, audio.rate_hz, rate_hz), -1, 1), rate_hz


def _mp3(samples: Samples, rate_hz: int) -> bytes:
    import soundfile as sf

    out = io.BytesIO()
    try:
        sf.write(out, samples, rate_hz, format="MP3")
    except (sf.LibsndfileError, RuntimeError, ValueError) as error:
        raise AudioError(f"cannot be encoded for the page: {error}") from error
    return out.getvalue()


def _spectrogram(samples: Samples) -> bytes:
    """Return a PNG of the level in dB over time and frequency, 0 Hz to half the rate, dark on clear."""
    import numpy as np
    from matplotlib.image import imsave

    window = 2 * _HEIGHT
    hop = max(window // 2, len(samples) // _MAX_WIDTH)
    padded = np.pad(samples, (0, window))
    starts = np.arange(0, len(samples), hop)
    frames = padded[starts[:, None] + np.arange(window)] * np.hanning(window)
    level_db = 20 * np.log10(np.abs(np.fft.rfft(frames, axis=1))[:, :_HEIGHT].T + 1e-10)
    share = np.clip(1 + (level_db - level_db.max()) / _RANGE_DB, 0, 1)
    # one middle grey, its opacity the level: readable on light and dark pages alike
    pixels = np.empty((*share.shape, 4))
    pixels[..., :3], pixels[..., 3] = (0.25, 0.5, 0.72), share
    out = io.BytesIO()
    imsave(out, pixels[::-1], format="png", metadata={"Software": ""})
    return out.getvalue()
