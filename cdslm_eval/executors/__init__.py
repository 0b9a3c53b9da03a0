"""The executors that come with the host."""

from __future__ import annotations

from cdslm_eval.contract import Executor
from cdslm_eval.executors.local import LocalExecutor
from cdslm_eval.hookspecs import hookimpl

__all__ = ["LocalExecutor", "cdslm_executors"]


@hookimpl
def cdslm_executors() -> list[type[Executor]]:
    """Return the built-in executors."""
    return [LocalExecutor]
