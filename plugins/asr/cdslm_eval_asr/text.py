"""Text normalisation, so that spelling, case and punctuation are not counted as what was said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from typing import Any, Literal

from cdslm_eval.plugin.contract import Options

__all__ = ["NormalizerOptions", "facts", "normalizer"]

Name = Literal["english", "basic", "none"]


class NormalizerOptions(Options):
    """Options of metrics that read words.

    Attributes:
        normalizer: "english": Whisper's English normaliser (case, punctuation, contractions, numbers, fillers), with no
            table of British spellings; "basic": Whisper's for any language (case, punctuation, symbols); "none".
    """

    normalizer: Name = "english"


def facts(options: NormalizerOptions) -> Mapping[str, str]:
    """Return what of the normalisation can move a number beside its name."""
    return {} if options.normalizer == "none" else {"transformers": version("transformers")}


@cache
def normalizer(name: Name) -> Callable[[str], str]:
    """Return the function that normalises a text.

    Source: Radford et al. (2023), "Robust Speech Recognition via Large-Scale Weak Supervision", appendix C.
    """
    if name == "none":
        return lambda text: " ".join(text.split())
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

    made: Any = EnglishTextNormalizer if name == "english" else BasicTextNormalizer  # they carry no types
    clean = made({}) if name == "english" else made()
    return lambda text: " ".join(clean(text).split())
