"""The model as a plugin of the evaluation package: no other module here imports `cdslm_eval`.

Like a third-party plugin, it imports the contract, clips, audio, errors and hook markers of `cdslm_eval`;
`writing` also imports its Python API.
"""

from __future__ import annotations

from cdslm_eval.plugin.contract import Generator
from cdslm_eval.plugin.hookspecs import hookimpl
from cdslm_model.plugin.continuing import (
    CheckpointGenerator,
    CheckpointOptions,
    ContinuationOptions,
    ContinuingGenerator,
    generated_clip,
    prompt_key,
    reraised,
    vocoder_weights,
)
from cdslm_model.plugin.generator import CdslmGenerator, CdslmOptions

__all__ = [
    "CdslmGenerator",
    "CdslmOptions",
    "CheckpointGenerator",
    "CheckpointOptions",
    "ContinuationOptions",
    "ContinuingGenerator",
    "cdslm_generators",
    "generated_clip",
    "prompt_key",
    "reraised",
    "vocoder_weights",
]


@hookimpl
def cdslm_generators() -> list[type[Generator]]:
    """Return the generator."""
    return [CdslmGenerator]
