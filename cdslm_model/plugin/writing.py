"""Writes the clips of one of our generators as a set, through the evaluation package's Python API."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cdslm_eval.api import generate
from cdslm_eval.core.clips import MANIFEST, ClipSet
from cdslm_eval.core.errors import EvalError
from cdslm_model.errors import ModelError

__all__ = ["count_clips", "write_clips"]


def write_clips(
    generator: str,
    out: Path,
    options: Mapping[str, Any],
    *,
    prompts: str | None,
    count: int,
    seconds: float,
    seed: int = 0,
    executor: str | None = None,
    jobs: int = 0,
) -> Path:
    """Write clips as FLAC with a manifest; an interrupted call continues where it stopped.

    Args:
        generator: Its name.
        out: Folder of the set.
        options: Its options by name; paths may hold any character.
        prompts: Directory or manifest of the clips to continue.
        count: How many clips.
        seconds: Their length in seconds.
        seed: The same seed gives the same clips.
        executor: Where they are generated, by name with options; None is this process, or "local" with `jobs`.
        jobs: Worker processes; 0 is one per processor where an executor is named.

    Returns:
        The manifest.

    Raises:
        ModelError: The options, the prompts or the folder cannot be used.
    """
    try:
        generate(
            generator,
            out,
            options=options,
            prompts=prompts,
            count=count,
            seconds=seconds,
            seed=seed,
            progress=True,
            executor=executor,
            jobs=jobs,
        )
    except EvalError as error:
        raise _as_model_error(error) from error
    return out / MANIFEST


def count_clips(path: str) -> int:
    """Return how many clips a directory or manifest holds.

    Raises:
        ModelError: It cannot be opened.
    """
    try:
        return len(ClipSet.open(path))
    except EvalError as error:
        raise _as_model_error(error) from error


def _as_model_error(error: EvalError) -> ModelError:
    """Return an error of the evaluation package as one of the model, with the same exit code."""
    raised = ModelError(str(error))
    raised.exit_code = error.exit_code
    return raised
