"""Clips as small audio data URIs, so that the page needs no file beside it."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from cdslm_eval.core.audio import read_audio, resample
from cdslm_eval.core.errors import AudioError

__all__ = ["MAX_SECONDS", "data_uri"]

MAX_SECONDS = 12.0
_MAX_RATE_HZ = 24_000


def data_uri(path: str) -> str:
    """Return the first seconds of a file as an MP3 `data:` URI, mono, at most 24 kHz.

    Raises:
        AudioError: The file cannot be read, or holds nothing that can be encoded.
    """
    import numpy as np
    import soundfile as sf

    if not Path(path).is_file():  # a pipe would never end
        raise AudioError("not a file any more")
    audio = read_audio(path)
    samples = audio.samples[: int(MAX_SECONDS * audio.rate_hz)]
    if not len(samples) or not np.isfinite(samples).all():
        raise AudioError("nothing to play: no samples, or samples that are not finite")
    # MP3 knows only these rates; every browser plays it
    rate_hz = max((rate for rate in (8_000, 16_000, _MAX_RATE_HZ) if rate <= audio.rate_hz), default=8_000)
    out = io.BytesIO()
    try:
        sf.write(out, np.clip(resample(samples, audio.rate_hz, rate_hz), -1, 1), rate_hz, format="MP3")
    except (sf.LibsndfileError, RuntimeError, ValueError) as error:
        raise AudioError(f"cannot be encoded for the page: {error}") from error
    return "data:audio/mpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")
