"""Reads untrusted audio, resamples it, and carries it as a `Clip`."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.completeness import truncation
from cdslm_eval.core.descriptors import silenced
from cdslm_eval.core.errors import AudioError
from cdslm_eval.core.opened import check_streamed, opened_audio
from cdslm_eval.core.packed import Packed
from cdslm_eval.core.spans import Span, check_span_end

__all__ = [
    "AUDIO_SUFFIXES",
    "MAX_CHANNELS",
    "MAX_SECONDS",
    "Clip",
    "Decoded",
    "Samples",
    "as_samples",
    "checked_rate",
    "content_digest",
    "content_hash",
    "flac_bytes",
    "read_audio",
    "read_blocks",
    "resample",
    "resample_blocks",
    "seek_span",
    "write_flac",
]

Samples = npt.NDArray[np.float32]

MAX_SECONDS = 3600.0
"""Longest clip that is decoded; a longer one is refused, whatever its header claims."""
MAX_CHANNELS = 64
LOUDEST = 16.0
"""Largest sample that is taken for sound, 24 dB over full scale: integers in floats are not."""
RATES_HZ = (1_000, 768_000)

_READABLE = (
    "aif aifc aiff au avr caf flac gsm htk iff ircam m1a mat mp1 mp2 mp3 mpc nist oga ogg opus paf pvf "
    "rf64 sd2 sds sf snd sph svx voc w64 wav wave wavex wve xi"
)
# Audio that libsndfile cannot read is listed too: such a clip must be counted as failed, not vanish from the set.
_NAMED_ONLY = "aac ac3 amr m4a mka mp4 opus3 ra spx webm wma wv"
AUDIO_SUFFIXES = frozenset(f".{suffix}" for suffix in f"{_READABLE} {_NAMED_ONLY}".split())

_BLOCK_FRAMES = 1 << 16
_OPUS_AHEAD_S = 1.0
"""What is decoded ahead of a span of Opus, whose decoder predicts from what it decoded before.

RFC 7845 requires .08 s. After any time it may differ from a decoder that started at the beginning, by some -45 dB on
speech; the same span is always the same samples.
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clip:
    """One utterance, decoded.

    Attributes:
        key: Name of the clip within its set, unique there.
        samples: float32 `[samples]`, mono, nominally in [-1, 1].
        rate_hz: Sampling rate of `samples`.
        digest: SHA-256 of the decoded content at its original rate (64 hex digits).
        text: The spoken words, where they are known.
        speaker: The speaker, where known.
        language: Language of the speech, as an ISO 639 code such as "en" or "pt-BR", where known.
        phones: Phone symbols in order, from a recognizer or a sidecar.
        transcript: Output of a transcriber; "" where there is no speech.
        reference: The real clip that this one is paired with, where there is one.
        prompt_seconds: Length of the prompt at its beginning, where it holds one and its continuation.
    """

    key: str
    samples: Samples
    rate_hz: int
    digest: str = ""
    text: str | None = None
    speaker: str | None = None
    language: str | None = None
    phones: tuple[str, ...] | None = None
    transcript: str | None = None
    reference: Clip | None = None
    prompt_seconds: float | None = None

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / self.rate_hz

    def at_rate(self, rate_hz: int | None) -> Clip:
        """Return the clip resampled to `rate_hz` (None keeps the rate), its paired reference too."""
        if rate_hz is None:
            return self
        reference = self.reference.at_rate(rate_hz) if self.reference else None
        if rate_hz == self.rate_hz and reference is self.reference:
            return self
        samples = resample(self.samples, self.rate_hz, rate_hz)
        return dataclasses.replace(self, samples=samples, rate_hz=rate_hz, reference=reference)


@dataclass(frozen=True, slots=True)
class Decoded:
    """What `read_audio` returns.

    Attributes:
        samples: float32 `[samples]`, mono.
        rate_hz: Rate in the file.
        channels: Channels in the file.
        encoding: Container and sample format, such as "WAV PCM_16".
        mixdown: How channels became one: "none", or "mean of N channels".
        channel_energy: Sum of squares of all channels, divided by their number; None for one channel.
        truncated: How the file ends before its header says, or "".
    """

    samples: Samples
    rate_hz: int
    channels: int
    encoding: str
    mixdown: str
    channel_energy: float | None = None
    truncated: str = ""


def read_audio(
    path: Path | str,
    max_seconds: float = MAX_SECONDS,
    *,
    allow_truncated: bool = False,
    span: Span | None = None,
    packed: Packed | None = None,
    content: bytes | None = None,
) -> Decoded:
    """Decode a file to mono float32, whatever libsndfile can read.

    Args:
        path: The file.
        max_seconds: Longest audio that is accepted, in seconds.
        allow_truncated: Whether a file that ends before its header says is read as far as it goes.
        span: The part of it that is read; None for all of it.
        packed: Where in it the audio file lies, where it is an archive or a table.
        content: The bytes of the audio file, where they were read already.

    Returns:
        The samples (channels averaged) and what the file was.

    Raises:
        AudioError: The file is missing, unreadable, cut short, longer than `max_seconds`, or outside the channel or
            rate limits; or the span ends after it.
    """
    blocks = list(
        read_blocks(path, max_seconds, allow_truncated=allow_truncated, span=span, packed=packed, content=content)
    )
    return dataclasses.replace(
        blocks[0],
        samples=np.concatenate([block.samples for block in blocks]),
        channel_energy=None
        if blocks[0].channel_energy is None
        else sum(block.channel_energy or 0.0 for block in blocks),
    )


def read_blocks(
    path: Path | str,
    max_seconds: float = MAX_SECONDS,
    *,
    allow_truncated: bool = False,
    span: Span | None = None,
    packed: Packed | None = None,
    content: bytes | None = None,
) -> Iterator[Decoded]:
    """Yield what `read_audio` returns in pieces of 65536 samples; a file without samples is one empty piece.

    Pieces are read until the file ends, so a header that claims gigabytes costs none. A span is sought: what lies
    before and after it is not decoded, but in the few formats that cannot seek.

    Raises:
        AudioError: As `read_audio` does; of a file that ends in the midst of nonsense, after its good pieces.
    """
    import soundfile as sf

    opened = opened_audio(str(path), span, packed) if content is None else io.BytesIO(content)
    truncated = truncation(path, opened)
    # here and below before any other reason: to decoders a failure is the end of the file
    check_streamed(opened)
    if truncated and not allow_truncated:
        raise AudioError(truncated)
    frames = 0
    try:
        # As bytes: a name need not be UTF-8
        with silenced():
            file = sf.SoundFile(os.fsencode(path) if opened is None else opened)
        with file:
            check_streamed(opened)
            if not 1 <= file.channels <= MAX_CHANNELS:
                raise AudioError(f"{file.channels} channels; 1 to {MAX_CHANNELS} are read")
            if not RATES_HZ[0] <= file.samplerate <= RATES_HZ[1]:
                raise AudioError(f"a rate of {file.samplerate} Hz; {RATES_HZ[0]} to {RATES_HZ[1]} are read")
            mixdown = "none" if file.channels == 1 else f"mean of {file.channels} channels"
            about = int(file.samplerate), int(file.channels), f"{file.format} {file.subtype}", mixdown
            wanted = seek_span(file, span) if span else None
            while len(block := _read(file, wanted and wanted - frames)) or not frames:
                check_streamed(opened)
                frames += len(block)
                if frames > int(max_seconds * file.samplerate):
                    raise AudioError(f"longer than {max_seconds:g} s, the longest clip that is read")
                energy = float(np.square(block, dtype=np.float64).mean(axis=1).sum()) if file.channels > 1 else None
                if span and not len(block):
                    raise AudioError(f"starts at {span.start_s:g} s, where its recording has ended")
                yield Decoded(_mono(block), *about, energy, truncated)
                if not len(block) or frames == wanted:
                    break
            # an empty block may be a failure at the border of two
            check_streamed(opened)
            if span and wanted and not truncated:
                check_span_end(span, wanted, frames, file.samplerate)
    except (sf.LibsndfileError, OSError, RuntimeError, ValueError, TypeError) as error:
        check_streamed(opened)
        raise AudioError(f"not readable as audio: {_brief(error, path)}") from error


def _read(file: Any, most: int | None = None) -> npt.NDArray[np.float32]:
    """Return the next `[samples, channels]` of an open file, `most` at most."""
    count = _BLOCK_FRAMES if most is None else min(most, _BLOCK_FRAMES)
    with silenced():
        block: npt.NDArray[np.float32] = file.read(count, dtype="float32", always_2d=True)
    return block


def seek_span(file: Any, span: Span) -> int | None:
    """Go to the start of a span in an open `SoundFile`; return how many samples it has, None for all that follow.

    Raises:
        AudioError: The file ends before it starts.
    """
    start, stop = span.frames(file.samplerate)
    if file.seekable():
        if start >= file.frames:
            end_s = file.frames / file.samplerate
            raise AudioError(f"starts at {span.start_s:g} s, but its recording ends at {end_s:.2f} s")
        ahead = min(start, round(_OPUS_AHEAD_S * file.samplerate)) if file.subtype == "OPUS" else 0
        with silenced():
            file.seek(start - ahead)
    else:
        ahead = start
    while ahead and (count := len(_read(file, ahead))):
        ahead -= count
    return None if stop is None else max(1, stop - start)


def _mono(block: npt.NDArray[np.float32]) -> Samples:
    """Return the mean of channels `[samples, channels]`."""
    # float64 mean: summing two full-scale float32 channels must not lose their last bits
    mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float64)
    return np.ascontiguousarray(mono, dtype=np.float32)


def _brief(error: Exception, path: Path | str) -> str:
    """Return the cause without the path, which the caller names already."""
    text = str(getattr(error, "error_string", "") or error).strip().rstrip(".")
    return text.replace(f"Error opening {str(path)!r}: ", "") or type(error).__name__


def as_samples(array: object) -> Samples:
    """Return an array that lies in memory as mono float32 `[samples]`.

    Args:
        array: Floats in [-1, 1] or 16-bit integers, numpy or whatever numpy can read (a tensor on another device is
            fetched); axes of length 1 are dropped.

    Raises:
        AudioError: It holds something else, more than one channel, or samples far outside full scale.
    """
    if hasattr(array, "detach"):  # torch refuses numpy a tensor that needs a gradient or lies on a GPU
        array = array.detach().cpu()
    values = np.asarray(array)
    values = values.squeeze() if values.size != 1 else values.reshape(1)
    if values.ndim != 1:
        raise AudioError(f"an array of shape {np.asarray(array).shape}; give one channel, [samples]")
    if values.dtype == np.int16:
        return (values / np.float32(32768)).astype(np.float32)
    if values.dtype.kind != "f":
        raise AudioError(f"samples of type {values.dtype}; give floats in -1..1, or 16-bit integers")
    peak = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
    if peak > LOUDEST:
        raise AudioError(f"samples of up to {peak:.6g}, where full scale is 1; bring them into -1..1")
    return np.ascontiguousarray(values, dtype=np.float32)


def checked_rate(rate_hz: object) -> int:
    """Return a sampling rate in Hz as a whole number.

    Raises:
        AudioError: It is none, or lies outside what is read from files.
    """
    low, high = RATES_HZ
    try:
        rate: int = int(rate_hz)  # type: ignore[call-overload]  # whatever int takes; numpy's whole numbers too
    except (TypeError, ValueError):
        raise AudioError(f"a rate of {rate_hz!r}; give Hz, such as 16000") from None
    if rate != rate_hz or not low <= rate <= high:
        raise AudioError(f"a rate of {rate_hz!r} Hz; rates are whole numbers in {low}..{high}")
    return rate


def content_digest(samples: Samples, rate_hz: int) -> str:
    """Return the SHA-256 (hex) of decoded content: equal for a WAV and a FLAC of the same samples.

    Args:
        samples: float32 `[samples]`.
        rate_hz: Their rate.
    """
    digest = content_hash(len(samples), rate_hz)
    digest.update(np.ascontiguousarray(samples, dtype="<f4").data)
    return digest.hexdigest()


def content_hash(count: int, rate_hz: int) -> hashlib._Hash:
    """Return the hash whose digest is `content_digest`, to be updated with `count` float32 samples in pieces."""
    return hashlib.sha256(f"mono f32le {rate_hz} {count}\n".encode())


def resample(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """Return `samples` at another rate through soxr's high-quality setting, float32 `[samples * to_hz / from_hz]`."""
    if from_hz == to_hz or len(samples) == 0:
        return samples
    import soxr

    return cast("Samples", soxr.resample(samples, from_hz, to_hz, quality="HQ"))


def resample_blocks(blocks: Iterable[Samples], from_hz: int, to_hz: int) -> Iterator[Samples]:
    """Yield what `resample` makes of a clip that comes in pieces, sample for sample."""
    if from_hz == to_hz:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def flac_bytes(samples: Samples, rate_hz: int) -> bytes:
    """Return mono 16-bit FLAC; samples outside [-1, 1] are clipped to it.

    Raises:
        AudioError: The samples are not finite or cannot be encoded.
    """
    import soundfile as sf

    if not np.isfinite(samples).all():
        raise AudioError("samples that are not finite cannot be written")
    file = io.BytesIO()
    try:
        sf.write(file, np.clip(samples, -1.0, 1.0), rate_hz, subtype="PCM_16", format="FLAC")
    except (sf.LibsndfileError, RuntimeError) as error:
        raise AudioError(f"cannot be encoded as FLAC: {error}") from error
    return file.getvalue()


def write_flac(path: Path, samples: Samples, rate_hz: int) -> None:
    """Write what `flac_bytes` returns; AudioError where it does not, or the file cannot be written."""
    try:
        path.write_bytes(flac_bytes(samples, rate_hz))
    except AudioError as error:
        raise AudioError(f"{path}: {error}") from error
    except OSError as error:
        raise AudioError(f"{path}: cannot be written: {error.strerror}") from error
