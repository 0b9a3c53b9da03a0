"""Memory of training by shape: state of the weights, kept activations, and how many blocks must be recomputed."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cdslm_model.errors import ModelError
from cdslm_model.net.config import Config

__all__ = ["Demand", "activation_bytes", "demand", "recomputed_blocks", "state_bytes"]

_STATE_BYTES = 4 + 4 + 8 + 4
"""Of a parameter in float32: weight, average, two moments, gradient."""
_KEPT_BYTES = {torch.float32: 96, torch.bfloat16: 80}
"""Kept for the backward pass by a block that is not compiled, by precision, for each token and unit of width.

Measured as the storages that autograd saves; a compiled block keeps less, as it computes norms and GELU again.
"""
_USABLE = 0.9
"""Share of the free memory that is planned with: the rest is for workspaces and fragmentation."""


def state_bytes(config: Config, dtype: torch.dtype, shards: int = 1) -> int:
    """Return the bytes of weights, averages, moments and gradients in one of `shards` processes.

    Args:
        config: The network.
        dtype: Of matrix products; the copy of the weights in it counts too.
        shards: Processes that share one copy.
    """
    copy = 0 if dtype == torch.float32 else dtype.itemsize
    return config.parameters() * (_STATE_BYTES + copy) // shards


def activation_bytes(config: Config, windows: int, dtype: torch.dtype, recomputed: int = 0) -> int:
    """Return the bytes that the blocks keep for the backward pass.

    Args:
        config: The network and the lengths of its window.
        windows: In one pass.
        dtype: Of matrix products.
        recomputed: Blocks that keep their inputs only; one of them is recomputed at a time.
    """
    tokens = config.tokens(config.context_frames) + config.tokens(config.continuation_frames)
    values = windows * tokens * config.width
    kept = config.depth - recomputed + min(1, recomputed)
    return values * (kept * _KEPT_BYTES[dtype] + recomputed * dtype.itemsize)


def recomputed_blocks(config: Config, windows: int, dtype: torch.dtype, free_bytes: float, shards: int = 1) -> int:
    """Return the least number of blocks to recompute so that a training step fits into memory.

    Args:
        config: The network and the lengths of its window.
        windows: In one pass.
        dtype: Of matrix products.
        free_bytes: Of the device, before the network is made.
        shards: Processes that share one copy of the weights.

    Raises:
        ModelError: It does not fit even if all are.
    """
    for count in range(config.depth + 1):
        needed = state_bytes(config, dtype, shards) + activation_bytes(config, windows, dtype, count)
        if needed <= _USABLE * free_bytes:
            return count
    raise ModelError(
        f"a step needs about {needed / 2**30:.0f} GiB with all activations recomputed, and "
        f"{free_bytes / 2**30:.0f} GiB are free; a smaller --batch-size or --depth, more --accumulate or --patch, or "
        f"more GPUs need less; --recompute {config.depth} tries it all the same"
    )


@dataclass(frozen=True, slots=True)
class Demand:
    """What training one shape takes of a GPU.

    Attributes:
        tokens: Of one window, context and continuation.
        state_bytes: Weights, averages, moments and gradients, or this process's share of them.
        activation_bytes: Kept for the backward pass of one window, with nothing recomputed.
        recomputed: Blocks to recompute so that one window fits; None where it does not even with all of them.
        windows: Most windows of one pass with all blocks recomputed.
    """

    tokens: int
    state_bytes: int
    activation_bytes: int
    recomputed: int | None
    windows: int


def demand(config: Config, dtype: torch.dtype, free_bytes: float, shards: int = 1) -> Demand:
    """Return what training a shape takes of the memory of a GPU; for the arguments see `recomputed_blocks`."""
    state, least = state_bytes(config, dtype, shards), activation_bytes(config, 1, dtype, config.depth)
    windows = max(0, int((_USABLE * free_bytes - state) // least))
    return Demand(
        tokens=config.tokens(config.context_frames) + config.tokens(config.continuation_frames),
        state_bytes=state,
        activation_bytes=activation_bytes(config, 1, dtype),
        recomputed=recomputed_blocks(config, 1, dtype, free_bytes, shards) if windows else None,
        windows=windows,
    )
