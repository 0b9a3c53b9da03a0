"""Decodes a file, or a part of it, and describes what was found: content, levels, and the version of the file."""

from __future__ import annotations

import math

from cdslm_eval.core.admission import Levels
from cdslm_eval.core.audio import Decoded, content_digest, read_audio
from cdslm_eval.core.errors import AudioError, UsageError
from cdslm_eval.core.regular import check_regular
from cdslm_eval.core.remote.prefetch import Fetched
from cdslm_eval.core.spans import Address
from cdslm_eval.core.storage import storage_of
from cdslm_eval.core.store import FileFacts

__all__ = ["read_with_facts"]


def read_with_facts(
    address: Address, *, allow_truncated: bool = False, fetched: Fetched | None = None
) -> tuple[Decoded, FileFacts]:
    """Decode a file, or a part of it, and describe its content.

    Args:
        address: The file.
        allow_truncated: As of `read_audio`.
        fetched: What was read of it ahead.

    Raises:
        AudioError: It cannot be read.
    """
    check_regular(address.path)
    try:
        # from before it is read: where it changes meanwhile, its content is read anew next time
        stamp = fetched.stamp if fetched is not None else storage_of(address.path).stamp(address.path)
    except OSError as error:
        raise AudioError(f"cannot be read: {error.strerror}") from error
    except UsageError as error:
        raise AudioError(str(error)) from error
    audio = read_audio(
        address.path,
        allow_truncated=allow_truncated,
        span=address.span,
        packed=address.packed,
        content=None if fetched is None else fetched.content,
    )
    levels = Levels.of(audio.samples, audio.channel_energy)
    finite = math.isfinite(levels.peak)
    facts = FileFacts(
        **stamp._asdict(),
        digest=content_digest(audio.samples, audio.rate_hz),
        seconds=len(audio.samples) / audio.rate_hz,
        rate_hz=audio.rate_hz,
        channels=audio.channels,
        encoding=audio.encoding,
        mixdown=audio.mixdown,
        peak=levels.peak if finite else None,
        dc_offset=levels.dc_offset if finite else None,
        level_dbfs=levels.dbfs if finite else None,
        cancelled=levels.cancelled if finite else None,
        truncated=audio.truncated,
    )
    return audio, facts
