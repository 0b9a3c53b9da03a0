"""Lengths of context and continuation of each training step, drawn from a few buckets."""

from __future__ import annotations

import itertools

from cdslm_model.seeding import random_source
from cdslm_model.train.settings import Settings

__all__ = ["length_pairs", "step_lengths"]


def length_pairs(settings: Settings) -> list[tuple[int, int]]:
    """Return all pairs of context and continuation frames that steps of a run have."""
    config = settings.config
    contexts = settings.context_buckets or (config.context_frames,)
    continuations = settings.continuation_buckets or (config.continuation_frames,)
    return list(itertools.product(contexts, continuations))


def step_lengths(settings: Settings, step: int) -> tuple[int, int]:
    """Return the frames of context and continuation of one step; all its windows have the same.

    Each cycle of as many steps as there are pairs has every pair once, in random order: the cost of a run is then that
    of the mean pair, to less than a cycle.
    """
    pairs = length_pairs(settings)
    cycle, place = divmod(step, len(pairs))
    order = random_source(settings.seed, "lengths", cycle).permutation(len(pairs))
    return pairs[int(order[place])]
