"""Source: one clip that is not decoded yet, and its decoding."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cdslm_eval.core.audio import Clip, content_digest, read_audio
from cdslm_eval.core.derivation import Derivation
from cdslm_eval.core.packed import Packed
from cdslm_eval.core.remote.addresses import is_remote
from cdslm_eval.core.spans import Address, Span

__all__ = ["Source", "decode"]

_BYTES_A_SECOND = 192_000
"""Of 16-bit stereo at 48 kHz: what a part of a long recording weighs, whose format is not known yet."""


class Source(NamedTuple):
    """One clip that is not decoded yet; a named tuple, because manifests name a million of them.

    Attributes:
        key: Name of the clip within its set.
        path: Audio file.
        span: The part of it that is the clip; None for all of it.
        text: The spoken words, from a manifest or a `.txt` sidecar.
        speaker: The speaker; clips of one speaker are resampled together.
        language: Language of the speech, as an ISO 639 code such as "en" or "pt-BR".
        phones: Phones from a manifest or a `.phones` sidecar (white space between them).
        reference: Audio file of the paired real clip.
        reference_text: The words of the paired real clip.
        decoded: The clip itself, where it lies in memory; `path` is then a label that no file has.
        allow_truncated: Whether a file that ends before its header says is read as far as it goes.
        prompt_seconds: Length of the prompt at the beginning of the clip, where it holds both; the rest continues it.
        derivation: What is done to the audio after decoding; None for the clip as it is.
        packed: Where in `path` its audio file lies, where that is an archive or a table; None for a file of its own.
    """

    key: str
    path: str
    span: Span | None = None
    text: str | None = None
    speaker: str | None = None
    language: str | None = None
    phones: tuple[str, ...] | None = None
    reference: str | None = None
    reference_text: str | None = None
    decoded: Clip | None = None
    allow_truncated: bool = False
    prompt_seconds: float | None = None
    derivation: Derivation | None = None
    packed: Packed | None = None

    @property
    def address(self) -> Address:
        """Where its audio lies."""
        return Address(self.path, f"{self.packed or ''}{self.span or ''}")

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where its audio and its reference's lie."""
        return (self.address,) if self.reference is None else (self.address, Address(self.reference))

    @property
    def bytes(self) -> int | None:
        """Size of the clip where it lies, for a part of a recording at most; None where it is not known."""
        if self.decoded is not None:
            return self.decoded.samples.nbytes
        try:
            if self.packed is not None:
                size = self.packed.length
            else:
                # the size of an object is a request, which for a million of them takes an hour
                size = None if is_remote(self.path) else Path(self.path).stat().st_size
        except (OSError, ValueError):  # ValueError: a name that no file can have
            return None
        if self.span is None or self.span.end_s is None:
            return size
        most = int((self.span.end_s - self.span.start_s) * _BYTES_A_SECOND)
        return most if size is None else min(size, most)

    def digest_of(self, digest: str) -> str:
        """Return the digest of the clip, from that of its decoded file."""
        return self.derivation.digest(digest) if self.derivation else digest

    def derived(self, clip: Clip) -> Clip:
        """Return the clip, from what was decoded."""
        return self.derivation.apply(clip) if self.derivation else clip

    def offers(self) -> frozenset[str]:
        """Return what the clip can give to a metric ("phones" means a sidecar, not a recognizer)."""
        features = {
            "text": self.text,
            "speaker": self.speaker,
            "language": self.language,
            "phones": self.phones,
            "reference_audio": self.reference,
            "reference_text": self.reference_text,
            "prompt_seconds": self.prompt_seconds,
        }
        return frozenset({"audio"} | {name for name, value in features.items() if value is not None})


def decode(source: Source, *, with_reference: bool = False) -> Clip:
    """Decode one source, and its paired reference where it has one and that is requested.

    Raises:
        AudioError: Its file, or its reference's, cannot be read.
    """
    if source.decoded is not None:
        return source.derived(source.decoded)
    audio = read_audio(source.path, allow_truncated=source.allow_truncated, span=source.span, packed=source.packed)
    reference = None
    if with_reference and source.reference is not None:
        reference = decode(
            Source(
                key=source.key,
                path=source.reference,
                text=source.reference_text,
                allow_truncated=source.allow_truncated,
            )
        )
    return source.derived(
        Clip(
            key=source.key,
            samples=audio.samples,
            rate_hz=audio.rate_hz,
            digest=content_digest(audio.samples, audio.rate_hz),
            text=source.text,
            speaker=source.speaker,
            language=source.language,
            phones=source.phones,
            reference=reference,
            prompt_seconds=source.prompt_seconds,
        )
    )
