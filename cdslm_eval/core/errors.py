"""Errors for users: one exception family, each member with the exit code it ends a command with."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable

__all__ = [
    "DEBUG",
    "AudioError",
    "EvalError",
    "PluginError",
    "StoreError",
    "UnknownNameError",
    "UsageError",
    "debugging",
    "did_you_mean",
]

DEBUG = "CDSLM_EVAL_DEBUG"
"""Environment variable that `--debug` sets: worker processes inherit it."""


def debugging() -> bool:
    """Return whether tracebacks are to be shown."""
    return os.environ.get(DEBUG, "") not in ("", "0")


class EvalError(Exception):
    """An error that is reported in one sentence, without a traceback.

    Plugins raise it (or a subclass) to address the user; the command line prints the message and exits with
    `exit_code`.

    Args:
        message: One sentence that names the file or field and what to do about it.
    """

    exit_code = 3


class UsageError(EvalError):
    """The request cannot be carried out as written: a wrong path, option, name or combination."""

    exit_code = 2


class AudioError(EvalError):
    """A file holds no audio that may be read; the message has the reason."""


class StoreError(EvalError):
    """The store cannot be opened, read or written."""


class PluginError(EvalError):
    """A plugin broke its side of the contract; the message names the plugin and the rule."""


class UnknownNameError(UsageError):
    """A name that nothing provides, with the closest one that exists.

    Args:
        kind: The kind of thing, in the singular: "metric", "recognizer".
        name: The name as the user wrote it.
        known: The names that exist.
        reason: Why the name is missing, in sentences, where that is known; it replaces the list of names.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], reason: str = "") -> None:
        known = sorted(known)
        hint = did_you_mean(name, known)
        if not hint and not reason:
            hint = f" Known: {', '.join(known) or 'none'}."
        super().__init__(f"There is no {kind} {name!r}.{hint}" + (f" {reason}" if reason else ""))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the closest known name, or "" when nothing is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""
