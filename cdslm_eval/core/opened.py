"""Opens audio that is no file of its own: parts of archives and tables, and objects, whole or streamed."""

from __future__ import annotations

import io
from typing import BinaryIO

from cdslm_eval.core.errors import AudioError
from cdslm_eval.core.packed import Packed
from cdslm_eval.core.spans import Span
from cdslm_eval.core.storage import storage_of

__all__ = ["check_streamed", "opened_audio"]


def opened_audio(path: str, span: Span | None, packed: Packed | None) -> BinaryIO | None:
    """Return an open audio file that is no file of its own; None for one that its decoder opens by its path."""
    if packed is not None:
        return io.BytesIO(packed.read(path))
    storage = storage_of(path)
    try:
        content = storage.content(path) if span is None else None
        return storage.streamed(path) if content is None else io.BytesIO(content)
    except OSError as error:
        raise AudioError(f"cannot be read: {error.strerror}") from error


def check_streamed(file: object) -> None:
    """Return where what a decoder has read of a streamed file is sound.

    Raises:
        AudioError: Reading failed, which decoders take for the end of the file, or the object is another one now.
    """
    raw = getattr(file, "raw", None)
    if problem := getattr(raw, "problem", ""):
        raise AudioError(f"cannot be read: {problem}")
