"""How much a command prints on stderr: `--quiet`, `--verbose`, `--debug`, and what worker processes inherit of it."""

from __future__ import annotations

import logging
import os
import sys

from cdslm_eval.core.printable import printable_lines

__all__ = ["VERBOSITY", "is_quiet", "set_up_logging"]

VERBOSITY = "CDSLM_EVAL_VERBOSITY"
"""Environment variable that the options set: "quiet", "verbose" or nothing."""


def is_quiet() -> bool:
    """Return whether progress and notes are left out."""
    return os.environ.get(VERBOSITY, "") == "quiet"


class _Printable(logging.Formatter):
    """Keeps control characters of names from the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as printable lines."""
        return printable_lines(super().format(record))


def set_up_logging(*packages: str) -> None:
    """Print the log of packages on stderr where `--verbose` asks for it.

    Args:
        packages: Whose log; this package's by default.
    """
    if os.environ.get(VERBOSITY, "") != "verbose":
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("%(relativeCreated)8.0f ms  %(message)s"))
    for package in packages or ("cdslm_eval",):
        logger = logging.getLogger(package)
        if not logger.handlers:
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
