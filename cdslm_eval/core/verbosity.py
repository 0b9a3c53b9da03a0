"""How much a command prints on stderr: `--quiet`, `--verbose`, `--debug`, and what worker processes inherit of it."""

from __future__ import annotations

import logging
import os
import sys

__all__ = ["VERBOSITY", "is_quiet", "set_up_logging"]

VERBOSITY = "CDSLM_EVAL_VERBOSITY"
"""Environment variable that the options set: "quiet", "verbose" or nothing."""


def is_quiet() -> bool:
    """Return whether progress and notes are left out."""
    return os.environ.get(VERBOSITY, "") == "quiet"


def set_up_logging() -> None:
    """Print the log of this package on stderr where `--verbose` asks for it."""
    logger = logging.getLogger("cdslm_eval")
    if os.environ.get(VERBOSITY, "") != "verbose" or logger.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(relativeCreated)8.0f ms  %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
