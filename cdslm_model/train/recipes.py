"""Named training recipes: the paper's, and ours, which begins a continuation with a linear guess of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cdslm_model.errors import ModelError

__all__ = ["DEFAULT_RECIPE", "RECIPES", "Recipe", "find_recipe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Values of the options that decide how well a model continues its context.

    Attributes:
        weight_floor: Least loss weight where the SNR is under 1.
        end_share: Share of the training times at pure noise, where sampling starts.
        onset_weight: Additional loss weight of the first frame of a continuation; it falls by e over 8 frames.
        attention_bias: Initial value of the biases of queries and keys. Above 0, attention starts out preferring
            tokens that are near in time.
        guess_frames: First frames of a continuation that a linear regression from the last frames of its context,
            fitted before the first step, guesses for the network to correct; 0 is no guess.
        rotary_base: Base of the rotary embedding, in frames.
    """

    weight_floor: float
    end_share: float
    onset_weight: float
    attention_bias: float
    guess_frames: int
    rotary_base: float


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "continue": Recipe(
            weight_floor=0.05,
            end_share=0.1,
            onset_weight=0.0,
            attention_bias=1.0,
            guess_frames=24,
            rotary_base=10_000.0,
        ),
        "paper": Recipe(
            weight_floor=0.05,
            end_share=0.0,
            onset_weight=0.0,
            attention_bias=0.0,
            guess_frames=0,
            rotary_base=10_000.0,
        ),
    }
)
DEFAULT_RECIPE = "continue"


def find_recipe(name: str) -> Recipe:
    """Return a recipe by name.

    Raises:
        ModelError: There is none of that name.
    """
    if name not in RECIPES:
        raise ModelError(f"There is no recipe {name!r}; use --recipe {' or '.join(RECIPES)}")
    return RECIPES[name]
