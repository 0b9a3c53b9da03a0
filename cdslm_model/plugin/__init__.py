"""The door between the model and the evaluation package: nothing else here knows `cdslm_eval`.

Like a stranger's plugin, it imports the contract, clips, audio, errors and hook markers of `cdslm_eval`, and no more.
"""

from __future__ import annotations

from cdslm_eval.plugin.contract import Generator
from cdslm_eval.plugin.hookspecs import hookimpl
from cdslm_model.plugin.generator import CdslmGenerator, CdslmOptions

__all__ = ["CdslmGenerator", "CdslmOptions", "cdslm_generators"]


@hookimpl
def cdslm_generators() -> list[type[Generator]]:
    """Return the generator."""
    return [CdslmGenerator]
