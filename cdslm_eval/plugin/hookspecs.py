"""The hooks: one per kind of component, each returning the classes that a plugin provides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cdslm_eval.plugin.contract import Generator, Metric, Recognizer, Transcriber
    from cdslm_eval.plugin.execution import Executor
    from cdslm_eval.plugin.law import LawForm

__all__ = ["PROJECT", "hookimpl", "hookspec"]

PROJECT = "cdslm_eval"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def cdslm_metrics() -> Iterable[type[Metric]]:  # type: ignore[empty-body]
    """Return the metric classes of the plugin; must not import a model library."""


@hookspec
def cdslm_recognizers() -> Iterable[type[Recognizer]]:  # type: ignore[empty-body]
    """Return the recognizer classes of the plugin."""


@hookspec
def cdslm_transcribers() -> Iterable[type[Transcriber]]:  # type: ignore[empty-body]
    """Return the transcriber classes of the plugin; must not import a model library."""


@hookspec
def cdslm_generators() -> Iterable[type[Generator]]:  # type: ignore[empty-body]
    """Return the generator classes of the plugin."""


@hookspec
def cdslm_executors() -> Iterable[type[Executor]]:  # type: ignore[empty-body]
    """Return the executor classes of the plugin."""


@hookspec
def cdslm_laws() -> Iterable[type[LawForm]]:  # type: ignore[empty-body]
    """Return the scaling-law classes of the plugin."""
