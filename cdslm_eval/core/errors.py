"""What is said to the user: one exception family, each member with the exit code it ends a command with."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["AudioError", "EvalError", "PluginError", "StoreError", "UnknownNameError", "UsageError", "did_you_mean"]


class EvalError(Exception):
    """An error that is told in one sentence, without a traceback.

    Plugins raise it (or a subclass) to speak to the user; the command line prints the message and leaves with
    `exit_code`.

    Args:
        message: One sentence that names the file or field and what to do about it.
    """

    exit_code = 3


class UsageError(EvalError):
    """What was asked for cannot be done as asked: a wrong path, option, name or combination."""

    exit_code = 2


class AudioError(EvalError):
    """A file holds no audio that may be read; the message says why."""


class StoreError(EvalError):
    """The store cannot be opened, read or written."""


class PluginError(EvalError):
    """A plugin broke its side of the contract; the message names the plugin and the rule."""


class UnknownNameError(UsageError):
    """A name that nobody provides, with the closest one that somebody does.

    Args:
        kind: What was looked for, in the singular: "metric", "recognizer".
        name: The name as the user wrote it.
        known: The names that exist.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        hint = did_you_mean(name, known) or f" Known: {', '.join(known) or 'none'}."
        super().__init__(f"There is no {kind} {name!r}.{hint}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the closest known name, or "" when nothing is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""
