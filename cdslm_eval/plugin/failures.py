"""Turns what a plugin raised into one sentence with its file and line, and into a traceback under --debug."""

from __future__ import annotations

import sys
import traceback
from types import FrameType

from cdslm_eval.core.errors import EvalError, debugging

__all__ = ["describe", "own_package", "plugin_frame", "show_traceback"]

_shown: set[str] = set()


def describe(error: BaseException, module: str = "") -> str:
    """Return an error as a reason: ours as they are, others with their type and the plugin's last line.

    Args:
        error: What was raised.
        module: Name of the module of the component that was called; "" where there is none.
    """
    show_traceback(error)
    if isinstance(error, EvalError):
        return str(error)
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    at = plugin_frame(error, own_package(module)) if module else ""
    return f"{text} ({at})" if at else text


def own_package(module: str) -> str:
    """Return the package whose lines are a component's own: the built-in ones share ours with the host."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "cdslm_eval" else parts[0]


def plugin_frame(error: BaseException, package: str) -> str:
    """Return "package/file.py:line" of the last frame inside a package, or "" where none is.

    The path starts at the package: a reason is kept in stores and shown on pages, which carry no machine's paths.
    """
    location = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = _module(frame)
        if name == package or name.startswith(f"{package}."):
            depth = name.count(".") + (frame.f_code.co_filename.endswith("__init__.py"))
            parts = frame.f_code.co_filename.replace("\\", "/").split("/")
            location = f"{'/'.join(parts[-1 - depth :])}:{line}"
    return location


def show_traceback(error: BaseException) -> None:
    """Write a traceback to standard error under --debug, each different one once per process."""
    if not debugging():
        return
    text = "".join(traceback.format_exception(error))
    if text not in _shown:
        _shown.add(text)
        sys.stderr.write(text)
        sys.stderr.flush()


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))
