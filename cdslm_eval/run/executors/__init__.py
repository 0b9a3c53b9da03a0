"""The executors that come with the host."""

from __future__ import annotations

from cdslm_eval.plugin.execution import Executor
from cdslm_eval.plugin.hookspecs import hookimpl
from cdslm_eval.run.executors.local import LocalExecutor

__all__ = ["LocalExecutor", "cdslm_executors"]


@hookimpl
def cdslm_executors() -> list[type[Executor]]:
    """Return the built-in executors."""
    return [LocalExecutor]
