"""Source: one clip that is not decoded yet, and its decoding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cdslm_eval.core.audio import Clip, content_digest, read_audio
from cdslm_eval.core.derivation import Derivation

__all__ = ["Source", "decode"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One clip that is not decoded yet.

    Attributes:
        key: Name of the clip within its set.
        path: Audio file.
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
    """

    key: str
    path: str
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

    @property
    def bytes(self) -> int:
        """Size of the clip where it lies; 0 where it cannot be found out."""
        if self.decoded is not None:
            return self.decoded.samples.nbytes
        try:
            return Path(self.path).stat().st_size
        except (OSError, ValueError):  # ValueError: a name that no file can have
            return 0

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
            "phones": self.phones,
            "reference_audio": self.reference,
            "reference_text": self.reference_text,
        }
        return frozenset({"audio"} | {name for name, value in features.items() if value is not None})


def decode(source: Source, *, with_reference: bool = False) -> Clip:
    """Decode one source, and its paired reference where it has one and that is requested.

    Raises:
        AudioError: Its file, or its reference's, cannot be read.
    """
    if source.decoded is not None:
        return source.derived(source.decoded)
    audio = read_audio(source.path, allow_truncated=source.allow_truncated)
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
            phones=source.phones,
            reference=reference,
        )
    )
