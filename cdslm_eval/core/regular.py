"""Refuses to decode what is no regular file: reading a FIFO or a device would wait, or never end."""

from __future__ import annotations

from pathlib import Path
from stat import S_ISREG

from cdslm_eval.core.errors import AudioError
from cdslm_eval.core.remote.addresses import is_remote

__all__ = ["check_regular"]


def check_regular(path: str) -> None:
    """Return where a path is a regular file, or a link to one.

    Raises:
        AudioError: It is something else, is absent, or is a name that no file can have.
    """
    if is_remote(path):
        return  # there are no other objects than regular ones
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a NUL or a lone surrogate
        raise AudioError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not S_ISREG(mode):
        raise AudioError("not a regular file")
