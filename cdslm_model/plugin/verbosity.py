"""How much a command prints, as the evaluation package has it: `--quiet`, `--verbose`."""

from __future__ import annotations

from cdslm_eval.core.verbosity import VERBOSITY, is_quiet, set_up_logging

__all__ = ["VERBOSITY", "is_quiet", "set_up_logging"]
