"""The built-in generators: sets on disk, controls, and babble and speech of the bundled espeak-ng."""

from __future__ import annotations

from cdslm_eval.builtin.generators.babble import BabbleGenerator
from cdslm_eval.builtin.generators.controls import (
    NoiseGenerator,
    ResampleGenerator,
    ReversedGenerator,
    ShuffledGenerator,
    SilenceGenerator,
)
from cdslm_eval.builtin.generators.grammar import GrammarGenerator
from cdslm_eval.builtin.generators.samples import SamplesGenerator
from cdslm_eval.builtin.generators.speak import SpeakGenerator
from cdslm_eval.builtin.generators.stationary import StationaryGenerator
from cdslm_eval.plugin.contract import Generator
from cdslm_eval.plugin.hookspecs import hookimpl

__all__ = ["cdslm_generators"]


@hookimpl
def cdslm_generators() -> list[type[Generator]]:
    """Return the built-in generators."""
    return [
        BabbleGenerator,
        GrammarGenerator,
        NoiseGenerator,
        ResampleGenerator,
        ReversedGenerator,
        SamplesGenerator,
        ShuffledGenerator,
        SilenceGenerator,
        SpeakGenerator,
        StationaryGenerator,
    ]
