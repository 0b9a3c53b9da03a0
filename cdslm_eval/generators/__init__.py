"""The generators that come with the host."""

from __future__ import annotations

from cdslm_eval.contract import Generator
from cdslm_eval.hookspecs import hookimpl

__all__ = ["cdslm_generators"]


@hookimpl
def cdslm_generators() -> list[type[Generator]]:
    """Return the built-in generators."""
    return []
