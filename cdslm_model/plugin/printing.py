"""Text of untrusted origin on a terminal, as the evaluation package prints it."""

from __future__ import annotations

from cdslm_eval.core.printable import printable, printable_lines

__all__ = ["printable", "printable_lines"]
