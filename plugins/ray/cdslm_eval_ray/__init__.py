"""Executor `ray`: measures clips on the nodes of a Ray cluster, as a plugin of cdslm-eval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdslm_eval.plugin.hookspecs import hookimpl

if TYPE_CHECKING:
    from cdslm_eval.plugin.execution import Executor

__all__ = ["cdslm_executors"]


@hookimpl
def cdslm_executors() -> list[type[Executor]]:
    """Return the executor of this plugin."""
    from cdslm_eval_ray.executor import RayExecutor

    return [RayExecutor]
