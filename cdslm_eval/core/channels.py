"""Reads the channels of a recording apart, where each holds a speaker of its own."""

from __future__ import annotations

import os

import numpy as np

from cdslm_eval.core.audio import MAX_CHANNELS, MAX_SECONDS, RATES_HZ, Samples, seek_span
from cdslm_eval.core.completeness import truncation
from cdslm_eval.core.descriptors import silenced
from cdslm_eval.core.errors import AudioError
from cdslm_eval.core.opened import check_streamed, opened_audio
from cdslm_eval.core.regular import check_regular
from cdslm_eval.core.sources import Source
from cdslm_eval.core.spans import check_span_end

__all__ = ["read_channels", "same_sound"]


def same_sound(first: Samples, second: Samples, least: float) -> str:
    """Return why two channels do not hold a speaker each, or "": they are the same sound, at any level.

    Args:
        first, second: float32 `[samples]`; where one is longer, its rest does not count.
        least: Correlation from which they are; that of separate microphones is far below .9.
    """
    length = min(len(first), len(second))
    a, b = (side[:length].astype(np.float64) for side in (first, second))
    power = float(np.sqrt((a @ a) * (b @ b)))
    alike = abs(float(a @ b)) / power if power else 0.0
    if alike < least:
        return ""
    return f"its channels are the same sound (correlation {alike:.2f}); a conversation has a speaker on each"


def read_channels(source: Source) -> tuple[list[Samples], int]:
    """Return every channel of a clip that has a file, float32 `[samples]` each, and their rate in Hz.

    Raises:
        AudioError: The file is missing, unreadable, cut short, longer than an hour, or outside the limits of rates and
            channels; its span starts or ends after it; or the clip lies in memory, where only the mean of its channels
            is left.
    """
    import soundfile as sf

    if source.decoded is not None:
        raise AudioError("lies in memory, where only the mean of its channels is left")
    check_regular(source.path)
    opened = opened_audio(source.path, source.span, source.packed)
    truncated = truncation(source.path, opened)
    # here and below before any other reason: to decoders a failure is the end of the file
    check_streamed(opened)
    if truncated and not source.allow_truncated:
        raise AudioError(truncated)
    try:
        with silenced(), sf.SoundFile(os.fsencode(source.path) if opened is None else opened) as file:
            check_streamed(opened)
            rate_hz = int(file.samplerate)
            if not 1 <= file.channels <= MAX_CHANNELS or not RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
                raise AudioError(f"{file.channels} channels at {rate_hz} Hz, which is outside what is read")
            wanted = seek_span(file, source.span) if source.span else None
            most = int(MAX_SECONDS * rate_hz)
            # one sample more than is allowed, so that a header that claims too little is seen
            samples = file.read(most + 1 if wanted is None else min(wanted, most + 1), "float32", always_2d=True)
        check_streamed(opened)
    except (sf.LibsndfileError, OSError, RuntimeError, ValueError, TypeError) as error:
        check_streamed(opened)
        raise AudioError(f"not readable as audio: {type(error).__name__}") from error
    if len(samples) > most:
        raise AudioError(f"longer than {MAX_SECONDS:g} s, the longest clip that is read")
    if source.span and wanted and not truncated:
        check_span_end(source.span, wanted, len(samples), rate_hz)
    return [np.ascontiguousarray(channel) for channel in samples.T], rate_hz
